"""Releases for pages: rows of numbers alone, as many and as hostile as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from engine.body.smpl import Body
from engine.releases.commit import commit_shard, make_commit
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.storage import Store
from schemas.manifests import AnnotationPlan, QuarantineRow, ShardPlan
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex

FAR_BEHIND = (0.0, 0.0, -20.0)
"""A translation that leaves nothing to draw, so that ten thousand tiles cost next to nothing."""


def make_rows(names: Sequence[tuple[str, str]], datasets: Sequence[str] = ("made",), seed: int = 0, transl=FAR_BEHIND) -> pa.Table:
    """Rows with these keys and ids; every figure random, some NaN, some scores alike."""
    rng, count = np.random.default_rng(seed), len(names)
    lengths = {f.name: f.type.list_size for f in PSEUDO_GT_SCHEMA if pa.types.is_fixed_size_list(f.type)}
    vectors = {name: rng.normal(0, 0.1, (count, n)).astype(np.float32) for name, n in lengths.items()}
    vectors["transl"][:] = transl
    vectors["bbox_xywh"][:] = (20, 10, 60, 100)
    vectors["focal"][:], vectors["princpt"][:] = 2000, (50, 60)
    columns: dict[str, object] = {name: pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), v.shape[1]) for name, v in vectors.items()}
    for field in PSEUDO_GT_SCHEMA:
        if field.type == pa.float32():
            columns[field.name] = rng.uniform(0, 1, count).round(2).astype(np.float32)
    columns["flip_disagreement"] = np.where(rng.random(count) < 0.3, np.nan, rng.uniform(0, 0.4, count)).astype(np.float32)
    columns["valid_joints"] = np.full(count, 17, np.int16)
    columns["dataset"] = [datasets[i % len(datasets)] for i in range(count)]
    columns["key"], columns["annotation_id"] = ([name[i] for name in names] for i in range(2))
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if not isinstance(columns[f.name], pa.Array) else columns[f.name].cast(f.type)
        for f in PSEUDO_GT_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=PSEUDO_GT_SCHEMA)


def publish_rows(
    url: str, shards: Sequence[pa.Table], body: Body, word: str = "one", name: str = "made", quarantine: Sequence[QuarantineRow] = ()
) -> Release:
    """A release of these rows, one table a shard; what is quarantined belongs to the first."""
    store = Store(url)
    failed = [sum(row.instances for row in quarantine) if i == 0 else 0 for i in range(len(shards))]
    plans = tuple(
        ShardPlan(index=i, url="", sha256=sha256_hex(f"shard {i}".encode()), size_bytes=9, samples=1, instances=len(rows) + failed[i])
        for i, rows in enumerate(shards)
    )
    digest = sha256_hex(b"any")
    plan = AnnotationPlan(
        dataset="made", split="test", shard_set_digest=digest, annotator="any", annotator_digest=sha256_hex(word.encode()),
        body_digest=body.digest, prior_digest=None, settings={"word": word}, shards=plans,
    )  # fmt: skip
    commits = {}
    for shard, rows in zip(plans, shards, strict=True):
        data = encode(rows)
        commit = make_commit(plan.digest(), shard, data, rows, tuple(quarantine) if shard.index == 0 else ())
        commits[shard.index] = commit_shard(store, commit, data).commit
    return publish(store, draft_release(name, plan, commits, body.name, {"shard_set": digest, "body": body.digest}))
