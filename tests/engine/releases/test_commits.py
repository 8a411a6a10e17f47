"""Many commits at once: what a driver was told, what its predecessors collected, and what only the records say."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.errors import ReleaseError, StorageError
from engine.releases.commit import Commits, collect_commits, load_commits
from engine.releases.parallel import in_parallel
from engine.releases.publish import draft_release, publish
from engine.releases.store import collected_prefix, commit_key, object_key
from engine.releases.tables import read_commits
from engine.storage import Store
from tests.engine.releases.conftest import commit_all, digest_of, make_plan


class _Counting(Store):
    """The real store; notes which records are read."""

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        self.__dict__.setdefault("read", []).append(key)
        return super().get(key, start, end)


def test_what_was_told_or_collected_is_not_read_again(store: Store) -> None:
    plan = make_plan(shards=6, persons=1)
    commit_all(store, plan, persons=1)
    keys = [commit_key(plan.digest(), i) for i in range(6)]
    everything = load_commits(store, plan)
    assert list(everything) == list(range(6)) and all(everything.record(i) == store.get(keys[i]) for i in range(6))

    told = Commits(plan)
    for i in (0, 1):
        told.add(everything.record(i))
    collect_commits(store, everything, [1, 2, 3])
    collect_commits(store, everything, [])
    store.delete(keys[3])
    store.delete(keys[1])
    counting = _Counting(store.url)
    found = load_commits(counting, plan, told)
    assert list(found) == [0, 2, 4, 5], "only what has a record is committed"
    assert all(found[i] == everything[i] for i in found)
    (collected,) = store.list(collected_prefix(plan.digest()))
    assert sorted(counting.read) == sorted([keys[4], keys[5], collected])
    assert list(told) == [0, 1]

    counting = _Counting(store.url)
    assert load_commits(counting, plan, everything) == found and not hasattr(counting, "read")


def test_a_collected_record_of_another_plan_is_refused(local_store: Store) -> None:
    plan, other = make_plan(), make_plan(word="other")
    commit_all(local_store, plan)
    commit_all(local_store, other)
    stranger = load_commits(local_store, other).record(0)
    with pytest.raises(ReleaseError, match="not of this plan"):
        Commits(plan).add(stranger)
    with pytest.raises(StorageError, match="a commit record: not a shard commit"):
        Commits(plan).add(b"{}")
    local_store.create(f"{collected_prefix(plan.digest())}/x.jsonl", stranger)
    with pytest.raises(ReleaseError, match=r"x\.jsonl: .*not of this plan"):
        load_commits(local_store, plan)


@pytest.mark.parametrize("name", ["000007.json", "old.json"])
def test_a_record_that_no_shard_of_the_plan_has_is_refused(local_store: Store, name: str) -> None:
    plan = make_plan()
    commit_all(local_store, plan)
    local_store.create(f"runs/{plan.digest()}/shards/{name}", local_store.get(commit_key(plan.digest(), 0)))
    with pytest.raises(ReleaseError, match=f"{name}: not of this plan"):
        load_commits(local_store, plan)


def test_a_record_under_another_shards_name_is_refused(local_store: Store) -> None:
    plan = make_plan()
    commit_all(local_store, plan)
    record = local_store.get(commit_key(plan.digest(), 0))
    local_store.swap(commit_key(plan.digest(), 1), local_store.get(commit_key(plan.digest(), 1)), record)
    with pytest.raises(ReleaseError, match="the commit of another shard"):
        load_commits(local_store, plan)


def test_a_release_gives_its_commits_back_as_they_were(local_store: Store) -> None:
    """Over more shards than are Python objects at a time."""
    plan = make_plan(shards=70, persons=1)
    commit_all(local_store, plan, persons=1)
    commits = load_commits(local_store, plan)
    draft = draft_release("rel", plan, commits, "open", {})
    release = publish(local_store, draft)
    assert [commit.to_bytes() for commit in release.commits()] == [commits.record(i) for i in commits]
    assert release.commit(digest_of("plan 67")) == commits[67]
    part = read_commits(release.shards.slice(66, 2), release.quarantined, plan.digest())
    assert list(part) == [commits[66], commits[67]]
    assert {object_key(c.sha256) for c in commits.values()} == set(local_store.list("objects"))
    assert (release.manifest.shards.rows, release.manifest.quarantine.rows) == (70, 70)
    assert len(release.manifest.to_bytes()) < 10_000


def test_results_come_in_order_and_few_wait() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def items() -> Iterator[int]:
        nonlocal running, most
        for i in range(200):
            with lock:
                running += 1
                most = max(most, running)
            yield i

    for expected, found in enumerate(in_parallel(lambda i: i * i, items(), threads=4)):
        assert found == expected**2
        with lock:
            running -= 1
    assert running == 0 and most <= 9


def test_an_error_of_one_ends_all() -> None:
    seen = []

    def fail(i: int) -> int:
        seen.append(i)
        if i == 5:
            raise StorageError("the fifth")
        return i

    with pytest.raises(StorageError, match="the fifth"):
        list(in_parallel(fail, range(10_000), threads=4))
    assert len(seen) < 100
