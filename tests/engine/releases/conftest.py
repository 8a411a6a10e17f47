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


def random_rows(seed: int, persons: int, first: int = 0, dataset: str = "coco") -> pa.Table:
    """Rows of plausible bodies, two persons a photograph, sorted by name. The figures are few values, NaN among them."""
    rng = np.random.default_rng(seed)
    sizes = {"bbox_xywh": 4, "pose": 72, "betas": 10, "transl": 3, "focal": 2, "princpt": 2, "latent": 32}
    columns = {name: list(rng.normal(0, 0.4, (persons, n)).astype(np.float32)) for name, n in sizes.items()}
    columns["transl"] = [values + np.float32([0, 0, 30]) for values in columns["transl"]]
    columns["focal"] = [np.abs(values) + 3000 for values in columns["focal"]]
    names = [(f"{(first + i) // 2:06d}", str(first + i)) for i in range(persons)]
    names.sort()
    columns |= {"dataset": [dataset] * persons, "key": [key for key, _ in names], "annotation_id": [person for _, person in names]}
    columns["valid_joints"] = rng.integers(0, 3, persons) * 6
    for name in ("reprojection_error", "visible_fraction", "keypoint_similarity", "latent_norm", "flip_disagreement"):
        columns[name] = rng.choice([0.0, 0.25, 0.5, np.nan], persons)
    for name in ("truncation", "score"):
        columns[name] = rng.choice([0.0, 0.25, 0.5, 1.0], persons)
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in PSEUDO_GT_SCHEMA], schema=PSEUDO_GT_SCHEMA)


def publish_tables(
    store: Store, name: str, tables: dict[str, pa.Table], annotator: str = "annotator", body: str = "", missing: int = 1
) -> Release:
    """A release whose shards are image shards named by a word, each with these rows and `missing` persons quarantined."""
    plan = make_plan(shards=0, word=" ".join(tables))
    shards = tuple(
        ShardPlan(index=i, url="", sha256=digest_of(word), size_bytes=10, samples=2, instances=len(rows) + missing)
        for i, (word, rows) in enumerate(tables.items())
    )
    update = {"shards": shards, "annotator_digest": digest_of(annotator), "body_digest": body or plan.body_digest}
    plan = plan.model_copy(update=update)
    save_plan(store, plan)
    lost = (QuarantineRow(dataset="coco", key="lost", reason="undecodable", instances=missing),) if missing else ()
    commits = {}
    for shard, rows in zip(plan.shards, tables.values(), strict=True):
        data = encode(rows)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, rows, lost), data).commit
    lineage = {"shard_set": plan.shard_set_digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
    return publish(store, draft_release(name, plan, commits, "open", lineage))
