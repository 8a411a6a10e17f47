"""Records: equal content is equal bytes, and manifests that do not add up cannot be built."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.manifests import AnnotationPlan, ShardCommit, ShardPlan
from schemas.records import canonical_json
from schemas.sample import Instance, Sample

SHA = "a" * 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_canonical_json_ignores_the_order_of_keys(value: dict) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(list(value.items()))))


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json([math.nan])


def _plan(url: str) -> AnnotationPlan:
    shard = ShardPlan(index=0, url=url, sha256=SHA, size_bytes=1, samples=1, instances=2)
    return AnnotationPlan(
        dataset="d",
        split="s",
        shard_set_digest=SHA,
        annotator="f",
        annotator_digest=SHA,
        body_digest=SHA,
        prior_digest=None,
        settings={},
        shards=(shard,),
    )


def test_a_plan_is_the_same_wherever_its_shards_lie() -> None:
    assert _plan("s3://a/0.tar").digest() == _plan("/b/0.tar").digest()


@pytest.mark.parametrize(("annotated", "skipped"), [(1, {}), (2, {"x": 1})])
def test_a_commit_that_loses_or_invents_an_instance_is_refused(annotated: int, skipped: dict) -> None:
    with pytest.raises(ValidationError, match="accounts for"):
        ShardCommit(
            plan_digest=SHA,
            index=0,
            source_sha256=SHA,
            sha256=SHA,
            size_bytes=1,
            planned=2,
            annotated=annotated,
            skipped=skipped,
            quarantined={},
            quarantine=(),
            figures={},
        )


def _instance(**changes) -> dict:
    return {
        "annotation_id": "1",
        "bbox_xywh": (0, 0, 5, 5),
        "skeleton": "coco17",
        "joints_img": ((1, 1),) * 17,
        "joints_valid": (True,) * 17,
    } | changes


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"skeleton": "cat9"}, "cat9"),
        ({"joints_img": ((1, 1),) * 16}, "16 rows"),
        ({"bbox_xywh": (0, 0, 0, 5)}, "no area"),
        ({"bbox_xywh": (0, 0, math.nan, 5)}, "finite"),
        ({"colour": 1}, "colour"),
    ],
)
def test_bad_instances_are_named(changes: dict, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Instance(**_instance(**changes))


def test_sample_round_trip_and_unsafe_keys() -> None:
    sample = Sample(key="000_a-1", dataset="coco", image_path="a/b.jpg", width=5, height=6, instances=(Instance(**_instance()),))
    assert Sample.from_bytes(sample.to_bytes()) == sample
    with pytest.raises(ValidationError, match="key"):
        Sample(key="../x", dataset="coco", image_path="a", width=5, height=6, instances=())
