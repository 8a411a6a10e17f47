"""fsck lists what nothing refers to; garbage collection never takes what something refers to, whoever commits meanwhile."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ReleaseError
from engine.releases.commit import Commits, collect_commits, commit_shard, load_commits, make_commit, save_plan
from engine.releases.fsck import collect_garbage, find_orphans
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release, commit_key, object_key, open_release
from engine.releases.tables import encode
from engine.releases.verify import verify_release
from engine.storage import Store
from schemas.manifests import AnnotationPlan, ShardCommit
from tests.engine.releases.conftest import digest_of, make_plan, make_rows

DAY_S = 86_400.0
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where syncing a file costs nothing."""
TABLES = [make_rows(number, 3) for number in range(8)]
DATA = [encode(table) for table in TABLES]
LINEAGE = {name: digest_of(name) for name in ("annotator", "body")}


def _plan(word: str) -> AnnotationPlan:
    return make_plan(shards=2, persons=2, word=word)


def _commit(store: Store, plan: AnnotationPlan, index: int, number: int) -> ShardCommit:
    return commit_shard(store, _record(plan, index, number), DATA[number]).commit


def _record(plan: AnnotationPlan, index: int, number: int) -> ShardCommit:
    return make_commit(plan.digest(), plan.shards[index], DATA[number], TABLES[number], ())


def _key(number: int) -> str:
    return object_key(_record(_plan("any"), 0, number).sha256)


def _publish(store: Store, plan: AnnotationPlan, name: str) -> Release:
    save_plan(store, plan)
    lineage = LINEAGE | {"shard_set": plan.shard_set_digest}
    return publish(store, draft_release(name, plan, load_commits(store, plan), "open", lineage))


def _age(store: Store, keys: list[str]) -> None:
    for key in keys:
        os.utime(store.path(key), (time.time() - 2 * DAY_S,) * 2)


def _age_all(store: Store) -> None:
    _age(store, [stored.key for stored in store.scan()])


def _shown(store: Store) -> dict[str, str]:
    return {orphan.key: orphan.kind for orphan in find_orphans(store)}


def test_a_finished_release_has_no_orphans(store: Store, make_release: Callable[..., Release]) -> None:
    make_release(store)
    assert find_orphans(store) == [] and collect_garbage(store, 0, dry_run=False) == []


def test_every_kind_is_named_and_only_garbage_goes(local_store: Store) -> None:
    plan, other = _plan("finished"), _plan("begun")
    for index in range(2):
        _commit(local_store, plan, index, index)
    _publish(local_store, plan, "rel")
    _commit(local_store, other, 0, 2)
    save_plan(local_store, other)
    collect_commits(local_store, load_commits(local_store, other), [0])
    _publish(local_store, plan, "cut")
    local_store.delete("releases/cut/v0001/README.md")
    run, attempt = f"runs/{other.digest()}", f"runs/{plan.digest()}/attempts/abc/000001-1.json"
    for key in (_key(3), attempt, "notes.txt", f"{run}/shards/old.json"):
        local_store.create(key, DATA[3])
    partial_key = "objects/aa/.partial-123"
    Path(local_store.path("objects/aa")).mkdir(exist_ok=True)
    Path(local_store.path(partial_key)).write_bytes(b"")
    garbage = {_key(3): "object", attempt: "attempt", partial_key: "partial"}
    kept = {run: "run", "releases/cut/v0001": "version", "notes.txt": "stray", f"{run}/shards/old.json": "stray"}
    assert _shown(local_store) == garbage | kept
    (found,) = (orphan for orphan in find_orphans(local_store) if orphan.kind == "object")
    assert found.size_bytes == len(DATA[3]) and abs(found.modified - time.time()) < 60
    assert collect_garbage(local_store, DAY_S, dry_run=False) == []
    _age_all(local_store)
    assert {orphan.key for orphan in collect_garbage(local_store, DAY_S, dry_run=True)} == set(garbage)
    assert _shown(local_store) == garbage | kept
    assert {orphan.key for orphan in collect_garbage(local_store, DAY_S, dry_run=False)} == set(garbage)
    assert _shown(local_store) == kept
    verify_release(open_release(local_store.url, "rel"))


def test_an_incomplete_upload_is_found_and_aborted(s3_url: str) -> None:
    store = Store(s3_url)
    _commit(store, _plan("begun"), 0, 0)
    bucket, _, key = store.path(_key(1)).partition("/")
    boto3.client("s3").create_multipart_upload(Bucket=bucket, Key=key)
    (upload,) = (orphan for orphan in find_orphans(store) if orphan.kind == "upload")
    assert upload.key == _key(1) and upload.upload_id
    assert collect_garbage(store, time.time() - upload.modified + DAY_S, dry_run=False) == []
    assert collect_garbage(store, DAY_S, dry_run=False) == [upload]  # moto's uploads are years old
    assert {orphan.kind for orphan in find_orphans(store)} == {"run"}


def test_nothing_goes_while_a_record_or_a_table_is_damaged(local_store: Store, make_release: Callable[..., Release]) -> None:
    make_release(local_store)
    local_store.create(_key(3), DATA[3])
    _age_all(local_store)
    table = local_store.get("releases/rel/v0001/shards.parquet")
    local_store.swap("releases/rel/v0001/shards.parquet", table, b"PAR1")
    with pytest.raises(ReleaseError, match=r"shards\.parquet: expected sha256"):
        collect_garbage(local_store, DAY_S, dry_run=False)
    local_store.swap("releases/rel/v0001/shards.parquet", b"PAR1", table)
    local_store.create(commit_key(digest_of("a plan"), 0), b"{}")
    with pytest.raises(ReleaseError, match=r"not a shard commit.*nothing was deleted"):
        collect_garbage(local_store, DAY_S, dry_run=False)
    assert local_store.exists(_key(3))


class _Race(Store):
    """The real store, but a worker commits the very object that is deleted first, just before or just after."""

    def delete(self, key: str) -> None:
        when = self.__dict__.pop("when", None) if key in NUMBER_OF else None
        if when == "before":
            self.__dict__["raced"] = _commit(Store(self.url), _plan("late"), 0, NUMBER_OF[key])
        super().delete(key)
        if when == "after":
            self.__dict__["raced"] = _commit(Store(self.url), _plan("late"), 0, NUMBER_OF[key])


NUMBER_OF = {_key(number): number for number in range(8)}
WORDS = ("a", "b", "c")
shard_state = st.sampled_from(["untouched", "object", "committed"])


@settings(max_examples=25, deadline=None)
@given(
    states=st.lists(shard_state, min_size=6, max_size=6),
    numbers=st.lists(st.integers(0, 5), min_size=6, max_size=6),
    published=st.sets(st.sampled_from(WORDS)),
    strays=st.sets(st.integers(0, 7)),
    young=st.sets(st.integers(0, 7)),
    race=st.sampled_from(["never", "before", "after"]),
)
def test_nothing_that_is_referred_to_is_ever_taken(
    states: list[str], numbers: list[int], published: set[str], strays: set[int], young: set[int], race: str
) -> None:
    """Three plans of two shards in any state, with shared objects, and a worker that commits in the middle of a collection."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        store = Store(folder)
        plans = [_plan(word) for word in WORDS for _ in range(2)]
        for i, (state, number) in enumerate(zip(states, numbers, strict=True)):
            if state == "committed":
                _commit(store, plans[i], i % 2, number)
            elif state == "object":
                store.create_same(_key(number), DATA[number])
        for number in strays:
            store.create_same(_key(number), DATA[number])
        done = [word for i, word in enumerate(WORDS) if word in published and states[2 * i : 2 * i + 2] == ["committed"] * 2]
        for word in done:
            _publish(store, _plan(word), word)
        _age_all(store)
        for number in young:
            if store.exists(_key(number)):
                os.utime(store.path(_key(number)))

        there = {stored.key for stored in store.scan("objects")}
        racing = _Race(folder)
        racing.__dict__["when"] = race
        deleted = {orphan.key for orphan in collect_garbage(racing, DAY_S, dry_run=False)}
        left = {stored.key for stored in store.scan("objects")}
        referred = {_key(numbers[i]) for i in range(6) if states[i] == "committed"}
        unreferred = there - referred - {_key(number) for number in young}
        assert ("raced" in racing.__dict__) == bool(unreferred and race != "never")
        if "raced" in racing.__dict__:
            referred.add(object_key(racing.__dict__["raced"].sha256))
        assert deleted == unreferred - referred and left == there - deleted
        for key in referred:
            assert store.get(key) == DATA[NUMBER_OF[key]]
        for word in done:
            verify_release(open_release(folder, word), deep=False)


def test_a_commit_under_way_is_left_alone(local_store: Store) -> None:
    """Its object is young, its record not there yet."""
    plan = _plan("begun")
    local_store.create(_key(0), DATA[0])
    assert collect_garbage(local_store, DAY_S, dry_run=False) == []
    assert _commit(local_store, plan, 0, 0) == Commits(plan).add(local_store.get(commit_key(plan.digest(), 0)))
    assert local_store.exists(_key(0))


def test_a_worker_puts_back_what_was_collected_before_its_record(local_store: Store) -> None:
    """An old leftover is found by a new commit of the same bytes, and collected between its object and its record."""

    class Collected(Store):
        def create_same(self, key: str, data: bytes) -> bool:
            written = super().create_same(key, data)
            if key == _key(0) and not written:
                collect_garbage(local_store, DAY_S, dry_run=False)
                assert not local_store.exists(key)
            return written

    local_store.create(_key(0), DATA[0])
    _age_all(local_store)
    plan = _plan("begun")
    with_race = Collected(local_store.url)
    _commit(with_race, plan, 0, 0)
    assert local_store.get(_key(0)) == DATA[0]
