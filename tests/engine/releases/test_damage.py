"""Whatever byte or bit of a release is changed, wherever it lies, verify says so. So does it of files that change places or disappear."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.releases.commit import collect_commits, load_commits
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.store import Release, open_release
from engine.releases.tags import set_tag
from engine.releases.verify import find_problems
from engine.storage import Store
from tests.engine.releases.conftest import commit_all, make_plan

RELEASES = {"rel": 1, "derived": 1}


@pytest.fixture
def release(local_store: Store, make_release: Callable[..., Release]) -> Release:
    """Two versions, the first with a tag; records collected; and a release derived of it."""
    plan = make_plan()
    commit_all(local_store, plan)
    collect_commits(local_store, load_commits(local_store, plan), [0, 1, 2])
    first = make_release(local_store)
    make_release(local_store, word="next", shards=1)
    set_tag(first, "paper")
    derive(first, "derived", Expression("score > 0.3", "truth"))
    return first


def _files(store: Store, release: Release) -> list[Path]:
    """Everything the release consists of, the names that lead to it, and the records behind it."""
    m = release.manifest
    folders = [f"releases/{m.name}", f"runs/{m.plan_digest}"]
    keys = [key for folder in folders for key in store.list(folder) if "/v0002/" not in key]
    keys += [f"objects/{sha256[:2]}/{sha256}.parquet" for sha256 in release.shards["sha256"].to_pylist()]
    return [Path(store.path(key)) for key in keys]


def _findings(root: str, name: str) -> list[str]:
    """What a user is told who verifies version 1."""
    try:
        return list(find_problems(open_release(root, name, 1)))
    except EngineError as error:
        return [str(error)]


def _damaged(file: Path, data: bytes) -> Iterator[None]:
    """The file with other bytes, for a while."""
    before = file.read_bytes()
    file.write_bytes(data)
    yield
    file.write_bytes(before)


@pytest.mark.parametrize("name", RELEASES)
@pytest.mark.parametrize("kind", ["byte", "bit"])
def test_every_flipped_byte_and_bit_is_found(local_store: Store, release: Release, name: str, kind: str) -> None:
    release = open_release(local_store.url, name, 1)
    files, rng = _files(local_store, release), np.random.default_rng(len(name) + len(kind))
    kinds = {file.suffix or file.parent.name for file in files}
    assert kinds == {".json", ".jsonl", ".md", ".parquet", "tags" if name == "rel" else "derived", *(["rel"] if name == "rel" else [])}
    assert _findings(local_store.url, name) == []
    for number in range(50):
        file = files[number % len(files)]
        data = bytearray(file.read_bytes())
        at = rng.integers(len(data))
        data[at] ^= rng.integers(1, 256) if kind == "byte" else 1 << rng.integers(8)
        for _ in _damaged(file, bytes(data)):
            assert _findings(local_store.url, name), f"byte {at} of {file}: nothing was found"
    assert _findings(local_store.url, name) == []


def test_every_file_that_is_missing_cut_longer_or_in_the_place_of_another_is_found(local_store: Store, release: Release) -> None:
    files = [file for file in _files(local_store, release) if file.suffix != ".jsonl"]  # copies, which may be deleted
    for file in files:
        data = file.read_bytes()
        for changed in (data[:-1], data + b"\n", b"", b"{}"):
            for _ in _damaged(file, changed):
                assert _findings(local_store.url, "rel"), f"{file}: nothing was found"
        if file.parent.name != "tags":
            aside = file.with_name("aside")
            os.rename(file, aside)
            assert _findings(local_store.url, "rel"), f"{file} is gone: nothing was found"
            os.rename(aside, file)
    for one, two in pairwise(files):
        swapped = one.read_bytes(), two.read_bytes()
        if swapped[0] != swapped[1]:
            one.write_bytes(swapped[1]), two.write_bytes(swapped[0])
            assert _findings(local_store.url, "rel"), f"{one} and {two} changed places: nothing was found"
            one.write_bytes(swapped[0]), two.write_bytes(swapped[1])
    assert _findings(local_store.url, "rel") == []
