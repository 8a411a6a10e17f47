from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointMismatch, MissingInput, UnsafeInput
from engine.models.backbone import ResNet
from engine.models.pretrained import load_backbone


def _net(seed: int, name: str = "resnet18", width: float = 0.125) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(name, width)


def _save(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("nested", [False, True])
def test_every_spelling_of_a_file_is_taken_whole(tmp_path: Path, prefix: str, nested: bool) -> None:
    source, target = _net(1), _net(2)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    state |= {prefix + "final_layer.weight": torch.zeros(17, 256, 1, 1), prefix + "deconv_layers.0.weight": torch.zeros(2)}
    content = {"epoch": 140, "state_dict": state, "perf": 0.7} if nested else state
    report = load_backbone(target, _save(tmp_path / "net.pth.tar", content))
    assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())
    assert report.missing == ()
    assert set(report.ignored) == {"final_layer.weight", "deconv_layers.0.weight"}


def test_files_older_than_num_batches_tracked(tmp_path: Path) -> None:
    state = {k: v for k, v in _net(1).state_dict().items() if not k.endswith("num_batches_tracked")}
    report = load_backbone(_net(2), _save(tmp_path / "old.pth", state))
    assert len(report.taken) == len(state)
    assert all(k.endswith("num_batches_tracked") for k in report.missing)


def test_another_network_is_refused_with_shapes(tmp_path: Path) -> None:
    url = _save(tmp_path / "wide.pth", _net(1, width=0.25).state_dict())
    with pytest.raises(CheckpointMismatch, match=r"conv1.weight is \(16, 3, 7, 7\) in the file, \(8, 3, 7, 7\) here"):
        load_backbone(_net(2), url)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    before = _net(2)
    with pytest.raises(CheckpointMismatch, match=r"entries are missing \(first: conv1.weight"):
        load_backbone(before, _save(tmp_path / "head.pth", {"fc.weight": torch.zeros(3)}))
    assert torch.equal(before.conv1.weight, _net(2).conv1.weight)


def test_wrong_path_names_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"nowhere\.pth"):
        load_backbone(_net(0), str(tmp_path / "nowhere.pth"))


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
        load_backbone(_net(0), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()
