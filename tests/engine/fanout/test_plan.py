"""The plan's digest changes with what changes the output, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.annotators.base import AnnotatorIdentity
from engine.fanout.plan import describe, differences, is_finished, lineage, pending_shards, plan_annotation
from engine.shards.reader import open_shard_set
from schemas.manifests import AnnotationPlan, ReleaseManifest
from schemas.records import sha256_hex

ANNOTATOR = AnnotatorIdentity(
    "pose2pose",
    sha256_hex(b"weights"),
    "open",
    sha256_hex(b"body"),
    sha256_hex(b"prior"),
    "s3://x",
    {"config": "c", "trained_on.coco": "d"},
)
COMPUTING = {"batch_size": 4, "threads": 1, "device": "cpu", "decode_device": "cpu"}


def _plan(url: str, annotator: AnnotatorIdentity = ANNOTATOR, where: str = "s3://bucket/set", **computing: object) -> AnnotationPlan:
    shard_set = open_shard_set(url)
    return plan_annotation(shard_set.manifest, shard_set.digest, where, annotator, COMPUTING | computing)


def test_a_plan_names_every_shard(shard_set: str) -> None:
    plan = _plan(shard_set)
    assert [s.index for s in plan.shards] == [0, 1, 2]
    assert plan.shards[1].url == "s3://bucket/set/shards/000001.tar"
    assert (sum(s.instances for s in plan.shards), sum(s.samples for s in plan.shards)) == (18, 9)
    assert describe(plan) == f"plan {plan.digest()}: coco/train by pose2pose: 3 shards, 9 images, 18 persons"


def test_where_things_lie_does_not_matter(shard_set: str) -> None:
    assert _plan(shard_set, where="file:///elsewhere").digest() == _plan(shard_set).digest()
    assert _plan(shard_set, replace(ANNOTATOR, location="file:///copy")).digest() == _plan(shard_set).digest()


@pytest.mark.parametrize(
    "change",
    [{"digest": sha256_hex(b"w2")}, {"body_digest": sha256_hex(b"b2")}, {"prior_digest": None}, {"name": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_the_annotator_matters(shard_set: str, change: dict) -> None:
    assert _plan(shard_set, replace(ANNOTATOR, **change)).digest() != _plan(shard_set).digest()


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"threads": 2}, {"device": "cuda"}, {"decode_device": "mixed"}], ids=str)
def test_how_it_is_computed_matters(shard_set: str, change: dict) -> None:
    assert _plan(shard_set, **change).digest() != _plan(shard_set).digest()


@given(committed=st.sets(st.integers(0, 5)))
def test_pending_and_committed_are_all_there_is(committed: set[int]) -> None:
    plan = _PLAN.model_copy(update={"shards": tuple(_PLAN.shards[0].model_copy(update={"index": i}) for i in range(6))})
    pending = [s.index for s in pending_shards(plan, committed)]
    assert sorted([*pending, *committed]) == list(range(6))
    assert pending == sorted(pending)


def test_lineage_reaches_the_raw_dataset_and_the_annotators_training_sets(shard_set: str) -> None:
    plan = _plan(shard_set)
    found = lineage(plan, open_shard_set(shard_set).manifest, ANNOTATOR)
    assert found["raw"] == sha256_hex(b"raw") and found["shard_set"] == plan.shard_set_digest
    assert (found["annotator"], found["body"], found["prior"]) == (ANNOTATOR.digest, ANNOTATOR.body_digest, ANNOTATOR.prior_digest)
    assert (found["annotator.config"], found["annotator.trained_on.coco"]) == ("c", "d")


def test_finished_is_this_plan_and_no_shard_set_aside() -> None:
    release = ReleaseManifest(
        name="r", version=1, dataset="coco", split="train", plan_digest=_PLAN.digest(), lineage={}, body="open", settings={},
        shards={"path": "shards.parquet", "sha256": "0" * 64, "size_bytes": 1, "rows": 0},
        quarantine={"path": "quarantine.parquet", "sha256": "0" * 64, "size_bytes": 1, "rows": 0},
        planned=0, annotated=0, skipped={}, quarantined={}, figures={}, created_at="",
    )  # fmt: skip
    assert is_finished(_PLAN, release)
    assert not is_finished(_PLAN, None)
    assert not is_finished(_PLAN, release.model_copy(update={"plan_digest": sha256_hex(b"x")}))
    assert not is_finished(_PLAN, release.model_copy(update={"quarantined": {"shard_corrupt": 5}}))
    assert is_finished(_PLAN, release.model_copy(update={"quarantined": {"undecodable": 5}}))


_PLAN = AnnotationPlan.model_validate(
    {
        "dataset": "coco", "split": "train", "shard_set_digest": sha256_hex(b"s"), "annotator": "a", "annotator_digest": sha256_hex(b"a"),
        "body_digest": sha256_hex(b"b"), "prior_digest": None, "settings": {},
        "shards": [{"index": 0, "url": "x", "sha256": sha256_hex(b"0"), "size_bytes": 1, "samples": 1, "instances": 1}],
    }
)  # fmt: skip


def test_what_differs_from_a_release_of_the_same_name_is_named(shard_set: str) -> None:
    before, after = _plan(shard_set), _plan(shard_set, replace(ANNOTATOR, digest=sha256_hex(b"w2")), batch_size=5)
    made_from = lineage(before, open_shard_set(shard_set).manifest, ANNOTATOR)
    head = ReleaseManifest.model_construct(lineage=made_from, settings=before.settings)
    assert differences(before, head) == []
    assert differences(after, head) == ["annotator", "batch_size 5, was 4"]
