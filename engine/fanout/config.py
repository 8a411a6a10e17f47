"""What an annotation job is told. Imports neither torch nor ray: a finished job, submitted again, needs no more."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.annotators.registry import NAMES, AnnotatorsConfig
from engine.annotators.smplify_config import EFT, SMPLIFY
from engine.config import Config
from schemas.records import canonical_json


class WorkersConfig(Config):
    """A pool of workers; it grows and shrinks between min_size and max_size with the work and the cluster."""

    min_size: int = Field(default=1, ge=1, description="workers, at least")
    max_size: int = Field(default=4, ge=1, description="workers, at most")
    initial_size: int | None = Field(default=None, ge=1, description="workers at the start; null: min_size")
    cpus: float = Field(default=1.0, gt=0, description="CPU cores a worker")
    gpus: float = Field(default=0.0, ge=0, description="GPUs a worker, may be a fraction; 0 hides GPUs from the workers")
    resources: dict[str, float] = Field(default={}, description="custom resources a worker needs, such as {cpu_stage: 1}: where it may run")
    in_flight: int = Field(default=4, ge=1, description="shards a worker has in hand at a time: fetched, cropped, annotated, written")
    crop_threads: int = Field(default=1, ge=1, description="threads a worker decodes and crops with; does not change a byte")
    max_restarts: int = Field(default=1000, ge=0, description="times Ray starts a dead worker again")


class PoolConfig(WorkersConfig):
    """The annotating workers, and where cropping is a stage of its own, the cropping ones."""

    crop: WorkersConfig | None = Field(
        default=None,
        description="decode and crop in workers of their own, on other nodes (resources), for GPU nodes that are short of cores; "
        "null: the annotating workers crop",
    )


class AnnotateConfig(AnnotatorsConfig):
    """Annotate a shard set into a release."""

    shard_set: str = Field(description="URL of the shard set, the folder that holds its manifest.json")
    annotator: str = Field(description="URL of a training run or checkpoint of f, or a baseline: 'mean_pose', 'smplify' or 'eft'")
    out: str = Field(description="URL of the release store; many releases share one")
    name: str = Field(pattern=r"^[A-Za-z0-9_\-]{1,100}$", description="name of the release")
    batch_size: int = Field(default=64, ge=1, description="persons a batch; batches never cross shards")
    threads: int = Field(default=1, ge=1, description="threads a worker computes with")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: cuda where a worker has it")
    decode_device: Literal["cpu", "mixed"] = Field(default="cpu", description="mixed: on the GPU, which may refuse files the CPU reads")
    pool: PoolConfig = Field(default=PoolConfig(), description="workers")
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="tries at a shard in one submission; where workers died of it, the last (at least the second) finds the cause",
    )
    hang_s: float = Field(
        default=600.0, gt=0, description="seconds a step of a shard (fetch, 16 images, batch, commit) may take before its worker ends"
    )
    staging: str | None = Field(default=None, description="local folder for image shards read ahead; null: the system's temporary folder")
    allow_partial: bool = Field(default=False, description="publish although shards failed; their persons are quarantined")
    dry_run: bool = Field(default=False, description="print the plan's digest, what is to do and how long it takes, and stop")

    @property
    def computing(self) -> dict[str, float | int | str | bool]:
        """How it is computed, as far as that may change a byte; goes into the plan's settings."""
        told = {name: getattr(self, name) for name in ("batch_size", "threads", "device", "decode_device")}
        if self.annotator not in NAMES:
            return told | self.network.model_dump()
        if self.annotator in (SMPLIFY, EFT):
            # for people, who are told what differs from the defaults: the annotator's digest holds all of it
            places = {"init", "base", "body", "prior"}
            options = getattr(self, self.annotator).model_dump(mode="json", exclude_defaults=True, exclude=places)
            told |= {self.annotator: canonical_json(options).decode()}
        return told
