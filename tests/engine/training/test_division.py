from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.models.registry import build
from engine.training.config import TrainAnnotatorConfig
from engine.training.division import micro_batch, micro_batches, require_divisible
from engine.training.loop import build_network, optimise

Make = Callable[..., TrainAnnotatorConfig]
SOURCE = ({"url": "somewhere"},)


def _config(batch_size: int, halves: int, **fields: object) -> TrainAnnotatorConfig:
    loading = {"mocap": SOURCE, "itw": SOURCE if halves == 2 else (), "batch_size": batch_size}
    return TrainAnnotatorConfig.model_validate({"out": "x", "loading": loading} | fields)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([1, 2]), st.integers(2, 40))
def test_micro_batches_are_equal_keep_to_the_limit_and_hold_both_halves(world_size: int, per_half: int, halves: int, limit: int) -> None:
    share = per_half * halves
    count = micro_batches(_config(share * world_size, halves, micro_batch=limit), world_size)
    assert per_half % count == 0 and share // count <= limit
    half_B = torch.arange(share) // per_half
    parts = [micro_batch({"half": half_B, "who": torch.arange(share)}, i, count) for i in range(count)]
    assert all(torch.bincount(part["half"], minlength=halves).tolist() == [per_half // count] * halves for part in parts)
    assert sorted(who for part in parts for who in part["who"].tolist()) == list(range(share))


def test_without_a_limit_the_share_is_whole() -> None:
    assert micro_batches(_config(192, 2), 2) == 1
    assert micro_batches(_config(192, 2, micro_batch=40), 1) == 6


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (5, r"192 with num_workers 5: expected a multiple of 10, so .* half MoCap and half ITW; numbers that divide it: 1, 2, 3, 4$"),
        ((3, 8), r"num_workers \[3, 8\]: 5, 7 workers could not share it evenly; numbers that divide it: 1, 2, 3, 4, 6, 8$"),
    ],
)
def test_numbers_of_workers_that_do_not_divide_the_batch_are_named(workers: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_divisible(_config(192, 2, num_workers=workers))
    require_divisible(_config(192, 2, num_workers=(1, 4)))


def test_a_batch_of_odd_size_has_no_number_of_workers() -> None:
    with pytest.raises(ConfigError, match="make it a multiple of 2"):
        require_divisible(_config(191, 2))


@pytest.mark.parametrize("network", ["pose2pose", "simple_baselines"])
def test_gradients_of_micro_batches_add_up_to_those_of_the_whole(make_config: Make, network: str) -> None:
    """Batch norm in eval mode, as its statistics are a micro-batch's; the step, and what is told of it, to 1e-5."""
    config = make_config()
    if network == "simple_baselines":
        small = {"name": network, "backbone": "resnet18", "width": 0.125, "input_hw": (64, 64), "deconv_channels": 8}
        config = TrainAnnotatorConfig.model_validate(config.model_dump() | {"model": small})
    start = build_network(config)
    batch = _batch(8, start.config.input_hw)
    outcomes = []
    for parts in (1, 2, 4):
        model = build(config.model, start.body, start.prior).eval()
        model.load_state_dict(start.state_dict())
        sgd = torch.optim.SGD(model.parameters(), lr=0)
        result = optimise(config, model, model, sgd, batch, 1.0, torch.device("cpu"), parts)
        outcomes.append((result, {name: p.grad for name, p in model.named_parameters()}))
    (whole, gradients), *others = outcomes
    scale = max(g.abs().max().item() for g in gradients.values())
    for result, found in others:
        torch.testing.assert_close(result.loss, whole.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(result.grad_norm, whole.grad_norm, rtol=1e-5, atol=0)
        torch.testing.assert_close(result.terms, whole.terms, rtol=1e-5, atol=1e-6)
        assert max((found[k] - g).abs().max().item() for k, g in gradients.items()) < 1e-5 * scale


def _batch(size: int, hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(size, *shape, generator=rng)

    flags = {"is_3d": (), "joint_trunc": (33,), "joint_valid": (33,), "joint_cam_valid": (33,)}
    flags |= {"smpl_joint_trunc": (33,), "smpl_joint_valid": (33,), "smpl_pose_valid": (72,), "smpl_shape_valid": ()}
    values = {"joint_img": (33, 3), "smpl_joint_img": (33, 3), "joint_cam": (33, 3), "smpl_joint_cam": (33, 3)}
    values |= {"smpl_pose": (72,), "smpl_shape": (10,)}
    batch = {name: (rand(*shape) > 0.4).float() for name, shape in flags.items()} | {name: rand(*shape) for name, shape in values.items()}
    return batch | {"image": torch.randint(0, 256, (size, 3, *hw), dtype=torch.uint8, generator=rng)}
