"""What a user may set of the workers. Free of heavy imports: a finished job submitted again needs no Ray."""

from __future__ import annotations

from pydantic import Field

from engine.config import Config


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
