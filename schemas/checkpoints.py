"""What a training checkpoint says of itself, and the pointer to the newest one.

A checkpoint is a folder `checkpoints/<step>/` of files that are never changed; its manifest is written last, so a folder
without one is not a checkpoint. `LATEST` is the only object of a run that moves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from schemas.manifests import Sha256
from schemas.records import Record

DEFAULT_NETWORK = "pose2pose"
"""The network of a model config without a name."""


def network_name(config: Any) -> str:
    """Which network a model config, or the mapping it is made from, means."""
    return config.get("name", DEFAULT_NETWORK) if isinstance(config, dict) else getattr(config, "name", DEFAULT_NETWORK)


class CheckpointFile(Record):
    """One file of a checkpoint, beside its manifest."""

    sha256: Sha256
    size_bytes: int = Field(gt=0)


class CheckpointPart(BaseModel):
    """A body model or pose prior the network was trained with, which the checkpoint does not contain."""

    model_config = Record.model_config

    name: str
    digest: Sha256
    config: dict[str, Any]


class CheckpointManifest(Record):
    """A trained network with everything needed to use it or to go on training it, and where it came from."""

    format_version: Literal[1] = 1
    role: Literal["annotator", "estimator", "pose2d"]
    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    total_steps: int = Field(ge=1)
    samples_consumed: int = Field(ge=0)
    model: dict[str, Any]
    """The network's config; its `name` says which network (engine.models.registry)."""
    body: CheckpointPart
    prior: CheckpointPart | None
    config: dict[str, Any]
    """The training config, in full."""
    config_digest: Sha256
    training_sets: dict[str, Sha256]
    """Shard sets and releases trained on: name -> digest."""
    files: dict[Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z]+$")], CheckpointFile]
    """model.pt (weights to use), optimizer.pt (state to go on from), history.jsonl (one row a log interval)."""
    created_at: str

    @classmethod
    def undigested(cls) -> set[str]:
        return {"created_at"}

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps


class CheckpointPointer(Record):
    """LATEST: the newest checkpoint of a run directory, moved by compare-and-swap."""

    step: int = Field(ge=0)
    path: Annotated[str, Field(pattern=r"^checkpoints/\d{8,}$")]
    manifest_sha256: Sha256
