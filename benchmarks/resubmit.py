"""A finished annotation job submitted again: seconds from the shell's command to its end, at ten thousand shards.

The shard set and the release are simulated as in growth.py; the job is the real one, with Python's start and all imports. It must
infer nothing and write nothing. The reference is what we allow ourselves: five seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.growth import PERSONS, simulate
from engine.annotators.registry import resolve_annotator
from engine.fanout.config import AnnotateConfig
from engine.fanout.plan import lineage, plan_annotation
from engine.releases.commit import load_commits, save_plan
from engine.releases.publish import draft_release, publish
from engine.shards.reader import open_shard_set
from engine.storage import Store
from schemas.manifests import ShardEntry, ShardSetManifest
from schemas.records import sha256_hex

SHARDS, REPEATS = 10_000, 5
BUDGET_S = 5.0
JOB = Path(__file__).resolve().parents[1] / "jobs" / "annotate.py"


def measure() -> list[dict[str, Any]]:
    """The row of bench.json: median seconds of a submission."""
    with tempfile.TemporaryDirectory(prefix="resubmit-") as folder:
        config = finished_job(Path(folder), SHARDS)
        before = set(Store(folder).scan())
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, str(JOB), "--config", config], capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began)
            assert "nothing to do" in done.stdout, done.stdout
        assert set(Store(folder).scan()) == before, "the job wrote something"
    mine = statistics.median(seconds)
    unit = f"s, a finished job of {SHARDS} shards, local store, whole process"
    return [{"name": "resubmit_seconds", "ours": mine, "reference": BUDGET_S, "ratio": BUDGET_S / mine, "unit": unit}]


def finished_job(folder: Path, shards: int) -> str:
    """Path of the config of a job whose release is published."""
    store = Store(str(folder / "out"))
    config = AnnotateConfig(shard_set=str(folder / "set"), annotator="mean_pose", out=store.url, name="finished")
    Store(config.shard_set).create("manifest.json", make_shard_set(shards).to_bytes())
    shard_set = open_shard_set(config.shard_set)
    identity, _ = resolve_annotator(config.annotator, config, config.device)
    plan = plan_annotation(shard_set.manifest, shard_set.digest, shard_set.url, identity, config.computing)
    simulate(store.url, plan)
    save_plan(store, plan)
    made_from = lineage(plan, shard_set.manifest, identity)
    publish(store, draft_release(config.name, plan, load_commits(store, plan), identity.body_name, made_from))
    path = folder / "annotate.yaml"
    path.write_text(f"shard_set: {config.shard_set}\nannotator: mean_pose\nout: {config.out}\nname: {config.name}\n")
    return str(path)


def make_shard_set(shards: int) -> ShardSetManifest:
    """The manifest of a shard set whose shards are nowhere."""
    digest = sha256_hex(b"simulated")
    entries = tuple(
        ShardEntry(
            path=f"shards/{i:06d}.tar",
            sha256=sha256_hex(f"shard {i}".encode()),
            size_bytes=10**8,
            samples=PERSONS // 2,
            instances=PERSONS,
            index_path=f"shards/{i:06d}.jsonl",
            index_sha256=digest,
        )
        for i in range(shards)
    )
    return ShardSetManifest(
        dataset="simulated",
        split="train",
        supervision="itw2d",
        shards=entries,
        samples=shards * PERSONS // 2,
        instances=shards * PERSONS,
        found_instances=shards * PERSONS,
        skipped={},
        quarantined={},
        quarantine=(),
        raw_digest=digest,
        config_digest=digest,
        created_at="2026-01-01T00:00:00+00:00",
    )
