"""The whole job on a real Ray cluster: worker processes are killed, shards are damaged, and the release is the same in the end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.annotators.base import Prediction
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.errors import MissingInput, ShardCorrupt
from engine.fanout.config import AnnotateConfig, PoolConfig
from engine.fanout.isolation import KILLED_WORKER
from engine.fanout.pool import run_shards
from engine.fanout.run import annotate
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, person_batches
from engine.releases.commit import load_commits
from engine.releases.store import open_release
from engine.releases.tables import FAILED
from engine.releases.verify import verify_release
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from schemas.crops import CropSpec
from schemas.manifests import ReleaseManifest
from tests.engine.fanout.conftest import make_config, make_shards, write_shard_set
from tests.engine.fanout.test_actor import make_job

pytestmark = pytest.mark.usefixtures("ray_cluster")


def _finish(config: AnnotateConfig) -> ReleaseManifest:
    manifest = annotate(config)
    assert manifest is not None
    verify_release(open_release(config.out, config.name))
    return manifest


class _Killer(threading.Thread):
    """Sends SIGKILL to the first `deaths` workers that are found annotating a shard, each of them once, in the middle of it."""

    def __init__(self, out: str, deaths: int) -> None:
        super().__init__(daemon=True)
        self.out, self.deaths, self.killed, self.stop = Path(out), deaths, set(), threading.Event()

    def run(self) -> None:
        while not self.stop.is_set() and len(self.killed) < self.deaths:
            for record in self.out.glob("runs/*/attempts/*/*.json"):
                try:
                    pid = json.loads(record.read_text())["pid"]
                    if pid not in self.killed:
                        os.kill(pid, signal.SIGKILL)
                        self.killed.add(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue
            time.sleep(0.001)


def test_workers_killed_in_the_middle_change_nothing_and_submitted_again_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = PoolConfig(min_size=2, max_size=2, cpus=0.5)
    shards = write_shard_set(str(tmp_path / "set"), make_shards(6, 25, persons=3))
    undisturbed = _finish(make_config(shards, tmp_path, out=str(tmp_path / "quiet"), batch_size=2, pool=pool))
    config = make_config(shards, tmp_path, out=str(tmp_path / "killed"), batch_size=2, pool=pool)
    killer = _Killer(config.out, deaths=2)
    killer.start()
    disturbed = _finish(config)
    killer.stop.set()
    killer.join()
    assert len(killer.killed) == 2, "no worker was caught at work"
    assert disturbed.digest() == undisturbed.digest()
    assert disturbed.planned == disturbed.annotated == 450
    assert [key for key in Store(config.out).list() if "attempts" in key], "the ledger shows the deaths"

    stamps = {key: (Path(config.out) / key).stat().st_mtime_ns for key in Store(config.out).list()}
    capsys.readouterr()
    assert annotate(config) == disturbed and "nothing to do: coco v0001" in capsys.readouterr().out
    assert {key: (Path(config.out) / key).stat().st_mtime_ns for key in Store(config.out).list()} == stamps


@pytest.mark.slow
def test_a_damaged_shard_stops_the_release_and_nothing_else(shard_set: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(shard_set, tmp_path)
    path = Path(shard_set) / "shards" / "000001.tar"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-2000] + b"x" + whole[-1999:])
    with pytest.raises(ShardCorrupt, match=r"1 of 3 shards failed, the others are committed.*000001\.tar: expected sha256"):
        annotate(config)
    assert "releases" not in {key.split("/")[0] for key in Store(config.out).list()}
    assert len([key for key in Store(config.out).list() if "/shards/" in key]) == 2

    partial = _finish(config.model_copy(update={"allow_partial": True}))
    assert (partial.planned, partial.annotated, partial.quarantined) == (18, 12, {"shard_corrupt": 6})
    quarantine = pq.read_table(f"{config.out}/releases/coco/v0001/quarantine.parquet").to_pylist()
    assert [(row["reason"], row["instances"], row["shard"]) for row in quarantine] == [("shard_corrupt", 6, 1)]

    path.unlink()
    path.write_bytes(whole)
    capsys.readouterr()
    complete = _finish(config)
    assert (complete.version, complete.annotated, complete.quarantined) == (2, 18, {})
    assert "3/3 shards" in capsys.readouterr().out, "only the repaired shard was done"


class _Poison(MeanPoseAnnotator):
    """Dies of one person's crop."""

    fatal_mean: float

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        if self.fatal_mean in crops_NHW3.mean((1, 2, 3)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(crops_NHW3, seen)


@pytest.mark.slow
def test_a_person_who_kills_workers_is_quarantined_and_nobody_else(tmp_path: Path) -> None:
    url = write_shard_set(str(tmp_path / "set"), make_shards(3, 2))
    batch = _first_batch(url, shard=1)
    fatal = float(batch.crops_NHW3[2].mean())

    def make() -> _Poison:
        annotator = _Poison(MeanPoseConfig())
        annotator.fatal_mean = fatal
        return annotator

    job = make_job(url, str(tmp_path / "out"), make=make, max_attempts=2)
    results = {r.index: r for r in run_shards(PoolConfig(min_size=1, max_size=1, cpus=0.5), job.worker, list(job.plan.shards))}
    assert {i: (r.failure, r.annotated, r.quarantined) for i, r in results.items()} == {
        0: ("", 4, {}),
        1: ("", 3, {KILLED_WORKER: 1}),
        2: ("", 4, {}),
    }
    (row,) = load_commits(Store(job.out_url), job.plan)[1].quarantine
    assert (row.key, row.annotation_id) == (batch.samples[2].key, batch.instances[2].annotation_id)
    assert row.message == "the process that annotated it died of SIGKILL"


def _first_batch(url: str, shard: int) -> CropBatch:
    shards = open_shard_set(url)
    samples = read_samples(shards.fetch(shards.manifest.shards[shard]))
    return next(person_batches(samples, Decoder(), CropSpec(256, 192), 4))


class _Slow(MeanPoseAnnotator):
    """Half a second a batch, until a file is there."""

    enough: Path

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        if not self.enough.exists():
            time.sleep(0.5)
        return super().predict(crops_NHW3, seen)


@pytest.mark.slow
def test_the_pool_grows_while_shards_wait(tmp_path: Path) -> None:
    """On a cluster that has room for a second worker."""

    def make() -> _Slow:
        annotator = _Slow(MeanPoseConfig())
        annotator.enough = tmp_path / "enough"
        return annotator

    job = make_job(write_shard_set(str(tmp_path / "set"), make_shards(80, 1)), str(tmp_path / "out"), make=make)
    workers, done = set(), []
    for result in run_shards(PoolConfig(min_size=1, max_size=2, cpus=0.5), job.worker, list(job.plan.shards)):
        workers |= set(result.usage)
        done.append(result.index)
        if len(workers) == 2:
            (tmp_path / "enough").touch()
    assert len(workers) == 2
    assert sorted(done) == list(range(80))


def test_workers_that_cannot_start_are_one_clear_error(shard_set: str, tmp_path: Path) -> None:
    def make() -> MeanPoseAnnotator:
        return MeanPoseAnnotator(MeanPoseConfig(crop_hw=(128, 96)))

    job = make_job(shard_set, str(tmp_path / "out"), make=make)
    results = list(run_shards(PoolConfig(cpus=0.5), job.worker, list(job.plan.shards)))
    assert {(r.failure, r.message.split(": annotator")[0]) for r in results} == {(FAILED, "a worker could not start: CheckpointMismatch")}


def test_dry_run_says_what_would_be_done(config: AnnotateConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotate(config.model_copy(update={"dry_run": True})) is None
    out = capsys.readouterr().out
    assert "3 shards, 9 images, 18 persons" in out and "0 of 3 shards are committed" in out
    assert not Path(config.out).exists()


@pytest.mark.parametrize("field", ["shard_set", "annotator"])
def test_a_wrong_path_is_named(config: AnnotateConfig, field: str) -> None:
    with pytest.raises(MissingInput, match="/no/such/place"):
        annotate(config.model_copy(update={field: "/no/such/place"}))
