"""One worker, in this process: what it commits, what it sets aside, and that doing it again gives the same bytes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.annotators.base import Annotator, Prediction
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.errors import EngineError
from engine.fanout.actor import ShardWorker
from engine.fanout.plan import plan_annotation
from engine.fanout.shard_stages import PERSON_ERROR
from engine.fanout.split import AnnotateWorker, CropWorker
from engine.fanout.work import WorkerSpec
from engine.loading.decode import Decoder
from engine.loading.persons import person_batches
from engine.releases.commit import load_commit, load_commits, save_plan
from engine.releases.store import object_key
from engine.releases.tables import CORRUPT, DIED, FAILED, encode
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from schemas.crops import CropSpec
from schemas.manifests import AnnotationPlan, ShardCommit
from tests.chaos.faulty_s3 import Faults, faulty_s3
from tests.engine.fanout.conftest import make_shards, write_shard_set

COMPUTING = {"batch_size": 4, "threads": 1, "device": "cpu", "decode_device": "cpu"}


class NanAnnotator(MeanPoseAnnotator):
    """Says NaN for every third crop it ever sees, and a depth behind the camera for the one after."""

    seen = 0

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        out = super().predict(crops_NHW3, seen)
        for i in range(len(crops_NHW3)):
            self.seen += 1
            if self.seen % 3 == 0:
                out.pose_N72[i, 5] = np.nan
            elif self.seen % 3 == 1 and self.seen > 1:
                out.cam_transl_N3[i, 2] = -1.0
        return out


class BrokenAnnotator(MeanPoseAnnotator):
    error: Exception

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        raise self.error


@dataclass(frozen=True)
class Job:
    """A planned annotation of a shard set, and what its workers are told."""

    worker: WorkerSpec
    plan: AnnotationPlan
    shard_set_url: str
    out_url: str


def make_job(url: str, out: str, make: Callable[[], Annotator] | None = None, **fields: object) -> Job:
    make = make or (lambda: MeanPoseAnnotator(MeanPoseConfig()))
    shard_set = open_shard_set(url)
    plan = plan_annotation(shard_set.manifest, shard_set.digest, url, MeanPoseAnnotator(MeanPoseConfig()).identity(), COMPUTING)
    digests = {"plan_digest": plan.digest(), "annotator_digest": plan.annotator_digest, "settings": plan.settings}
    spec = WorkerSpec(
        **{"out_url": out, "make_annotator": make, "make_cropper": make, "submission": "s", "max_attempts": 2} | digests | fields
    )
    return Job(spec, plan, url, out)


def committed(job: Job, index: int) -> ShardCommit:
    commit = load_commit(Store(job.out_url), job.plan.digest(), index)
    assert commit is not None
    return commit


def test_a_shard_becomes_sorted_rows_of_every_person(shard_set: str, tmp_path: Path) -> None:
    job = make_job(shard_set, str(tmp_path / "out"))
    result = ShardWorker(job.worker).run(job.plan.shards[1])
    assert (result.index, result.failure, result.annotated, result.quarantined) == (1, "", 6, {})
    commit = committed(job, 1)
    table = pq.read_table(io.BytesIO(Store(job.out_url).get(object_key(commit.sha256))))
    names = list(zip(table["key"].to_pylist(), table["annotation_id"].to_pylist(), strict=True))
    assert names == [(f"s01_{i:03d}", f"s01_{i:03d}-{p}") for i in range(3) for p in range(2)]
    assert set(table["dataset"].to_pylist()) == {"coco"}
    assert commit.source_sha256 == open_shard_set(shard_set).manifest.shards[1].sha256


def test_doing_it_again_elsewhere_gives_the_same_bytes(shard_set: str, tmp_path: Path) -> None:
    commits = []
    for name in ("a", "b"):
        job = make_job(shard_set, str(tmp_path / name))
        worker = ShardWorker(job.worker)
        order = job.plan.shards if name == "a" else job.plan.shards[::-1]
        for shard in order:
            worker.run(shard)
        commits.append({i: c.to_bytes() for i, c in load_commits(Store(job.out_url), job.plan).items()})
    assert commits[0] == commits[1]


def test_a_committed_shard_is_not_done_again(shard_set: str, tmp_path: Path) -> None:
    job = make_job(shard_set, str(tmp_path / "out"))
    first = ShardWorker(job.worker).run(job.plan.shards[0])
    again = make_job(shard_set, job.out_url, make=lambda: _broken(AssertionError("must not be asked")))
    second = ShardWorker(again.worker).run(job.plan.shards[0])
    assert (second.annotated, second.failure) == (first.annotated, "") and second.computed == 0


def test_a_truncated_jpeg_costs_only_its_own_persons(tmp_path: Path) -> None:
    shards = make_shards(1, 4)
    whole = make_job(write_shard_set(str(tmp_path / "whole"), shards), str(tmp_path / "out_whole"))
    sample, image, extension = shards[0][2]
    shards[0][2] = (sample, image[: len(image) // 2], extension)
    cut = make_job(write_shard_set(str(tmp_path / "cut"), shards), str(tmp_path / "out_cut"))
    tables = []
    for job in (whole, cut):
        assert ShardWorker(job.worker).run(job.plan.shards[0]).failure == ""
        tables.append(pq.read_table(io.BytesIO(Store(job.out_url).get(object_key(committed(job, 0).sha256)))))
    commit = committed(cut, 0)
    assert (commit.planned, commit.annotated, commit.quarantined) == (8, 6, {"undecodable": 2})
    (row,) = commit.quarantine
    assert (row.key, row.annotation_id, row.reason, row.instances) == (sample.key, None, "undecodable", 2)
    assert "cut short" in row.message
    others = [i for i, key in enumerate(tables[0]["key"].to_pylist()) if key != sample.key]
    assert encode(tables[0].take(others)) == encode(tables[1])


def test_impossible_output_is_quarantined_with_its_reason(shard_set: str, tmp_path: Path) -> None:
    job = make_job(shard_set, str(tmp_path / "out"), make=lambda: NanAnnotator(MeanPoseConfig()))
    ShardWorker(job.worker).run(job.plan.shards[0])
    commit = committed(job, 0)
    assert (commit.planned, commit.annotated, commit.quarantined) == (6, 3, {"behind_camera": 1, "non_finite": 2})
    assert {row.annotation_id for row in commit.quarantine} == {"s00_001-0", "s00_001-1", "s00_002-1"}
    assert any("pose has NaN" in row.message for row in commit.quarantine)


def test_the_same_person_twice_is_kept_once(tmp_path: Path) -> None:
    shards = make_shards(1, 1)
    sample, image, extension = shards[0][0]
    twice = sample.model_copy(update={"instances": sample.instances + sample.instances[:1]})
    job = make_job(write_shard_set(str(tmp_path / "set"), [[(twice, image, extension)]]), str(tmp_path / "out"))
    ShardWorker(job.worker).run(job.plan.shards[0])
    assert (committed(job, 0).annotated, committed(job, 0).quarantined) == (2, {"duplicate_id": 1})


def test_a_shard_without_persons_has_an_empty_table(tmp_path: Path) -> None:
    job = make_job(write_shard_set(str(tmp_path / "set"), make_shards(1, 2, persons=0)), str(tmp_path / "out"))
    assert ShardWorker(job.worker).run(job.plan.shards[0]).failure == ""
    assert committed(job, 0).annotated == 0 and committed(job, 0).size_bytes > 0


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "gone"])
def test_a_damaged_shard_fails_with_its_name(shard_set: str, tmp_path: Path, damage: str) -> None:
    path = Path(shard_set) / "shards" / "000001.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.unlink()
    if damage == "swap":
        path.write_bytes((Path(shard_set) / "shards" / "000002.tar").read_bytes())
    elif damage != "gone":
        path.write_bytes(bytes(data) if damage == "flip" else bytes(data[: len(data) // 2]))
    job = make_job(shard_set, str(tmp_path / "out"), max_attempts=1 if damage == "cut" else 2)
    worker = ShardWorker(job.worker)
    result = worker.run(job.plan.shards[1])
    assert result.failure == (FAILED if damage == "gone" else CORRUPT) and "000001.tar" in result.message
    assert worker.run(job.plan.shards[0]).failure == ""
    assert load_commit(Store(job.out_url), job.plan.digest(), 1) is None


def _broken(error: Exception) -> Annotator:
    annotator = BrokenAnnotator(MeanPoseConfig())
    annotator.error = error
    return annotator


@pytest.mark.parametrize(
    ("error", "match"), [(RuntimeError("no such luck"), "failed 1 times.*no such luck"), (EngineError("clear"), "clear")]
)
def test_an_annotator_that_raises_fails_the_shard_and_leaves_no_attempt(
    shard_set: str, tmp_path: Path, error: Exception, match: str
) -> None:
    job = make_job(shard_set, str(tmp_path / "out"), make=lambda: _broken(error), max_attempts=1)
    result = ShardWorker(job.worker).run(job.plan.shards[0])
    assert result.failure == FAILED
    with pytest.raises(RuntimeError, match=f"(?s){match}"):
        raise RuntimeError(result.message)
    assert Store(job.out_url).list() == []


def test_a_shard_that_killed_its_workers_is_left_alone(shard_set: str, tmp_path: Path) -> None:
    job = make_job(shard_set, str(tmp_path / "out"), make=lambda: _broken(AssertionError("must not be asked")))
    worker = ShardWorker(job.worker)
    while worker.ledger.begin(0):
        pass
    result = worker.run(job.plan.shards[0])
    assert result.failure == DIED and "again and again" in result.message


@pytest.mark.parametrize("kind", [ShardWorker, CropWorker])
def test_another_annotator_than_planned_is_refused(shard_set: str, tmp_path: Path, kind: type) -> None:
    job = make_job(shard_set, str(tmp_path / "out"), make=lambda: MeanPoseAnnotator(MeanPoseConfig(crop_hw=(128, 96))))
    row = kind(job.worker)({"shard": np.array([job.plan.shards[0].model_dump_json()])})
    result = json.loads(row["result"][0])
    assert result["failure"] == FAILED and "could not start: CheckpointMismatch" in result["message"]


class _Choosy(MeanPoseAnnotator):
    """Raises over one person's crop."""

    hated: float

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        if self.hated in crops_NHW3.mean((1, 2, 3)):
            raise ValueError("not this one")
        return super().predict(crops_NHW3, seen)


def test_a_person_over_whom_the_annotator_raises_is_quarantined_with_the_message(shard_set: str, tmp_path: Path) -> None:
    shards = open_shard_set(shard_set)
    samples = read_samples(shards.fetch(shards.manifest.shards[1]))
    (batch,) = person_batches(samples, Decoder(), CropSpec(256, 192), 64)

    def make() -> _Choosy:
        annotator = _Choosy(MeanPoseConfig())
        annotator.hated = float(batch.crops_NHW3[4].mean())
        return annotator

    calm, job = make_job(shard_set, str(tmp_path / "calm")), make_job(shard_set, str(tmp_path / "out"), make=make)
    for each in (calm, job):
        assert ShardWorker(each.worker).run(job.plan.shards[1]).failure == ""
    (row,) = committed(job, 1).quarantine
    assert (row.annotation_id, row.reason, row.message) == (batch.instances[4].annotation_id, PERSON_ERROR, "ValueError: not this one")
    tables = [pq.read_table(io.BytesIO(Store(j.out_url).get(object_key(committed(j, 1).sha256)))) for j in (calm, job)]
    others = [i for i, name in enumerate(tables[0]["annotation_id"].to_pylist()) if name != row.annotation_id]
    assert encode(tables[0].take(others)) == encode(tables[1])


def test_rows_are_the_same_bytes_when_others_decode_and_crop(tmp_path: Path) -> None:
    shards = make_shards(2, 20)
    sample, image, extension = shards[0][2]
    shards[0][2] = (sample, image[: len(image) // 2], extension)
    url = write_shard_set(str(tmp_path / "set"), shards)
    fused, threaded, split = (make_job(url, str(tmp_path / name), crop_threads=n) for name, n in (("a", 1), ("b", 3), ("c", 2)))
    for job in (fused, threaded):
        worker = ShardWorker(job.worker)
        assert [worker.run(shard).failure for shard in job.plan.shards] == ["", ""]
    cropping, annotating = CropWorker(split.worker), AnnotateWorker(split.worker)
    for shard in split.plan.shards:
        row = cropping({"shard": np.array([shard.model_dump_json()])})
        assert json.loads(annotating(row)["result"][0])["failure"] == ""
    commits = [load_commits(Store(job.out_url), job.plan) for job in (fused, threaded, split)]
    assert commits[0] == commits[1] == commits[2]
    assert commits[0][0].quarantined == {"undecodable": 2}
    assert not [key for job in (fused, threaded, split) for key in Store(job.out_url).list() if "attempts" in key]


def test_a_shard_that_fails_while_it_is_cropped_goes_no_further(shard_set: str, tmp_path: Path) -> None:
    path = Path(shard_set) / "shards" / "000001.tar"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])
    job = make_job(shard_set, str(tmp_path / "out"))
    row = CropWorker(job.worker)({"shard": np.array([job.plan.shards[1].model_dump_json()])})
    assert row["crops"].size == 0
    assert json.loads(AnnotateWorker(job.worker)(row)["result"][0])["failure"] == CORRUPT


def test_calls_from_two_threads_do_not_disturb_each_other(shard_set: str, tmp_path: Path) -> None:
    alone, shared = (make_job(shard_set, str(tmp_path / name)) for name in ("alone", "shared"))
    worker = ShardWorker(alone.worker)
    for shard in alone.plan.shards:
        worker.run(shard)
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(ShardWorker(shared.worker), [{"shard": np.array([shard.model_dump_json()])} for shard in shared.plan.shards]))
    assert [json.loads(row["result"][0])["index"] for row in rows] == [0, 1, 2]
    assert load_commits(Store(alone.out_url), alone.plan) == load_commits(Store(shared.out_url), shared.plan)


def test_from_s3_to_s3(s3_url: str) -> None:
    url = write_shard_set(f"{s3_url}/set", make_shards(2, 1))
    job = make_job(url, f"{s3_url}/out")
    save_plan(Store(job.out_url), job.plan)
    worker = ShardWorker(job.worker)
    assert [worker.run(shard).annotated for shard in job.plan.shards] == [2, 2]
    assert sorted(load_commits(Store(job.out_url), job.plan)) == [0, 1]
    assert not [key for key in Store(job.out_url).list() if "attempts" in key]


def test_a_shard_costs_six_requests(s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/SCALING.md counts on it. Photographs beyond 16 MiB take a further range each."""
    url = write_shard_set(f"{s3_url}/set", make_shards(1, 3))
    with faulty_s3(s3_server, Faults(), seed=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        job = make_job(url, f"{s3_url}/out")
        worker, before = ShardWorker(job.worker), len(proxy.log)
        assert worker.run(job.plan.shards[0]).failure == ""
        asked = [(arrival.method, re.search(r"attempts|objects|set|runs", arrival.path)[0]) for arrival in proxy.log[before:]]
    look, note, fetch, rows, record, done = asked
    assert (look, record) == (("GET", "runs"), ("PUT", "runs")), "the commit record"
    assert (note, done) == (("PUT", "runs"), ("DELETE", "runs")), "the attempt"
    assert (fetch, rows) == (("GET", "set"), ("PUT", "objects"))
