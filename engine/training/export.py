"""A run's backbone alone, in half precision: what another run starts from (recipe 2).

A backbone trained on 2D joints only is a 2D-pose network; the file is a plain state dict in torchvision's names.
"""

from __future__ import annotations

import torch
from pydantic import Field

from engine.config import Config
from engine.errors import CheckpointMismatch, MissingInput
from engine.storage import Store
from engine.training.checkpoint import latest, serialise

PREFIX = "backbone."


class ExportConfig(Config):
    """Which run, and where its backbone goes."""

    run: str = Field(description="URL of the training run; its latest checkpoint is taken")
    out: str = Field(description="URL of the folder to write to")
    name: str = Field(description="file name, ending in .pt; must not exist yet")


def export_backbone(config: ExportConfig) -> None:
    """Write the backbone's weights as float16.

    MissingInput without a checkpoint, CheckpointMismatch if its weights do not fit, AlreadyExists if the file is there.
    """
    checkpoint = latest(Store(config.run))
    if checkpoint is None:
        raise MissingInput(f"{config.run}: no checkpoint; train first, or check the path")
    weights = checkpoint.tensors("model.pt")
    backbone = {
        name.removeprefix(PREFIX): value.to(torch.float16) if value.is_floating_point() else value
        for name, value in weights.items()
        if name.startswith(PREFIX)
    }
    if large := [name for name, value in backbone.items() if not value.isfinite().all()]:
        raise CheckpointMismatch(f"{config.run}: {len(large)} weights ({large[0]}) are beyond half precision; has training diverged?")
    data = serialise(backbone)
    Store(config.out).create(config.name, data)
    print(f"{len(backbone)} weights of step {checkpoint.manifest.step}, {len(data) / 1e6:.1f} MB -> {config.out}/{config.name}", flush=True)
