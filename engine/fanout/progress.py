"""How far the job is: plain lines for a terminal or the log of a Ray job, and the same numbers for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.fanout.work import ShardResult
from engine.releases.tables import add_counts

_STALE_S = 60.0
"""A worker that has reported nothing for this long no longer counts towards the busiest stage."""


@dataclass(frozen=True)
class Snapshot:
    """The job at a moment. persons: annotated and quarantined by this submission; stages: mean over workers of busy and queue share."""

    shards: int
    done: int
    failed: int
    persons: int
    annotated: int
    quarantined: dict[str, int]
    persons_per_s: float
    left_s: float
    workers: int
    stages: dict[str, tuple[float, float]]

    @property
    def busiest(self) -> str:
        """Name of the stage that bounds the rate, '' before any worker has said something."""
        return max(self.stages, key=lambda name: self.stages[name][0], default="")


class Progress:
    """Counts finished shards and prints a line at the first, at the last, and in between at most every `every_s` seconds."""

    def __init__(
        self, shards: int, instances: int, already: int = 0, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """shards, instances: what this job has to do; already: shards that were committed before it."""
        self.shards, self.instances, self.already = shards, instances, already
        self.done = self.failed = self.annotated = self.planned = 0
        self.quarantined: dict[str, int] = {}
        self._workers: dict[str, tuple[float, dict[str, tuple[float, float]]]] = {}
        self._every_s, self._clock = every_s, clock
        self._start, self._last = clock(), None

    def add(self, result: ShardResult) -> Snapshot:
        """Count a shard; prints what a person should know of it."""
        now = self._clock()
        self.done += 1
        self.annotated += result.annotated
        self.quarantined = add_counts((self.quarantined, result.quarantined))
        self._workers |= {worker: (now, stages) for worker, stages in result.usage.items()}
        if result.failure:
            self.failed += 1
            print(f"annotate: shard {result.index} FAILED ({result.failure}): {result.message}", flush=True)
        if result.raced:
            print(
                f"annotate: shard {result.index}: another worker committed other bytes first; its rows stand (mixed hardware?)", flush=True
            )
        snapshot = self.snapshot(now)
        if self._last is None or self.done == self.shards or now - self._last >= self._every_s:
            self._last = now
            print(self.line(snapshot), flush=True)
        return snapshot

    def snapshot(self, now: float) -> Snapshot:
        elapsed_s = now - self._start
        persons = self.annotated + sum(self.quarantined.values())
        heard = [stages for at, stages in self._workers.values() if now - at <= _STALE_S]
        names = dict.fromkeys(name for stages in heard for name in stages)
        means = {name: _mean([stages[name] for stages in heard if name in stages]) for name in names}
        return Snapshot(
            shards=self.shards + self.already,
            done=self.done + self.already,
            failed=self.failed,
            persons=persons,
            annotated=self.annotated,
            quarantined=self.quarantined,
            persons_per_s=persons / elapsed_s if elapsed_s > 0 else 0.0,
            left_s=(self.shards - self.done) * elapsed_s / self.done if self.done else 0.0,
            workers=len(heard),
            stages=means,
        )

    def line(self, s: Snapshot) -> str:
        """Shards and persons done, persons a second, time to go, busiest stage, quarantine by reason."""
        reasons = ", ".join(f"{reason} {n}" for reason, n in s.quarantined.items()) or "nothing"
        parts = [
            f"annotate: {s.done}/{s.shards} shards",
            f"{s.persons}/{self.instances} persons",
            f"{s.persons_per_s:.1f} persons/s",
            f"{int(s.left_s) // 60}:{int(s.left_s) % 60:02d} to go",
        ]
        if s.busiest:
            busy, queue = s.stages[s.busiest]
            parts.append(f"{s.workers} workers, busiest: {s.busiest} {busy:.0%}, its queue {queue:.0%} full")
        parts.append(f"quarantined: {reasons}")
        return " · ".join(parts + ([f"{s.failed} shards failed"] if s.failed else []))


def _mean(values: list[tuple[float, float]]) -> tuple[float, float]:
    busy, queue = zip(*values, strict=True)
    return sum(busy) / len(busy), sum(queue) / len(queue)
