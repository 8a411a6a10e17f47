"""What kills is found, and it alone: by children that really die."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.annotators.base import Prediction
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.errors import EngineError
from engine.fanout.isolation import KILLED_WORKER, find_killers
from tests.engine.fanout.conftest import make_shards, write_shard_set
from tests.engine.fanout.test_actor import make_job


class _Nervous(MeanPoseAnnotator):
    """Raises over its first batch."""

    calm = False

    def predict(self, crops_NHW3, seen=None) -> Prediction:
        if not self.calm:
            self.calm = True
            raise ValueError("the first one")
        return super().predict(crops_NHW3, seen)


def _arm(monkeypatch: pytest.MonkeyPatch, folder: Path, *faults: dict) -> None:
    folder.mkdir()
    monkeypatch.setenv("PSEUDOGT_FAULTS", json.dumps(faults))
    monkeypatch.setenv("PSEUDOGT_FAULTS_DIR", str(folder))


def test_a_killer_is_found_behind_an_exception_and_beside_a_death_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(write_shard_set(str(tmp_path / "set"), make_shards(1, 8)), str(tmp_path / "out"), lambda: _Nervous(MeanPoseConfig()))
    _arm(
        monkeypatch,
        tmp_path / "faults",
        {"point": "decode", "match": "s00_003", "action": "kill", "times": 1},
        {"point": "decode", "match": "s00_006", "action": "abort"},
    )
    (row,) = find_killers(job.worker, job.plan.shards[0])
    assert (row.key, row.annotation_id, row.reason, row.instances) == ("s00_006", None, KILLED_WORKER, 2)
    assert row.message == "the process that decoded it died of SIGABRT" and row.dataset == "coco"


@pytest.mark.slow
def test_what_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(write_shard_set(str(tmp_path / "set"), make_shards(1, 2)), str(tmp_path / "out"), hang_s=15.0)
    _arm(monkeypatch, tmp_path / "faults", {"point": "decode", "match": "s00_001", "action": "hang"})
    (row,) = find_killers(job.worker, job.plan.shards[0])
    assert (row.key, row.message) == ("s00_001", "the process that decoded it hung for more than 15 s")


def test_a_process_that_dies_before_it_touches_anything_condemns_nobody(tmp_path: Path) -> None:
    job = make_job(write_shard_set(str(tmp_path / "set"), make_shards(1, 2)), str(tmp_path / "out"), _die)
    with pytest.raises(EngineError, match="ended with exit code 9 before it touched an image"):
        find_killers(job.worker, job.plan.shards[0])


def _die() -> MeanPoseAnnotator:
    import os

    os._exit(9)
