"""Plain lines that say how far the job is: made for the log of a Ray job, where bars and colours become noise."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.fanout.actor import ShardResult
from engine.releases.tables import add_counts


class Progress:
    """Counts finished shards and prints a line at the first, at the last, and in between at most every `every_s` seconds."""

    def __init__(
        self, shards: int, instances: int, already: int = 0, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """shards, instances: what this job has to do; already: shards that were committed before it."""
        self.shards, self.instances, self.already = shards, instances, already
        self.done = self.failed = self.annotated = 0
        self.quarantined: dict[str, int] = {}
        self._every_s, self._clock = every_s, clock
        self._start, self._last = clock(), None

    def add(self, result: ShardResult) -> None:
        self.done += 1
        self.annotated += result.annotated
        self.quarantined = add_counts((self.quarantined, result.quarantined))
        if result.failure:
            self.failed += 1
            print(f"annotate: shard {result.index} FAILED ({result.failure}): {result.message}", flush=True)
        if result.raced:
            print(
                f"annotate: shard {result.index}: another worker committed other bytes first; its rows stand (mixed hardware?)", flush=True
            )
        now = self._clock()
        if self._last is None or self.done == self.shards or now - self._last >= self._every_s:
            self._last = now
            print(self.line(now - self._start), flush=True)

    def line(self, elapsed_s: float) -> str:
        """Shards and persons done, persons a second, time to go, quarantine by reason."""
        persons = self.annotated + sum(self.quarantined.values())
        rate = persons / elapsed_s if elapsed_s > 0 else 0.0
        left_s = (self.shards - self.done) * elapsed_s / self.done if self.done else 0.0
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.quarantined.items()) or "nothing"
        parts = [
            f"annotate: {self.already + self.done}/{self.already + self.shards} shards",
            f"{persons}/{self.instances} persons",
            f"{rate:.1f} persons/s",
            f"{int(left_s) // 60}:{int(left_s) % 60:02d} to go",
            f"quarantined: {reasons}",
        ]
        return " · ".join(parts + ([f"{self.failed} shards failed"] if self.failed else []))
