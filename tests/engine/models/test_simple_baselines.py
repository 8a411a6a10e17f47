from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from engine.body.smpl import Body
from engine.models.backbone import ResNet
from engine.models.simple_baselines import SimpleBaselines, SimpleBaselinesConfig
from schemas.skeletons import COCO17, POSE2POSE33

SMALL = {"backbone": "resnet18", "width": 0.125, "output_stride": 16, "input_hw": (128, 96), "deconv_layers": 2, "deconv_channels": 16}
Make = Callable[..., SimpleBaselines]


@pytest.fixture
def make(body: Body) -> Make:
    def network(**fields: object) -> SimpleBaselines:
        torch.manual_seed(0)
        return SimpleBaselines(SimpleBaselinesConfig.model_validate(SMALL | fields), body)

    return network


def _batch(size: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Random pixels; every joint somewhere in the 6x8 grid; every fifth joint hidden."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.arange(size * 33).view(size, 33) % 5 == 0
    return {
        "image": torch.randint(0, 256, (size, 3, 128, 96), generator=g, dtype=torch.uint8),
        "joint_img": torch.rand(size, 33, 3, generator=g) * torch.tensor([6.0, 8.0, 8.0]),
        "joint_trunc": (~hidden).float(),
    }


def test_the_published_network_is_the_default(body: Body) -> None:
    """34.00 M parameters (Simple Baselines, Table 2), and its names."""
    network = SimpleBaselines(SimpleBaselinesConfig(), body)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(34.0e6, rel=1e-3)
    heads = [name for name in network.state_dict() if not name.startswith(("backbone.", "pixel_"))]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = [n for i in (0, 3, 6) for n in (f"deconv_layers.{i}.weight", *(f"deconv_layers.{i + 1}.{part}" for part in norm))]
    assert heads == [*expected, "final_layer.weight", "final_layer.bias"]
    assert network.deconv_layers[0].weight.shape == (2048, 256, 4, 4)
    assert network.deconv_layers[3].weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert network.final_layer.bias.abs().max() == 0


@pytest.mark.parametrize(("kernel", "padding", "output_padding"), [(4, 1, 0), (3, 1, 1), (2, 0, 0)])
def test_heads_are_a_plain_stack_of_layers(make: Make, kernel: int, padding: int, output_padding: int) -> None:
    network = make(deconv_kernel=kernel).eval()
    plain = nn.Sequential(
        nn.ConvTranspose2d(64, 16, kernel, stride=2, padding=padding, output_padding=output_padding, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, kernel, stride=2, padding=padding, output_padding=output_padding, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 17, 1),
    ).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for ours in (*network.deconv_layers.parameters(), *network.final_layer.parameters()):
            ours.copy_(torch.randn(ours.shape, generator=g) * 0.2)
    plain[:6].load_state_dict(network.deconv_layers.state_dict())
    plain[6].load_state_dict(network.final_layer.state_dict())
    batch = _batch(2)
    image = (batch["image"] / 255).to(memory_format=torch.channels_last)
    maps = network(batch)
    assert maps.shape == (2, 17, 32, 24)
    torch.testing.assert_close(maps, plain(network.backbone(image)))


def test_loss_is_the_mean_over_joints_written_out(make: Make) -> None:
    network = make(sigma=1.5)
    batch = _batch(3)
    maps = torch.randn(3, 17, 32, 24, generator=torch.Generator().manual_seed(2))
    columns, rows = np.meshgrid(np.arange(24), np.arange(32))
    total = 0.0
    for b in range(3):
        for j, name in enumerate(COCO17.joints):
            k = POSE2POSE33.index(name)
            if batch["joint_trunc"][b, k] == 0:
                continue
            x, y = batch["joint_img"][b, k, :2].numpy() * 4  # 24 pixels are 6 cells, 32 pixels are 8
            truth = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
            total += 0.5 * ((maps[b, j].numpy() - truth) ** 2).mean()
    terms = network.loss_terms(maps, batch)
    assert terms["heatmap"].item() == pytest.approx(total / (3 * 17), rel=1e-5)
    assert network.total_loss(terms) == terms["heatmap"]
    correct, seen = network.pck(maps, batch)
    assert terms["pck"] == correct.sum() / seen.sum()
    assert make(losses={"heatmap": 10.0}).total_loss(terms).item() == pytest.approx(10 * total / (3 * 17), rel=1e-5)


def test_hidden_joints_teach_nothing(make: Make) -> None:
    network, batch = make(), _batch()
    maps = torch.zeros(4, 17, 32, 24, requires_grad=True)
    network.loss_terms(maps, batch)["heatmap"].backward()
    visible = batch["joint_trunc"][:, [POSE2POSE33.index(name) for name in COCO17.joints]] > 0
    assert torch.equal(maps.grad.abs().amax(dim=(2, 3)) > 0, visible)


def test_all_33_joints_can_have_a_map(make: Make) -> None:
    network, batch = make(joints="pose2pose33"), _batch()
    maps = network(batch)
    assert maps.shape == (4, 33, 32, 24)
    xy, visible = network.targets(batch, (32, 24))
    torch.testing.assert_close(xy, batch["joint_img"][..., :2] * 4)
    assert torch.equal(visible, batch["joint_trunc"])


def test_pck_counts_visible_joints_within_the_threshold(make: Make) -> None:
    network, batch = make(), _batch()
    maps = torch.zeros(4, 17, 32, 24)
    batch["joint_img"][..., :2].clamp_(max=5.0)
    xy, visible = network.targets(batch, (32, 24))
    nearest = xy.round().long()
    for b in range(4):
        for j in range(17):
            shift = 3 if j == 5 else 0  # 3 of 32 rows: beyond 0.05 of the height, within 0.15
            maps[b, j, nearest[b, j, 1] + shift, nearest[b, j, 0]] = 1.0
    correct, seen = network.pck(maps, batch)
    assert torch.equal(seen, visible.sum(dim=0))
    expected = seen.clone()
    expected[5] = 0
    assert torch.equal(correct, expected)
    assert torch.equal(network.pck(maps, batch, threshold=0.15)[0], seen)


@pytest.mark.parametrize("bf16", [False, True])
def test_one_batch_is_learned(make: Make, bf16: bool) -> None:
    network, batch = make(), _batch(4)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            maps = network(batch)
        assert maps.dtype == torch.float32
        loss = network.total_loss(network.loss_terms(maps, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    correct, seen = network.pck(maps.detach(), batch, threshold=0.1)
    assert correct.sum() > 0.6 * seen.sum()


def test_its_weights_start_another_networks_backbone(make: Make, tmp_path: Path) -> None:
    trained = make()
    with torch.no_grad():
        trained.backbone.conv1.weight.add_(1)
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    other = make(deconv_layers=1, joints="pose2pose33")
    report = other.init_backbone(str(tmp_path / "model.pt"))
    fresh = ResNet("resnet18", 0.125, 16).state_dict()
    assert set(report.taken) == set(fresh)
    assert torch.equal(other.backbone.conv1.weight, trained.backbone.conv1.weight)


@pytest.mark.parametrize("wrong", [{"deconv_kernel": 5}, {"joints": "h36m17"}, {"deconv_layers": 0}, {"sigma": 0}, {"name": "pose2pose"}])
def test_config_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimpleBaselinesConfig.model_validate(wrong)
