from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.errors import CheckpointMismatch, MissingInput, UnsafeInput
from engine.models.backbone import ResNet
from engine.models.pretrained import load_backbone, load_weights

State = dict[str, Tensor]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def published(depth: int, stem: int = 16, counters: bool = True) -> State:
    """A ResNet's state dict as torchvision writes it, names and shapes by the paper's table, values random; `stem` is 64 in the paper."""
    g = torch.Generator().manual_seed(depth)
    state: State = {}

    def conv(name: str, out: int, inside: int, size: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, inside, size, size, generator=g)

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels, generator=g)
        if counters:
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", stem, 3, 7)
    norm("bn1", stem)
    inside, expansion = stem, 4 if depth >= 50 else 1
    for stage, count in enumerate(BLOCKS[depth]):
        planes = stem * 2**stage
        for block in range(count):
            name, out = f"layer{stage + 1}.{block}", planes * expansion
            sizes = [(planes, inside, 1), (planes, planes, 3), (out, planes, 1)] if depth >= 50 else [(planes, inside, 3), (out, planes, 3)]
            for number, (a, b, size) in enumerate(sizes, start=1):
                conv(f"{name}.conv{number}", a, b, size)
                norm(f"{name}.bn{number}", a)
            if block == 0 and (stage > 0 or inside != out):
                conv(f"{name}.downsample.0", out, inside, 1)
                norm(f"{name}.downsample.1", out)
            inside = out
    return state


def deconvolutions(inside: int) -> State:
    """Simple Baselines' heads, 18 + 2 entries."""
    state: State = {}
    for number in (0, 3, 6):
        state[f"deconv_layers.{number}.weight"] = torch.zeros(inside if number == 0 else 16, 16, 4, 4)
        state |= {f"deconv_layers.{number + 1}.{part}": torch.zeros(16) for part in ("weight", "bias", "running_mean", "running_var")}
        state[f"deconv_layers.{number + 1}.num_batches_tracked"] = torch.tensor(0)
    return state | {"final_layer.weight": torch.zeros(17, 16, 1, 1), "final_layer.bias": torch.zeros(17)}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


OPTIMIZER = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
SPIN_HEAD = {
    f"{name}.{part}": torch.zeros(2) for name in ("fc1", "fc2", "decpose", "decshape", "deccam") for part in ("weight", "bias")
} | {name: torch.zeros(1, 3) for name in ("init_pose", "init_shape", "init_cam")}

LAYOUTS: dict[str, tuple[Callable[[State], object], str, str]] = {
    "torchvision": (lambda s: s | {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}, "", "fc 2"),
    "exported by a run": (lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}, "", "none"),
    "model.pt of a run": (
        lambda s: prefixed(s, "backbone.") | {"pixel_mean": torch.zeros(1, 3, 1, 1)} | deconvolutions(256),
        "backbone.",
        "pixel_mean 1, deconv_layers 18, final_layer 2",
    ),
    "Simple Baselines, final_state": (lambda s: s | deconvolutions(256), "", "deconv_layers 18, final_layer 2"),
    "Simple Baselines, checkpoint": (
        lambda s: {
            "epoch": 140,
            "model": "pose_resnet_50",
            "state_dict": prefixed(s | deconvolutions(256), "module."),
            "perf": np.float64(0.704),
            "optimizer": OPTIMIZER,
        },
        "state_dict/module.",
        "deconv_layers 18, final_layer 2",
    ),
    "SPIN": (
        lambda s: {"model": s | SPIN_HEAD, "optimizer": OPTIMIZER, "epoch": 3, "batch_idx": 10, "dataset_perm": [2, 0, 1]},
        "model/",
        "fc1 2, fc2 2, decpose 2, decshape 2, deccam 2, init_pose 1, init_shape 1, init_cam 1",
    ),
    "Pose2Pose snapshot": (
        lambda s: {
            "epoch": 6,
            "network": prefixed(s, "module.backbone.") | {"module.position_net.conv.0.weight": torch.zeros(2)},
            "optimizer": OPTIMIZER,
        },
        "network/module.backbone.",
        "position_net 1",
    ),
}


def _save(path: Path, content: object, zipped: bool = True) -> str:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return str(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_taken_whole_and_the_rest_named(tmp_path: Path, layout: str, zipped: bool) -> None:
    wrap, found_at, ignored = LAYOUTS[layout]
    state = published(50)
    backbone = ResNet("resnet50", width=0.25)
    report = load_backbone(backbone, _save(tmp_path / "net.pth.tar", wrap(state), zipped))
    tolerance = 1e-3 if layout == "exported by a run" else 0
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=tolerance, atol=tolerance)
    assert backbone.conv1.weight.dtype == torch.float32
    place = f" at {found_at!r}" if found_at else ""
    assert str(report) == f"318/318 taken{place}; missing: none; ignored: {ignored}"


def test_a_score_written_by_numpy_1_is_no_obstacle(tmp_path: Path) -> None:
    url = _save(tmp_path / "checkpoint.pth.tar", {"state_dict": published(18), "perf": np.float64(0.7)}, zipped=False)
    data = Path(url).read_bytes()
    assert b"numpy._core.multiarray\n" in data
    Path(url).write_bytes(data.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    assert len(load_backbone(ResNet("resnet18", 0.25), url).taken) == 120


@pytest.mark.parametrize("depth", [18, 34])
def test_shallow_networks(tmp_path: Path, depth: int) -> None:
    backbone = ResNet(f"resnet{depth}", width=0.25)
    report = load_backbone(backbone, _save(tmp_path / "net.pth", published(depth)))
    assert set(report.taken) == set(backbone.state_dict())


def test_files_older_than_num_batches_tracked(tmp_path: Path) -> None:
    state = published(18, counters=False)
    report = load_backbone(ResNet("resnet18", 0.25), _save(tmp_path / "old.pth", state))
    assert set(report.taken) == set(state)
    assert str(report) == "100/120 taken; missing: num_batches_tracked 20; ignored: none"


@pytest.mark.parametrize(
    ("depth", "stem", "looks"),
    [
        (18, 32, "resnet18 width 0.5"),
        (34, 16, "resnet34 width 0.25"),
        (50, 16, "resnet50 width 0.25"),
        (101, 16, "resnet101 width 0.25"),
    ],
)
def test_another_network_is_refused_by_its_name(tmp_path: Path, depth: int, stem: int, looks: str) -> None:
    url = _save(tmp_path / "other.pth", published(depth, stem))
    backbone = ResNet("resnet18", 0.25)
    before = backbone.conv1.weight.clone()
    with pytest.raises(CheckpointMismatch, match=f"the file looks like {looks}, the backbone here is resnet18 width 0.25"):
        load_backbone(backbone, url)
    assert torch.equal(backbone.conv1.weight, before)


def test_differing_shapes_are_shown(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match=r"conv1.weight is \(32, 3, 7, 7\) in the file, \(16, 3, 7, 7\) here"):
        load_backbone(ResNet("resnet18", 0.25), _save(tmp_path / "wide.pth", published(18, 32)))


def test_a_high_resolution_network_is_not_taken_for_a_resnet(tmp_path: Path) -> None:
    stem = {name: value for name, value in published(50).items() if not name.startswith(("layer2", "layer3", "layer4"))}
    branches = {"transition1.0.0.weight": torch.zeros(2), "stage2.0.branches.0.0.conv1.weight": torch.zeros(2)}
    url = _save(tmp_path / "pose_hrnet.pth", stem | branches)
    with pytest.raises(CheckpointMismatch, match="the file looks like HRNet"):
        load_backbone(ResNet("resnet50", 0.25), url)


def test_of_several_resnets_the_network_s_own_is_taken(tmp_path: Path) -> None:
    state = published(18)
    both = prefixed(state, "module.backbone.") | prefixed(published(34), "module.hand_roi_net.backbone.")
    backbone = ResNet("resnet18", 0.25)
    report = load_backbone(backbone, _save(tmp_path / "hands.pth", {"network": both}))
    assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
    assert len(report.ignored) == len(published(34))


def test_two_resnets_on_a_par_are_refused(tmp_path: Path) -> None:
    both = prefixed(published(18), "pose_net.") | prefixed(published(18), "mesh_net.")
    with pytest.raises(CheckpointMismatch, match=r"found several, at 'pose_net\.', 'mesh_net\.'"):
        load_backbone(ResNet("resnet18", 0.25), _save(tmp_path / "two.pth", both))


@pytest.mark.parametrize("content", [{"fc.weight": torch.zeros(3)}, {}, [torch.zeros(3)], {"state_dict": {"epoch": 3}}])
def test_a_file_without_a_resnet_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointMismatch, match="no ResNet in it; its first names are"):
        load_backbone(ResNet("resnet18", 0.25), _save(tmp_path / "head.pth", content))


def test_a_diverged_run_is_refused(tmp_path: Path) -> None:
    state = published(18)
    state["layer3.0.bn1.running_var"][2] = torch.inf
    with pytest.raises(CheckpointMismatch, match=r"layer3\.0\.bn1\.running_var and 0 others are not finite"):
        load_backbone(ResNet("resnet18", 0.25), _save(tmp_path / "net.pth", state))


def test_wrong_path_names_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"nowhere\.pth"):
        load_backbone(ResNet("resnet18", 0.25), str(tmp_path / "nowhere.pth"))


class Hostile:
    """Unpickled, it would run code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("writer", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj, protocol=2))])
def test_code_in_a_file_is_not_run(tmp_path: Path, writer) -> None:
    writer({"conv1.weight": Hostile(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeInput, match="tensors alone"):
        load_backbone(ResNet("resnet18", 0.25), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_of_the_old_format_is_refused(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.ones(3, 2)}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    cut = data.draw(st.integers(0, len(whole) - 1))
    mask = data.draw(st.integers(0, 255))
    damaged = whole[:cut] if mask == 0 else whole[:cut] + bytes([whole[cut] ^ mask]) + whole[cut + 1 :]
    try:
        load_weights(damaged, "old.pth")  # a flipped weight is still a weight
    except UnsafeInput as error:
        assert "old.pth: expected a torch file of tensors alone" in str(error)
