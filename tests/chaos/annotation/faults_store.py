"""Stores that throttle, reset, fall silent, are dark for a minute (R4), see writers die half-way (R8), are full or read-only (R9)."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from engine.releases.fsck import collect_garbage, find_orphans
from engine.storage import Store
from schemas.records import sha256_hex
from tests.chaos.annotation.arena import Arena, commits, kill
from tests.chaos.annotation.checker import Bucket, check
from tests.chaos.annotation.row import Row
from tests.chaos.annotation.submission import wait_until
from tests.chaos.annotation.world import write_world
from tests.chaos.faulty_s3 import Arrival, Faults, faulty_s3

BAD_DAY = Faults(slow_down=0.20, reset=0.05, stall=0.02, lost_reply=0.02, stall_s=4.0)
MOST_AMPLIFICATION = 1.5


def r4_bad_store(arena: Arena) -> list[Row]:
    """Input and output on an S3 that throttles, resets, stalls, loses replies and is dark for a while: the same release all the same."""
    shards, images, dark_s = (8, 6, 3.0) if arena.small else (48, 40, 60.0)
    bucket = arena.bucket()
    world = write_world(f"{bucket}/world", shards, images)
    patience = {"PSEUDOGT_STORE_TIMEOUT_S": "2"}
    with faulty_s3(arena.s3) as proxy:
        calm = arena.config(world, f"{bucket}/calm")
        variables = arena.s3_variables(proxy.endpoint) | patience
        assert (job := arena.run(calm, environment=variables)).poll() == 0, job.output
        calm_requests = proxy.counts["arrived"]
    begin = time.monotonic()
    with faulty_s3(arena.s3, BAD_DAY, seed=0) as proxy:
        config = arena.config(world, f"{bucket}/faulty")
        job = arena.submit(config, environment=arena.s3_variables(proxy.endpoint) | patience)
        wait_until(lambda: len(commits(config)) >= shards // 3 or job.poll() is not None, 300, every_s=0.2)
        proxy.outage(dark_s)
        job.wait()
        arrivals, counts = list(proxy.log), proxy.counts
    found, reference = arena.check(config), arena.check(calm)
    dark = [arrival for arrival in arrivals if arrival.fault == "outage"]
    amplification = (len(arrivals) - len(dark)) / calm_requests
    gaps = _gaps(dark)
    backoff = _is_backoff(gaps) or arena.small
    same = job.poll() == 0 and found.get("release_digest") == reference["release_digest"] and not found["problems"]
    good = same and amplification <= MOST_AMPLIFICATION and backoff
    injected = sum(counts[name] for name in ("slow_down", "reset", "stall", "lost_reply", "outage"))
    longest = max((gap for gap in itertools.chain(*gaps)), default=0)
    note = f"{len(arrivals)} requests for {calm_requests}: {amplification:.2f} times, beside {len(dark)} in the {dark_s:g} s of darkness; "
    note += f"pauses grow and differ: {backoff}, the longest {longest:.1f} s; {dict(counts)}"
    if not same:
        note += f"; exit {job.poll()}: {job.message[:300]}; {found['problems'][:3]}"
    lost, duplicated, seconds = len(found["lost"]), len(found["duplicated"]), round(time.monotonic() - begin, 1)
    figures = {"amplification": round(amplification, 3), "longest_pause_s": round(longest, 2)}
    return [Row("R4 a bad store", injected, injected if good else 0, lost, duplicated, note, seconds, figures)]


def _gaps(dark: list[Arrival]) -> list[list[float]]:
    """Seconds between the tries of each request that was tried at least four times while the store was dark."""
    tries: dict[tuple[str, str], list[float]] = {}
    for arrival in dark:
        tries.setdefault((arrival.method, arrival.path), []).append(arrival.time_s)
    return [[b - a for a, b in itertools.pairwise(times)] for times in tries.values() if len(times) >= 4]


def _is_backoff(gaps: list[list[float]]) -> bool:
    """Whether pauses get longer, and differ as only chance makes them."""
    if not gaps:
        return False
    first, later = statistics.mean(gap[0] for gap in gaps), statistics.mean(gap[-1] for gap in gaps)
    every = list(itertools.chain(*gaps))
    return later > 2 * first and statistics.pstdev(every) > 0.2 * statistics.mean(every)


def r8_cut_short(arena: Arena) -> list[Row]:
    """Writers killed in the middle of objects, and between an object and its record: nothing is half there, and what is left is known."""
    kills = 2 if arena.small else 12
    local, remote = arena.new("cut"), arena.bucket()
    sizes = {"small": 200_000, "parts": 48 << 20}
    return [
        _killed_writers(arena, "on a disk", local, kills, sizes["parts"]),
        _killed_writers(arena, "on S3, one request", remote, kills, sizes["small"]),
        _killed_writers(arena, "on S3, in parts", remote, kills, sizes["parts"]),
        _orphans(arena),
    ]


def _killed_writers(arena: Arena, where: str, url: str, kills: int, size: int) -> Row:
    """Processes that create one object after another, each killed at a random moment."""
    rng, begin = random.Random(size), time.monotonic()
    context = multiprocessing.get_context("forkserver")
    variables = arena.s3_variables() if url.startswith("s3://") else {}
    for number in range(kills):
        started = context.Event()
        writer = context.Process(target=_write_on, args=(url, number, size, variables, started))
        writer.start()
        assert started.wait(60)
        time.sleep(rng.uniform(0, 0.5))
        kill(writer.pid)
        writer.join()
    keys = Bucket(url).keys("objects/")
    problems = [problem for problem in check(url, "none")["problems"] if "objects/" in problem]
    whole = f"{len(keys)} objects, all whole"
    if url.startswith("s3://"):
        bucket = url.removeprefix("s3://").partition("/")[0]
        pending = [upload["Key"] for upload in boto3.client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
        listed = _orphaned(url, "upload")
        whole += f"; {len(pending)} uploads in parts begun and never to be seen, fsck lists {len(listed)}"
        if sorted(f"root/{key}" for key in listed) != sorted(pending):
            problems.append(f"uploads begun: {pending}; fsck lists {listed}")
    note = problems[0] if problems else whole
    seconds = round(time.monotonic() - begin, 1)
    return Row(f"R8 killed while writing, {where}", kills, 0 if problems or not keys else kills, 0, 0, note, seconds)


def _write_on(url: str, number: int, size: int, variables: dict[str, str], started: Any) -> None:
    os.environ.update(variables)
    store, block = Store(url), os.urandom(size)
    for turn in itertools.count():
        data = f"{number} {turn}".encode() + block
        digest = sha256_hex(data)
        if turn == 1:
            started.set()
        store.create(f"objects/{digest[:2]}/{digest}.parquet", data)


def _orphans(arena: Arena) -> Row:
    """A driver is killed while objects wait for their records: they are listed as orphans, all of them and nothing else, and collected."""
    world, begin = arena.world(12, 40), time.monotonic()
    calm, config = arena.calm(world), arena.config(world, arena.new("orphans"))
    stuck = [{"point": "after_object", "match": f"{i:06d}", "action": "hang", "times": 1} for i in (1, 2, 3)]
    job = arena.submit(config, stuck)
    assert wait_until(lambda: len(job.fired("after_object-hang")) >= 2, 180), job.output
    job.kill()
    found = arena.check(config)
    waiting = len({event["detail"] for event in job.fired("after_object-hang")})
    problems = [p for p in found["problems"] if "HEAD" not in p]
    listed = _orphaned(config["out"], "object")
    collected = _collects(config["out"], found["orphans"])
    again = arena.run(config)
    after = arena.check(config)
    same = again.poll() == 0 and after.get("release_digest") == calm and not after["problems"]
    exact = len(found["orphans"]) == waiting and not problems
    note = f"{waiting} objects without a record, {len(found['orphans'])} seen; "
    note += f"fsck lists the same: {listed == found['orphans']}; gc took them and nothing else: {collected}"
    if not same or not exact:
        note += f"; exit {again.poll()}: {again.message}; {problems[:2]} {after['problems'][:2]}"
    good = exact and same and collected and listed == found["orphans"]
    seconds = round(time.monotonic() - begin, 1)
    return Row("R8 orphans", waiting, waiting if good else 0, len(after["lost"]), len(after["duplicated"]), note, seconds)


def _orphaned(url: str, kind: str) -> list[str]:
    """What the engine itself lists of a kind: 'object', 'upload', ..."""
    return [orphan.key for orphan in find_orphans(Store(url)) if orphan.kind == kind]


def _collects(url: str, orphans: list[str]) -> bool:
    """Whether the engine's garbage collection takes these objects, and no other one."""
    before = set(Bucket(url).keys("objects/"))
    collect_garbage(Store(url), grace_s=0, dry_run=False)
    return before - set(Bucket(url).keys("objects/")) == set(orphans)


def r9_full_or_read_only(arena: Arena) -> list[Row]:
    """The store's disk is full, or may not be written: a clear error, nothing half written, and the job goes on when that is over."""
    world = arena.world(12, 40)
    calm = arena.calm(world)
    with small_disk(arena.folder / "disk", size_mb=64) as disk:
        if disk is None:
            return [_full_without_a_disk(arena, world, calm)]
        config = arena.config(world, str(disk / "full"))
        ballast = disk / "ballast"
        full = _until_it_is_over(arena, config, "R9 disk full", calm, lambda: _fill(ballast, leave=120_000), ballast.unlink)
        config = arena.config(world, str(disk / "locked"))
        lock, unlock = (lambda: _remount(disk, "ro")), (lambda: _remount(disk, "rw"))
        (disk / "locked").mkdir()
        locked = _until_it_is_over(arena, config, "R9 store read-only", calm, lock, unlock)
    return [full, locked]


def _until_it_is_over(arena: Arena, config: dict[str, Any], title: str, calm: str, begin: Callable[[], Any], end: Callable[[], Any]) -> Row:
    start = time.monotonic()
    begin()
    job = arena.run(config)
    during = check(config["out"], config["name"])
    end()
    again = arena.run(config)
    found = arena.check(config)
    said = job.message
    half = [p for p in during["problems"] if "objects/" in p]
    words = ("disk is full", "bytes needed", "bytes free") if "full" in title else ("read-only",)
    named = job.poll() == 2 and config["out"] in said and all(word in said for word in words)
    same = again.poll() == 0 and found.get("release_digest") == calm and not found["problems"]
    note = f"exit {job.poll()}; path, reason and bytes named: {named}; half objects: {len(half)}; left over: "
    note += f"{len(during['leftovers'])}; afterwards {'the same digest' if same else again.message}; said: {said[:400]}"
    good, seconds = named and not half and same, round(time.monotonic() - start, 1)
    return Row(title, 1, int(good), len(found["lost"]), len(found["duplicated"]), note, seconds)


def _full_without_a_disk(arena: Arena, world: str, calm: str) -> Row:
    """Where this user may not mount: the write of one object fails as on a full disk."""
    config = arena.config(world, arena.new("full"))
    job = arena.run(config, [{"point": "before_object", "match": "000003", "action": "full"}])
    again = arena.run(config)
    found = arena.check(config)
    good = job.poll() == 2 and again.poll() == 0 and found.get("release_digest") == calm and not found["problems"]
    note = f"injected, for this user may not mount a disk: {job.message[:300]}"
    return Row("R9 disk full", 1, int(good), len(found["lost"]), len(found["duplicated"]), note)


@contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[Path | None]:
    """A file system of that size; None where this user may not mount one."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(path)], capture_output=True, check=False)
    try:
        yield path if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(ballast: Path, leave: int) -> None:
    disk = os.statvfs(ballast.parent)
    free = disk.f_bavail * disk.f_frsize
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)
