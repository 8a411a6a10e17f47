"""Disks that are full, read-only or limited: a clear error, nothing half written, and on it goes when there is room."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.disk import disk_errors, reserve
from engine.errors import StorageError
from engine.storage import Store

REPO = Path(__file__).resolve().parents[2]
# Runs in a mount namespace of its own: its small disk is gone when it ends, however it ends.
SMALL_DISK = """
import re, subprocess, sys
from pathlib import Path
from engine.errors import StorageError
from engine.shards.reader import ShardSet
from engine.shards.staging import Staging
from engine.storage import Store
from schemas.manifests import ShardEntry, ShardPlan, ShardSetManifest
from schemas.records import sha256_hex

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
big, digest = bytes(2 << 20), "0" * 64
remote = Store("memory://disk")
remote.create("big.tar", big)
entry = ShardEntry(path="big.tar", sha256=sha256_hex(big), size_bytes=len(big), samples=1, instances=1, index_path="i", index_sha256=digest)
manifest = ShardSetManifest(
    dataset="d", split="s", supervision="itw2d", shards=(entry,), samples=1, instances=1, found_instances=1, skipped={}, quarantined={},
    quarantine=(), raw_digest=digest, config_digest=digest, created_at="",
)
shards = ShardSet("memory://disk", manifest)
plan = ShardPlan(index=0, url="memory://disk/big.tar", sha256=entry.sha256, size_bytes=len(big), samples=1, instances=1)

def stage(folder):
    with Staging(str(folder)).open(plan) as data:
        return len(data)

def refused(action, pattern):
    try:
        action()
    except StorageError as error:
        assert re.search(pattern, str(error)), str(error)
    else:
        raise AssertionError(f"expected {pattern}")

def files():
    return [path for path in disk.rglob("*") if path.is_file()]

store = Store(str(disk))
full = r"the disk is full: 2097152 bytes needed, \\d+ bytes free"
refused(lambda: store.create("a/big", big), rf"{disk}/a/big: {full}; make room")
refused(lambda: stage(disk / "staged"), rf"{disk}/staged: {full}; .*`staging`")
refused(lambda: shards.local_path(entry, disk / "cache"), rf"{disk}/cache: {full}")
assert files() == [], files()
store.create("a/small", b"fits")
store.swap("a/small", b"fits", b"more")
refused(lambda: store.swap("a/small", b"more", big), "the disk is full")
assert store.list() == ["a/small"] and store.get("a/small") == b"more"
subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
store.create("a/big", big)
assert stage(disk / "staged") == shards.local_path(entry, disk / "cache").stat().st_size == len(big)
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
refused(lambda: store.create("b", b"-"), rf"{disk}/b: the file system is read-only; make room")
refused(lambda: store.swap("a/small", b"more", b"less"), "the file system is read-only")
refused(lambda: store.delete("a/small"), "the file system is read-only")
refused(lambda: store.clear("a"), "the file system is read-only")
refused(lambda: stage(disk / "staged"), rf"{disk}/staged: the file system is read-only; .*`staging`")
assert store.get("a/small") == b"more" and store.get("a/big") == big
print("done")
"""


def test_a_small_disk(tmp_path: Path) -> None:
    isolated = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "mount", "-t", "tmpfs", "tmpfs", tmp_path]).returncode:
        pytest.skip("this system does not let a test mount a disk of its own")
    ended = subprocess.run([*isolated, sys.executable, "-c", SMALL_DISK, tmp_path], cwd=REPO, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def _write_too_much(root: str, results: multiprocessing.Queue) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        Store(root).create("key", bytes(2000))
    except StorageError as error:
        results.put(str(error))


def test_a_limit_on_files_leaves_nothing_behind(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_write_too_much, args=(str(tmp_path), results))
    child.start()
    assert "key: larger than this process or file system may write: 2000 bytes needed" in results.get(timeout=60)
    child.join()
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path, 1, "-"):
        (tmp_path / "absent").read_bytes()
    with open(tmp_path / "file", "wb") as file:
        reserve(file.fileno(), 10_000, tmp_path, "-")
    assert (tmp_path / "file").stat().st_size == 10_000
