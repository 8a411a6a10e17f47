"""The promises of the storage layer, on memory, a local disk and a real S3 server: create-only, swap, and who wins a race."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from engine.errors import AlreadyExists, CommitConflict, MissingInput, StorageError
from engine.storage import Store, absolute, join, relative, split
from schemas.records import sha256_hex

BACKENDS = ("memory", "file", "s3")


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return Store(f"memory://{uuid.uuid4().hex}")
    if request.param == "file":
        return Store(f"file://{tmp_path}/root")
    return Store(request.getfixturevalue("s3_url"))


def test_create_then_get(store: Store) -> None:
    store.create("a/b/c.bin", b"hello world")
    assert store.exists("a/b/c.bin") and not store.exists("a/b/d.bin")
    assert store.get("a/b/c.bin") == b"hello world"
    assert store.get("a/b/c.bin", 6, 11) == b"world"
    assert store.child("a").get("b/c.bin") == b"hello world"
    assert pickle.loads(pickle.dumps(store)).get("a/b/c.bin") == b"hello world"
    assert store.get_checked("a/b/c.bin", sha256_hex(b"hello world")) == b"hello world"
    with pytest.raises(StorageError, match="expected sha256"):
        store.get_checked("a/b/c.bin", sha256_hex(b"other"))


def test_create_never_overwrites(store: Store) -> None:
    store.create("key", b"first")
    with pytest.raises(AlreadyExists, match="key"):
        store.create("key", b"second")
    assert store.get("key") == b"first"


def test_what_is_written_bit_by_bit_appears_whole_or_not_at_all(store: Store) -> None:
    def write(file: BinaryIO) -> None:
        for part in (b"one ", b"two ", b"three"):
            file.write(part)
            assert not store.exists("folder/key")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        store.create_written("folder/key", fail)
    assert list(store.scan("folder")) == []
    store.create_written("folder/key", write)
    assert store.get("folder/key") == b"one two three"
    with pytest.raises(AlreadyExists, match="key"):
        store.create_written("folder/key", lambda file: file.write(b"other"))
    assert store.get("folder/key") == b"one two three"


def test_create_refuses_empty_objects(store: Store) -> None:
    with pytest.raises(StorageError, match="empty"):
        store.create("key", b"")
    assert not store.exists("key")


def test_create_same_accepts_equal_bytes_only(store: Store) -> None:
    assert store.create_same("key", b"bytes") is True
    assert store.create_same("key", b"bytes") is False
    with pytest.raises(CommitConflict, match="other bytes"):
        store.create_same("key", b"others")
    assert store.get("key") == b"bytes"


def test_large_objects_are_created_whole_or_not_at_all(store: Store) -> None:
    """12 MiB is beyond what S3 clients send in one piece."""
    data = os.urandom(1 << 20) * 12
    store.create("large", data)
    assert store.get("large") == data
    with pytest.raises(AlreadyExists):
        store.create("large", data[::-1])
    assert store.get("large") == data


def test_files_go_up_and_down(store: Store, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "up").write_bytes(data)
    store.create_file("a/key", tmp_path / "up")
    assert store.get("a/key") == data
    with open(tmp_path / "down", "w+b") as file:
        assert store.get_into("a/key", file) == len(data)
    assert (tmp_path / "down").read_bytes() == data
    with open(tmp_path / "part", "w+b") as file:
        assert store.get_into("a/key", file, 70_001) == 70_001
    assert (tmp_path / "part").read_bytes() == data[:70_001]
    with pytest.raises(AlreadyExists):
        store.create_file("a/key", tmp_path / "up")
    with pytest.raises(MissingInput, match="absent"):
        store.create_file("b", tmp_path / "absent")
    with pytest.raises(MissingInput, match="b: no such object"), open(tmp_path / "none", "w+b") as file:
        store.get_into("b", file)


@pytest.mark.parametrize(("start", "end"), [(0, 4), (2, None), (None, 3), (3, 100), (2, 2), (4, 2), (10, 20), (10, None)])
def test_ranges_are_those_of_a_slice(store: Store, start: int | None, end: int | None) -> None:
    store.create("key", b"0123456789")
    assert store.get("key", start, end) == b"0123456789"[start:end]


def test_a_url_with_a_password_is_shown_without() -> None:
    with pytest.raises(StorageError, match="nosuch://bucket/x") as error:
        Store("nosuch://user:password@bucket/x").get("key")
    assert "password" not in str(error.value)


def test_swap_moves_from_what_was_read(store: Store) -> None:
    store.swap("HEAD", None, b"v1")
    with pytest.raises(CommitConflict):
        store.swap("HEAD", None, b"v2")
    store.swap("HEAD", b"v1", b"v2")
    with pytest.raises(CommitConflict, match="changed by somebody else"):
        store.swap("HEAD", b"v1", b"v3")
    assert store.get("HEAD") == b"v2"


def test_swap_from_what_is_gone_is_a_conflict(store: Store) -> None:
    with pytest.raises(CommitConflict, match="absent"):
        store.swap("absent", b"old", b"new")
    assert not store.exists("absent")


def test_list_is_sorted_relative_and_below_the_prefix(store: Store) -> None:
    assert store.list() == []
    for key in ("b/2", "b/1", "a/x/y", "bb/3"):
        store.create(key, b"-")
    store.swap("b/HEAD", None, b"1")
    store.swap("b/HEAD", b"1", b"2")
    assert store.list() == ["a/x/y", "b/1", "b/2", "b/HEAD", "bb/3"]
    assert store.list("b") == ["b/1", "b/2", "b/HEAD"]
    assert store.list("nowhere") == []


def test_delete(store: Store) -> None:
    store.create("a/key", b"-")
    store.delete("a/key")
    assert not store.exists("a/key") and store.list() == []
    store.create("a/key", b"again")
    assert store.get("a/key") == b"again"


def test_what_is_absent_is_named(store: Store) -> None:
    with pytest.raises(MissingInput, match="no/such"):
        store.get("no/such")
    store.create("folder/key", b"-")
    with pytest.raises(MissingInput):
        store.get("folder")


def test_racing_creators_have_one_winner(store: Store) -> None:
    writers = 8

    def create(round_writer: tuple[int, int]) -> bool:
        try:
            store.create(f"race/{round_writer[0]}", f"writer {round_writer[1]}".encode())
            return True
        except AlreadyExists:
            return False

    rounds = 5
    with ThreadPoolExecutor(writers) as pool:
        for i in range(rounds):
            won = list(pool.map(create, [(i, w) for w in range(writers)]))
            assert won.count(True) == 1
            assert store.get(f"race/{i}") == f"writer {won.index(True)}".encode()


def test_racing_creators_of_the_same_bytes_all_succeed(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: store.create_same("key", b"same"), range(8))).count(True) == 1


def test_swaps_never_lose_an_update(store: Store) -> None:
    store.swap("counter", None, b"0")

    def increment(_: int) -> None:
        while True:
            before = store.get("counter")
            try:
                return store.swap("counter", before, str(int(before) + 1).encode())
            except CommitConflict:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(12)))
    assert store.get("counter") == b"12"


def _create_in_process(url: str, number: int, results: multiprocessing.Queue) -> None:
    try:
        Store(url).create("key", str(number).encode() * 1000)
        results.put(number)
    except AlreadyExists:
        results.put(None)


def test_processes_race_on_a_local_disk(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_create_in_process, args=(str(tmp_path), i, results)) for i in range(6)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    winners = [number for number in outcomes if number is not None]
    assert len(winners) == 1
    assert Store(str(tmp_path)).get("key") == str(winners[0]).encode() * 1000
    assert Store(str(tmp_path)).list() == ["key"]


def test_leftovers_of_an_interrupted_write_are_not_objects(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create("a/key", b"-")
    (tmp_path / "a" / ".partial-deadbeef").write_bytes(b"half")
    assert store.list() == ["a/key"]


@pytest.mark.parametrize("key", ["/etc/passwd", "../up", "a/../../up", ""])
def test_keys_stay_below_the_root(key: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        relative(key)
    with pytest.raises(StorageError):
        Store(str(tmp_path)).create(key, b"-")


def test_urls_are_joined_with_single_slashes() -> None:
    assert join("s3://bucket/root/", "/a/", "b") == "s3://bucket/root/a/b"


def test_unknown_scheme_is_one_clear_error() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        Store("nosuch://bucket/x").get("key")


def test_clear_takes_a_folder_and_not_its_neighbours(store: Store) -> None:
    for key in ("a/1/x", "a/1/deep/y", "a/10/x", "b"):
        store.create(key, b"bytes")
    store.clear("a/1")
    store.clear("a/1")
    store.clear("never/there")
    assert store.list() == ["a/10/x", "b"]


def test_clear_takes_what_an_interrupted_write_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create("a/x", b"bytes")
    (tmp_path / "a" / ".partial-1").write_bytes(b"half")
    store.clear("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("url", "folder"), [("/x.pt", "/"), ("x.pt", "."), ("a/b/x.pt", "a/b"), ("s3://bucket/a/x.pt", "s3://bucket/a")])
def test_split_names_the_folder(url: str, folder: str) -> None:
    assert split(url) == (Store(folder), "x.pt")


def test_absolute_leaves_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a/../b") == f"{tmp_path}/b"
    assert absolute("s3://bucket/a") == "s3://bucket/a"
