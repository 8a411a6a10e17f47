"""What goes to a worker and what comes back: small, picklable, and free of heavy imports, for the driver of a finished job uses it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.annotators.base import Annotator

Usage = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to start: small and picklable, whatever the number of shards; each shard comes with its own ShardPlan."""

    plan_digest: str
    annotator_digest: str
    settings: dict[str, float | int | str | bool]
    out_url: str
    make_annotator: Callable[[], Annotator]
    submission: str
    max_attempts: int
    crop_threads: int = 1
    staging: str | None = None
    hang_s: float = 600.0


@dataclass(frozen=True)
class ShardResult:
    """What a worker reports of one shard. `failure` is empty, or one of CORRUPT, DIED, FAILED of `engine.releases.tables`.

    record: the commit record's bytes, so that the driver need not read it. computed: persons the annotator saw, 0 where the shard was
    committed already. usage: worker -> stage -> share of its time that the stage was busy, and fill of the queue before it, both in [0, 1]
    and since that worker's last report.
    """

    index: int
    failure: str = ""
    message: str = ""
    record: str = ""
    annotated: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    raced: bool = False
    usage: Usage = field(default_factory=dict)
