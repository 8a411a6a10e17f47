"""How far an ingest is: a line at the first and the last shard, and every few seconds in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from engine.shards.shard_job import ShardRecord

Say = Callable[[str], None]


class Progress:
    """Counts the shards that are made."""

    def __init__(self, say: Say, shards: int, images: int, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        """shards, images: of the whole shard set."""
        self._say, self._shards, self._images, self._every_s, self._clock = say, shards, images, every_s, clock
        self._start, self._last = clock(), None
        self._done = self._made = self._seen = self._stored = 0
        self._persons = 0
        self._quarantined: Counter[str] = Counter()

    def found(self, record: ShardRecord) -> None:
        """A shard that an earlier run had made."""
        self._count(record)

    def made(self, record: ShardRecord) -> None:
        """A shard that was made just now."""
        self._count(record)
        self._made += record.images
        now = self._clock()
        if self._last is None or self._done == self._shards or now - self._last >= self._every_s:
            self._last = now
            self._say(self.line(now))

    def line(self, now: float) -> str:
        """Shards, images and persons done, images a second, time to go, quarantine by reason."""
        elapsed_s = now - self._start
        rate = self._made / elapsed_s if elapsed_s > 0 else 0.0
        left_s = int((self._images - self._seen) / rate) if rate else 0
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._quarantined.items())) or "nothing"
        return " · ".join(
            (
                f"ingest: {self._done}/{self._shards} shards",
                f"{self._seen}/{self._images} images",
                f"{self._persons} persons",
                f"{self._stored / 1e9:.2f} GB",
                f"{rate:.0f} images/s",
                f"{left_s // 60}:{left_s % 60:02d} to go",
                f"quarantined: {reasons}",
            )
        )

    def _count(self, record: ShardRecord) -> None:
        self._done += 1
        self._seen += record.images
        if record.entry is not None:
            self._persons += record.entry.instances
            self._stored += record.entry.size_bytes
        for row in record.quarantine:
            self._quarantined[row.reason] += row.instances


class Reading:
    """Counts the persons that annotations have, every few seconds while they are read."""

    def __init__(self, say: Say, every_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._every_s, self._clock = say, every_s, clock
        self._start = self._last = clock()

    def at(self, persons: int) -> None:
        """So many persons are read."""
        now = self._clock()
        if now - self._last >= self._every_s:
            self._last = now
            self._say(f"ingest: reading annotations: {persons} persons · {persons / (now - self._start):.0f} persons/s")
