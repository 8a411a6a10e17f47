"""A run's backbone in half precision, as another run starts from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from engine.errors import AlreadyExists, CheckpointMismatch, MissingInput
from engine.storage import Store
from engine.training.checkpoint import latest
from engine.training.config import TrainAnnotatorConfig
from engine.training.export import ExportConfig, export_backbone
from engine.training.loop import build_network
from engine.training.state import TrainState, save

Make = Callable[..., TrainAnnotatorConfig]


def _run(config: TrainAnnotatorConfig, factor: float = 1) -> None:
    model = build_network(config)
    with torch.no_grad():
        model.backbone.conv1.weight.mul_(factor)
    save(config, TrainState(model, torch.optim.Adam(model.parameters()), None, 4), Store(config.out), 0, 8, {"s": "a" * 64})


def test_another_run_starts_from_it(make_config: Make) -> None:
    config = make_config()
    export = ExportConfig(run=config.out, out=config.out, name="backbone.pt")
    with pytest.raises(MissingInput, match="no checkpoint; train first"):
        export_backbone(export)
    _run(config)
    export_backbone(export)
    other = build_network(config.model_copy(update={"seed": 9, "backbone_init": f"{config.out}/backbone.pt"}))
    weights = latest(Store(config.out)).tensors("model.pt")
    for name, value in other.backbone.state_dict().items():
        expected = weights[f"backbone.{name}"]
        assert torch.equal(value, expected.half().float() if expected.is_floating_point() else expected)
    with pytest.raises(AlreadyExists):
        export_backbone(export)


def test_weights_beyond_half_precision_are_not_written(make_config: Make) -> None:
    config = make_config()
    _run(config, 1e9)
    with pytest.raises(CheckpointMismatch, match=r"1 weights \(conv1.weight\) are beyond half precision"):
        export_backbone(ExportConfig(run=config.out, out=config.out, name="backbone.pt"))
    assert not Store(config.out).exists("backbone.pt")
