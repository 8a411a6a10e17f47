"""What a release of a million persons costs those who work with it: to compare two that differ in every row, and to derive a part.

Rows are simulated, of the true columns and sizes, a thousand persons a shard; the objects, records and manifests are real. The reference is
what we allow ourselves: a minute and 2 GiB for a diff with millimetres of every person, ten seconds for a filter. Each is measured from
opening the releases on, in a process of its own. `other_shards`: the same persons in shards that were cut elsewhere.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa

from engine.body.body_files import arrays_digest, open_arrays
from engine.releases.commit import commit_shard, make_commit, save_plan
from engine.releases.derive import derive
from engine.releases.diff import CHANGED, diff_rows
from engine.releases.expressions import Expression
from engine.releases.publish import draft_release, publish
from engine.releases.store import open_release
from engine.releases.tables import encode
from engine.storage import Store
from schemas.manifests import AnnotationPlan, ShardPlan
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex

NAME, SHARDS, PERSONS = "simulated", 1_000, 1_000
BUDGETS = {"diff": (60.0, 2.0), "diff_other_shards": (60.0, 2.0), "derive": (10.0, 2.0)}
"""Seconds and GiB."""
_SPREAD = {"pose": 0.3, "betas": 0.8, "latent": 1.0, "bbox_xywh": 100.0}


def measure() -> list[dict[str, Any]]:
    """Seconds and GiB of each."""
    rows = []
    what = f"{SHARDS * PERSONS} persons in {SHARDS} shards, simulated, local store"
    with tempfile.TemporaryDirectory(prefix="releases-") as folder:
        one, other = f"{folder}/one", f"{folder}/other"
        _alone(simulate, one, 0, 0)
        rows += _rows("derive", what, *_alone(take_part, one))
        for seed, (name, shift) in enumerate({"diff": 0, "diff_other_shards": PERSONS // 2}.items(), 1):
            _alone(simulate, other, seed, shift)
            rows += _rows(name, what, *_alone(compare, one, other))
            shutil.rmtree(other)  # another half a gigabyte otherwise
    return rows


def _alone(step: Callable[..., Any], *given: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(step, *given).result()


def _rows(name: str, what: str, seconds: float, gib: float) -> list[dict[str, Any]]:
    found = zip(("seconds", "gib"), (seconds, gib), BUDGETS[name], ("s", "GiB"), strict=True)
    return [
        {"name": f"releases_{name}_{kind}", "ours": ours, "reference": most, "ratio": most / ours, "unit": f"{unit}, {what}"}
        for kind, ours, most, unit in found
    ]


def compare(a: str, b: str) -> tuple[float, float]:
    """Seconds and GiB of a diff in which everybody has changed."""
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    for table in diff_rows(open_release(a, NAME), open_release(b, NAME)):
        counts.update(table["change"].to_pylist())
        assert np.isfinite(table["mm"].to_numpy()).all()
    assert counts == {CHANGED: SHARDS * PERSONS}, counts
    return time.perf_counter() - began, _peak_gib()


def take_part(root: str) -> tuple[float, float]:
    """Seconds and GiB of deriving the better half."""
    began = time.perf_counter()
    part = derive(open_release(root, NAME), "part", Expression("score > 0.5 and valid_joints >= 8", "truth"))
    seconds = time.perf_counter() - began
    assert 0 < part.manifest.annotated < SHARDS * PERSONS
    return seconds, _peak_gib()


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def simulate(root: str, seed: int, shift: int) -> None:
    """A release of SHARDS shards whose persons are everywhere the same; numbers depend on the seed, where shards begin on the shift."""
    store, rng = Store(root), np.random.default_rng(seed)
    total = SHARDS * PERSONS
    cuts = [0, *range(PERSONS - shift, total, PERSONS), total] if shift else list(range(0, total + 1, PERSONS))
    digest = sha256_hex(b"simulated")
    shards = tuple(
        ShardPlan(index=i, url="", sha256=sha256_hex(f"{shift} {i}".encode()), size_bytes=1, samples=1, instances=end - start)
        for i, (start, end) in enumerate(pairwise(cuts))
    )
    plan = AnnotationPlan(
        dataset="simulated",
        split="train",
        shard_set_digest=digest,
        annotator="simulated",
        annotator_digest=sha256_hex(f"{seed}".encode()),
        body_digest=arrays_digest(open_arrays()),
        prior_digest=None,
        settings={"batch_size": 64},
        shards=shards,
    )
    save_plan(store, plan)
    commits = {}
    for shard, start in zip(shards, cuts, strict=False):
        rows = make_rows(rng, start, shard.instances)
        data = encode(rows)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, rows, ()), data).commit
    lineage = {"shard_set": digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
    publish(store, draft_release(NAME, plan, commits, "open", lineage))


def make_rows(rng: np.random.Generator, start: int, count: int) -> pa.Table:
    """Rows of random persons, with names by their number."""
    numbers = range(start, start + count)
    columns: dict[str, Any] = {
        "dataset": ["simulated"] * count,
        "key": [f"{i // 2:012d}" for i in numbers],
        "annotation_id": [f"{i:08d}" for i in numbers],
        "valid_joints": rng.integers(0, 18, count),
    }
    for field in PSEUDO_GT_SCHEMA:
        if pa.types.is_fixed_size_list(field.type):
            flat = rng.standard_normal(count * field.type.list_size, np.float32) * np.float32(_SPREAD.get(field.name, 1))
            flat += {"transl": 30, "focal": 3000}.get(field.name, 0)
            columns[field.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type)
        elif field.name not in columns:
            columns[field.name] = rng.random(count, np.float32)
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, f.type) for f in PSEUDO_GT_SCHEMA for c in (columns[f.name],)]
    return pa.Table.from_arrays(arrays, schema=PSEUDO_GT_SCHEMA)
