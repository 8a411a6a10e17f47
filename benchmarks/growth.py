"""What a driver pays for a release of a hundred thousand shards and a hundred million persons: seconds and memory.

The rows themselves are simulated (files of the right size with nothing in them, and records as workers write them, 0.5 % of the persons
quarantined); everything else is what the annotation job and a check of its release do, in one fresh process. The reference is what
we allow ourselves: two minutes and 2 GiB.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.fanout.plan import pending_shards
from engine.releases.commit import load_commits, save_plan
from engine.releases.figures import FIGURES
from engine.releases.publish import draft_release, publish
from engine.releases.store import commit_key, object_key, open_release
from engine.releases.verify import verify_release
from engine.storage import Store
from schemas.manifests import AnnotationPlan, Histogram, QuarantineRow, ShardCommit, ShardPlan
from schemas.records import sha256_hex

SHARDS, PERSONS, QUARANTINED = 100_000, 1_000, 5
ROW_BYTES = 520
BUDGET_S, BUDGET_GIB = 120.0, 2.0
T = TypeVar("T")


def measure() -> list[dict[str, Any]]:
    """Two rows: seconds of plan, commit and verify, and the peak of the process's memory."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(simulate, folder, make_plan(SHARDS)).result()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as driver:  # what simulating took is not the driver's
            steps, peak_gib = driver.submit(drive, folder, SHARDS).result()
    seconds = sum(steps.values())
    each = ", ".join(f"{name} {value:.1f}" for name, value in steps.items())
    what = f"{SHARDS} shards and {SHARDS * PERSONS} persons, simulated, local store"
    return [
        {"name": "growth_seconds", "ours": seconds, "reference": BUDGET_S, "ratio": BUDGET_S / seconds, "unit": f"s, {what} ({each})"},
        {"name": "growth_gib", "ours": peak_gib, "reference": BUDGET_GIB, "ratio": BUDGET_GIB / peak_gib, "unit": f"GiB, {what}"},
    ]


def drive(folder: str, shards: int) -> tuple[dict[str, float], float]:
    """Seconds by step of a job that finds every shard committed, publishes and verifies; and GiB at the peak of this process."""
    steps: dict[str, float] = {}

    def timed(name: str, step: Callable[..., T], *given: Any) -> T:
        began = time.perf_counter()
        result = step(*given)
        steps[name] = time.perf_counter() - began
        return result

    store = Store(folder)
    plan = timed("plan", make_plan, shards)
    timed("save plan", save_plan, store, plan)
    commits = timed("load commits", load_commits, store, plan)
    assert not pending_shards(plan, commits)
    draft = timed("draft", draft_release, "grown", plan, commits, "open", lineage(plan))
    timed("publish", publish, store, draft)
    release = timed("open", open_release, folder, "grown")
    assert release.manifest.planned == shards * PERSONS
    timed("verify", verify_release, release, False)
    return steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def simulate(folder: str, plan: AnnotationPlan) -> None:
    """The records and objects that workers leave of a plan, written without the care that workers take of crashes."""
    root, digest, rng = Path(folder), plan.digest(), np.random.default_rng(0)
    for first in range(256):
        (root / "objects" / f"{first:02x}").mkdir(parents=True)
    (root / commit_key(digest, 0)).parent.mkdir(parents=True)
    rows = PERSONS - QUARANTINED
    counts = {n: [rng.multinomial(rows, rng.dirichlet(np.ones(len(e) + 1))) for _ in range(50)] for n, e in FIGURES.items()}
    for shard in plan.shards:
        figures = {n: Histogram(counts=counts[n][shard.index % 50].tolist(), sum=float(rng.uniform(0, rows))) for n in FIGURES}
        commit = make_record(digest, shard, figures)
        (root / commit_key(digest, shard.index)).write_bytes(commit.to_bytes())
        with open(root / object_key(commit.sha256), "wb") as file:
            os.truncate(file.fileno(), commit.size_bytes)


def make_record(digest: str, shard: ShardPlan, figures: dict[str, Histogram]) -> ShardCommit:
    """A shard's record with rows of its own in the quarantine."""
    why = {"reason": "undecodable", "message": "the image is damaged: its data ends after 12345 of 99999 bytes"}
    names = ((f"{shard.index:08d}{i:04d}", f"{shard.index}{i}") for i in range(QUARANTINED))
    quarantine = tuple(QuarantineRow(dataset="simulated", key=key, annotation_id=person, **why) for key, person in names)
    rows = PERSONS - QUARANTINED
    return ShardCommit(
        plan_digest=digest,
        index=shard.index,
        source_sha256=shard.sha256,
        sha256=sha256_hex(f"rows {shard.index}".encode()),
        size_bytes=rows * ROW_BYTES,
        planned=PERSONS,
        annotated=rows,
        skipped={},
        quarantined={"undecodable": QUARANTINED},
        quarantine=quarantine,
        figures=figures,
    )


def make_plan(shards: int) -> AnnotationPlan:
    """A plan of shards of a thousand persons."""
    digest = sha256_hex(b"simulated")
    return AnnotationPlan(
        dataset="simulated",
        split="train",
        shard_set_digest=digest,
        annotator="simulated",
        annotator_digest=digest,
        body_digest=digest,
        prior_digest=None,
        settings={"batch_size": 64},
        shards=tuple(
            ShardPlan(
                index=i,
                url=f"s3://bucket/simulated/shards/{i:06d}.tar",
                sha256=sha256_hex(f"shard {i}".encode()),
                size_bytes=10**8,
                samples=PERSONS // 2,
                instances=PERSONS,
            )
            for i in range(shards)
        ),
    )


def lineage(plan: AnnotationPlan) -> dict[str, str]:
    return {"shard_set": plan.shard_set_digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
