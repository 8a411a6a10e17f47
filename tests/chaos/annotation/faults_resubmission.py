"""The same job again: finished, it does nothing (R13); with anything changed, it takes nothing of the old (R14)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.releases.commit import commit_shard, make_commit
from engine.releases.tables import encode
from engine.storage import Store
from schemas.manifests import AnnotationPlan, ShardEntry, ShardPlan, ShardSetManifest
from schemas.records import sha256_hex
from tests.chaos.annotation.arena import Arena, commits
from tests.chaos.annotation.checker import Bucket
from tests.chaos.annotation.row import Row
from tests.chaos.annotation.submission import REPO
from tests.chaos.annotation.world import write_world
from tests.engine.releases.conftest import make_rows

MOST_S = 5.0
"""A finished job of 10,000 shards may take so long to find that out."""


def r13_finished(arena: Arena) -> list[Row]:
    """A finished job of 10,000 shards is submitted again: no worker, no network, not a byte written.

    Its shards are committed by the engine's own functions, without images; a tar that is not there would be missed if it were wanted.
    """
    shards = 200 if arena.small else 10_000
    memory = Path("/dev/shm")
    folder = memory / f"chaos-{arena.token}" if not arena.small and memory.is_dir() else Path(arena.new("finished"))
    try:
        return [_finished(arena, folder, shards)]
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def _finished(arena: Arena, folder: Path, shards: int) -> Row:
    world = _promise_shards(str(folder / "world"), shards)
    config = arena.config(world, str(folder / "out"))
    no_ray = {"RAY_ADDRESS": "127.0.0.1:1"}
    planned = arena.run(config, [{"point": "after_plan", "action": "kill", "times": 1}], environment=no_ray)
    assert planned.poll() == -signal.SIGKILL, planned.output
    (plan_key,) = (key for key in Bucket(config["out"]).keys("runs/") if key.endswith("plan.json"))
    store = Store(config["out"])
    plan = AnnotationPlan.from_bytes(store.get(plan_key))
    digest = plan.digest()
    for shard in plan.shards:
        _commit(store, digest, shard)
    published = arena.run(config, environment=no_ray)
    assert published.poll() == 0, published.output
    before = _everything(folder)
    imports_s = _timed(lambda: subprocess.run([sys.executable, "jobs/annotate.py", "--help"], cwd=REPO, capture_output=True, check=True))
    begin = time.monotonic()
    again = arena.run(config, [{"point": "predict", "action": "note"}], environment=no_ray, alone=True)
    seconds = time.monotonic() - begin
    written = {path for path, stamp in _everything(folder).items() if before.get(path) != stamp}
    calls = len(again.fired("predict"))
    good = again.poll() == 0 and "nothing to do" in again.output and not written and not calls and (seconds < MOST_S or arena.small)
    note = f"{shards} shards: {seconds:.1f} s, of which {imports_s:.1f} s are those of --help; "
    note += f"{calls} inference calls, {len(written)} writes"
    note += "" if again.poll() == 0 else f"; {again.message}"
    found_commits = len(commits(config))
    figures = {"seconds": round(seconds, 2), "help_s": round(imports_s, 2), "commits": found_commits}
    return Row("R13 finished, submitted again", 1, int(good), 0, len(written), note, round(seconds, 1), figures)


def _timed(work: Any) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _promise_shards(url: str, shards: int) -> str:
    """A shard set's manifest whose tars are nowhere."""
    entries = tuple(
        ShardEntry(
            path=f"shards/{i:06d}.tar",
            sha256=sha256_hex(f"tar {i}".encode()),
            size_bytes=10240,
            samples=1,
            instances=1,
            index_path=f"shards/{i:06d}.index.jsonl",
            index_sha256=sha256_hex(f"index {i}".encode()),
        )
        for i in range(shards)
    )
    manifest = ShardSetManifest(
        dataset="coco", split="train", supervision="itw2d", shards=entries, samples=shards, instances=shards, found_instances=shards,
        skipped={}, quarantined={}, quarantine=(), raw_digest=sha256_hex(b"raw"), config_digest=sha256_hex(b"config"),
        created_at="2025-01-01T00:00:00+00:00",
    )  # fmt: skip
    Store(url).create("manifest.json", manifest.to_bytes())
    return url


def _commit(store: Store, plan_digest: str, shard: ShardPlan) -> None:
    table = make_rows(shard.index, persons=1)
    data = encode(table)
    commit_shard(store, make_commit(plan_digest, shard, data, table, ()), data)


def _everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> when content and inode changed last, of every file and folder."""
    return {str(path): ((stat := path.stat()).st_mtime_ns, stat.st_ctime_ns) for path in folder.rglob("*")}


def r14_changed(arena: Arena) -> list[Row]:
    """Config, model, input or code are changed in a store that holds a finished run: another plan, nothing reused, the change is named."""
    shards, images = (3, 6) if arena.small else (6, 40)
    begin, world = time.monotonic(), arena.world(shards, images)
    config = arena.config(world, arena.new("changed"))
    assert arena.run(config).poll() == 0
    old = {Path(key).parts[1] for key in commits(config)}
    params = arena.folder / "params.json"
    params.write_text(json.dumps({"pose": [0.1] * 72, "betas": [0.0] * 10}))
    other = write_world(arena.new("other"), shards, images + 1)
    changes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "batch_size": (config | {"batch_size": 7}, {}),
        "annotator": (config | {"mean_pose": config["mean_pose"] | {"params": str(params)}}, {}),
        "shard_set": (config | {"shard_set": other}, {}),
        "rows_version": (config, {"constants": {"engine.fanout.plan:ROWS_VERSION": 99}}),
    }
    unnamed, reused = [], []
    for what, (changed, driver) in changes.items():
        dry = arena.run(changed | {"dry_run": True}, **driver)
        digest = dry.output.split("plan ")[1][:64] if "plan " in dry.output else ""
        if dry.poll() != 0 or not digest or digest in old or f"0 of {shards} shards are committed" not in dry.output:
            reused.append(f"{what}: {dry.message}")
        elif what not in dry.output.replace(str(changed["shard_set"]), ""):
            unnamed.append(what)
    renewed = arena.run(changes["annotator"][0], [{"point": "before_object", "action": "note"}])
    done = {event["detail"] for event in renewed.fired("before_object-note")}
    found = arena.check(changes["annotator"][0])
    again = renewed.poll() == 0 and len(done) == shards and found["version"] == 2 and not found["problems"]
    lost, duplicated = len(found["lost"]), len(found["duplicated"])
    seconds = round(time.monotonic() - begin, 1)
    kept = len(changes) - len(reused) if again else 0
    note = "; ".join(reused) or f"{', '.join(changes)}: each another plan; a changed annotator did all {shards} shards anew"
    note += "" if again else f"; exit {renewed.poll()}: {renewed.message}; {len(done)} shards done; {found['problems'][:2]}"
    told = f"not named: {', '.join(unnamed)}" if unnamed else "each change is named"
    return [
        Row("R14 changed, nothing reused", len(changes), kept, lost, duplicated, note, seconds),
        Row("R14 the change is named", len(changes), len(changes) - len(unnamed) - len(reused), 0, 0, told),
    ]
