"""Shards on the worker's own disk: exact, checked, and gone with the process that staged them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from engine.errors import MissingInput, ShardCorrupt, StorageError
from engine.shards.ingest import ingest
from engine.shards.reader import ShardSet, open_shard_set, read_samples, read_verified_samples
from engine.shards.staging import Staging
from schemas.manifests import ShardEntry, ShardPlan


def _plan(shard_set: ShardSet, entry: ShardEntry) -> ShardPlan:
    values = entry.model_dump(include={"sha256", "size_bytes", "samples", "instances"})
    return ShardPlan(index=0, url=shard_set.shard_url(entry), **values)


@pytest.fixture(params=["file", "memory", "s3"])
def shard_set(request: pytest.FixtureRequest, coco, ingest_config, tmp_path: Path) -> ShardSet:
    out = {"file": "out", "memory": f"memory://staged-{tmp_path.name}"}.get(request.param) or request.getfixturevalue("s3_url")
    config = ingest_config(coco(4), out=out)
    ingest(config)
    return open_shard_set(config.out)


def test_a_staged_shard_is_the_shard(shard_set: ShardSet, tmp_path: Path) -> None:
    staging, folder = Staging(str(tmp_path / "staged" / "here")), tmp_path / "staged" / "here"
    for entry in shard_set.manifest.shards:
        with staging.open(_plan(shard_set, entry)) as data:
            assert data[:] == shard_set.fetch(entry)
            samples = read_verified_samples(data, entry)
            with pytest.raises(TypeError):
                data[0] = 0
            assert not folder.exists() or list(folder.iterdir()) == []
        assert data.closed
        assert samples == read_samples(shard_set.fetch(entry), entry)
        assert {type(image) for _, image in samples} == {bytes}
    assert folder.exists() == (shard_set.store.protocol != "file")


def test_any_buffer_is_read_and_a_kept_view_does_no_harm(shard_set: ShardSet, tmp_path: Path) -> None:
    entry = shard_set.manifest.shards[0]
    expected = read_samples(shard_set.fetch(entry), entry)
    with Staging(str(tmp_path)).open(_plan(shard_set, entry)) as data:
        view = memoryview(data)
        assert read_samples(view, entry) == read_samples(data, entry) == expected
    assert bytes(view) == shard_set.fetch(entry)


def test_damage_is_seen(shard_set: ShardSet, tmp_path: Path) -> None:
    entry, other = shard_set.manifest.shards
    data, staging = shard_set.fetch(entry), Staging(str(tmp_path / "staged"))
    for damaged, message in (
        (data[:-1] + b"x", "expected sha256"),
        (data[:-512], f"expected {len(data)} bytes, found {len(data) - 512}"),
        (data + b"more", f"expected {len(data)} bytes, found"),
    ):
        shard_set.store.delete(entry.path)
        shard_set.store.create(entry.path, damaged)
        with pytest.raises(ShardCorrupt, match=message), staging.open(_plan(shard_set, entry)):
            pass
    shard_set.store.delete(other.path)
    with pytest.raises(MissingInput, match=other.path), staging.open(_plan(shard_set, other)):
        pass
    assert not (tmp_path / "staged").exists() or list((tmp_path / "staged").iterdir()) == []


def test_a_folder_that_is_none_is_named(coco, ingest_config, tmp_path: Path) -> None:
    config = ingest_config(coco(2), out=f"memory://none-{tmp_path.name}")
    ingest(config)
    shard_set = open_shard_set(config.out)
    (tmp_path / "file").write_bytes(b"-")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        staged = Staging(str(folder)).open(_plan(shard_set, shard_set.manifest.shards[0]))
        with pytest.raises(StorageError, match=r"file.*: expected a folder.*`staging`"), staged:
            pass


def _stage_and_wait(shard_set: ShardSet, folder: str, ready: Connection) -> None:
    with Staging(folder).open(_plan(shard_set, shard_set.manifest.shards[0])) as data:
        held = [line for line in Path("/proc/self/maps").read_text().splitlines() if folder in line and line.endswith("(deleted)")]
        ready.send((len(data), len(held)))
        signal.pause()


def test_a_killed_process_leaves_nothing(shard_set: ShardSet, tmp_path: Path) -> None:
    if shard_set.store.protocol == "file":
        pytest.skip("a local shard is not copied")
    folder = tmp_path / "staged"
    context = multiprocessing.get_context("fork")
    ready, theirs = context.Pipe()
    child = context.Process(target=_stage_and_wait, args=(shard_set, str(folder), theirs))
    child.start()
    assert ready.recv() == (shard_set.manifest.shards[0].size_bytes, 1)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert list(folder.iterdir()) == []
