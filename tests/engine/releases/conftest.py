"""Small releases made by hand: rows of random numbers, committed and published through the real store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.releases.commit import commit_shard, make_commit, save_plan
from engine.releases.publish import ReleaseDraft, draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.storage import Store
from schemas.manifests import AnnotationPlan, QuarantineRow, ShardPlan
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex


def digest_of(word: str) -> str:
    return sha256_hex(word.encode())


def make_plan(shards: int = 3, persons: int = 4, word: str = "plan") -> AnnotationPlan:
    """Each shard has `persons` instances to annotate and one that is quarantined."""
    return AnnotationPlan(
        dataset="coco",
        split="train",
        shard_set_digest=digest_of(word),
        annotator="mean_pose",
        annotator_digest=digest_of("annotator"),
        body_digest=digest_of("body"),
        prior_digest=None,
        settings={"batch_size": 64},
        shards=tuple(
            ShardPlan(index=i, url=f"file:///x/{i}.tar", sha256=digest_of(f"{word} {i}"), size_bytes=10, samples=2, instances=persons + 1)
            for i in range(shards)
        ),
    )


def make_rows(shard: int, persons: int) -> pa.Table:
    rng = np.random.default_rng(shard)
    rows = []
    for i in range(persons):
        row = {
            name: rng.normal(size=n)
            for name, n in (("bbox_xywh", 4), ("pose", 72), ("betas", 10), ("transl", 3), ("focal", 2), ("princpt", 2))
        }
        row |= {"dataset": "coco", "key": f"image_{shard}_{i // 2}", "annotation_id": str(i), "latent": np.full(32, np.nan)}
        row |= {
            "reprojection_error": 0.01 * i,
            "visible_fraction": 1.0,
            "keypoint_similarity": 0.9,
            "valid_joints": 17 if i else 0,
            "latent_norm": np.nan,
            "flip_disagreement": np.nan,
            "truncation": 0.0,
        }
        rows.append(row | {"score": rng.uniform() if i else 0.0})
    return pa.Table.from_pylist(rows, schema=PSEUDO_GT_SCHEMA)


def commit_all(store: Store, plan: AnnotationPlan, persons: int = 4) -> ReleaseDraft:
    """Commit every shard of a plan; the draft of its release."""
    save_plan(store, plan)
    commits = {}
    for shard in plan.shards:
        quarantine = (
            QuarantineRow(dataset="coco", key=f"bad_{shard.index}", annotation_id="9", reason="undecodable", message="cut short"),
        )
        table = make_rows(shard.index, persons)
        data = encode(table)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, table, quarantine), data).commit
    lineage = {"shard_set": plan.shard_set_digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
    return draft_release("rel", plan, commits, "open", lineage)


def redated(draft: ReleaseDraft, created_at: str) -> ReleaseDraft:
    """The same release, drafted at another time."""
    return replace(draft, manifest=draft.manifest.model_copy(update={"created_at": created_at}))


@pytest.fixture
def make_release() -> Callable[..., Release]:
    def make(store: Store, **plan: object) -> Release:
        return publish(store, commit_all(store, make_plan(**plan)))

    return make


@pytest.fixture(params=("memory", "file", "s3"))
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    if request.param == "memory":
        return Store(f"memory://{tmp_path.name}-{id(tmp_path)}")
    if request.param == "file":
        return Store(f"file://{tmp_path}/root")
    return Store(request.getfixturevalue("s3_url"))


@pytest.fixture
def local_store(tmp_path) -> Store:
    return Store(str(tmp_path / "root"))
