"""What a person reads in the job's log."""

from __future__ import annotations

import pytest

from engine.fanout.progress import Progress
from engine.fanout.work import ShardResult


def test_lines_say_how_far_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = Progress(shards=4, instances=40, already=2, every_s=5, clock=lambda: now[0])
    for at, result in (
        (10.0, ShardResult(2, annotated=9, quarantined={"undecodable": 1})),
        (12.0, ShardResult(3, annotated=10)),
        (20.0, ShardResult(4, "shard_corrupt", "x.tar: expected sha256 a, found b")),
        (21.0, ShardResult(5, annotated=10, raced=True)),
    ):
        now[0] = at
        progress.add(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "annotate: 3/6 shards · 10/40 persons · 1.0 persons/s · 0:30 to go · quarantined: undecodable 1"
    assert lines[1] == "annotate: shard 4 FAILED (shard_corrupt): x.tar: expected sha256 a, found b"
    assert lines[2].startswith("annotate: 5/6 shards · 20/40 persons") and lines[2].endswith("1 shards failed")
    assert "another worker committed other bytes first" in lines[3]
    assert lines[4].startswith("annotate: 6/6 shards · 30/40 persons · 1.4 persons/s · 0:00 to go") and len(lines) == 5
