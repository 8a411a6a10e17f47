"""Lines of an ingest's log: few, and with the numbers that a person waits for."""

from __future__ import annotations

from engine.shards.progress import Progress, Reading
from engine.shards.shard_job import ShardRecord
from schemas.manifests import QuarantineRow, ShardEntry
from schemas.records import sha256_hex

DIGEST = sha256_hex(b"")


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _record(number: int, images: int = 10, broken: int = 0) -> ShardRecord:
    rows = tuple(QuarantineRow(dataset="d", key=str(i), reason="image_missing", instances=2) for i in range(broken))
    where = {"path": f"{number}.tar", "sha256": DIGEST, "index_path": f"{number}.index.jsonl", "index_sha256": DIGEST}
    entry = ShardEntry(size_bytes=10**8, samples=images - broken, instances=2 * (images - broken), **where) if images > broken else None
    return ShardRecord(pictures_sha256=DIGEST, entry=entry, images=images, skipped={"x": 1}, quarantine=rows, images_sha256=DIGEST)


def test_a_line_every_few_seconds_and_one_at_each_end() -> None:
    lines: list[str] = []
    clock = _Clock()
    progress = Progress(lines.append, shards=12, images=115, clock=clock)
    progress.found(_record(0))
    progress.found(_record(1))
    for number in range(2, 12):
        clock.now += 2
        progress.made(_record(number, images=5 if number == 11 else 10, broken=10 if number == 3 else number == 5))
    assert lines == [
        "ingest: 3/12 shards · 30/115 images · 60 persons · 0.30 GB · 5 images/s · 0:17 to go · quarantined: nothing",
        "ingest: 6/12 shards · 60/115 images · 98 persons · 0.50 GB · 5 images/s · 0:11 to go · quarantined: image_missing 22",
        "ingest: 9/12 shards · 90/115 images · 158 persons · 0.80 GB · 5 images/s · 0:05 to go · quarantined: image_missing 22",
        "ingest: 12/12 shards · 115/115 images · 208 persons · 1.10 GB · 5 images/s · 0:00 to go · quarantined: image_missing 22",
    ]


def test_reading_says_how_far_it_is_when_it_takes_long() -> None:
    lines: list[str] = []
    clock = _Clock()
    reading = Reading(lines.append, clock=clock)
    for persons in range(1000, 13000, 1000):
        clock.now += 1
        reading.at(persons)
    assert lines == [
        "ingest: reading annotations: 5000 persons · 1000 persons/s",
        "ingest: reading annotations: 10000 persons · 1000 persons/s",
    ]


def test_a_record_accounts_for_everybody() -> None:
    assert (_record(0).found, _record(0, broken=3).found, _record(0, broken=10).found) == (21, 21, 21)
