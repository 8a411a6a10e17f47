"""The simulated releases of the benchmarks are releases: the real driver publishes, verifies and finds them finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.growth import PERSONS, QUARANTINED, drive, make_plan, simulate
from benchmarks.resubmit import finished_job
from engine.config import read_config
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate
from engine.releases.store import open_release


def test_a_simulated_release_is_published_and_verified(tmp_path: Path) -> None:
    simulate(str(tmp_path), make_plan(130))
    steps, peak_gib = drive(str(tmp_path), 130)
    assert set(steps) == {"plan", "save plan", "load commits", "draft", "publish", "open", "verify"} and peak_gib > 0
    manifest = open_release(str(tmp_path), "grown").manifest
    assert (manifest.shards.rows, manifest.planned, manifest.quarantined) == (130, 130 * PERSONS, {"undecodable": 130 * QUARANTINED})
    assert manifest.figures["score"].count == manifest.annotated


def test_a_simulated_job_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AnnotateConfig.model_validate(read_config(finished_job(tmp_path, 3)))
    manifest = annotate(config)
    assert manifest is not None and manifest.planned == 3 * PERSONS
    assert "nothing to do" in capsys.readouterr().out
