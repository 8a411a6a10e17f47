"""Commits and publication: create-only, repeatable at every point a crash may cut, one winner among racers."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from engine.errors import ReleaseError, StorageError
from engine.releases.commit import commit_shard, load_commit, load_commits, make_commit
from engine.releases.publish import draft_release, publish
from engine.releases.store import commit_key, head_key, open_release, release_versions, version_prefix
from engine.releases.tables import encode
from engine.releases.verify import verify_release
from engine.storage import Store
from schemas.manifests import QuarantineRow
from tests.engine.releases.conftest import commit_all, make_plan, make_rows, redated


def test_a_release_is_published_once(store: Store) -> None:
    draft = commit_all(store, make_plan())
    first = publish(store, draft)
    keys = store.list()
    again = publish(store, redated(commit_all(store, make_plan()), "later"))
    assert store.list() == keys
    assert (again.digest, again.manifest) == (first.digest, first.manifest)
    assert first.manifest.version == 1 and first.manifest.annotated == 12 and first.manifest.quarantined == {"undecodable": 3}
    verify_release(open_release(store.url, "rel"))


def test_another_plan_makes_the_next_version_and_keeps_the_first(store: Store) -> None:
    publish(store, commit_all(store, make_plan()))
    publish(store, commit_all(store, make_plan(word="other")))
    assert release_versions(store, "rel") == [1, 2]
    assert open_release(store.url, "rel").manifest.version == 2
    assert open_release(store.url, "rel", 1).manifest.plan_digest == make_plan().digest()
    for version in (1, 2):
        verify_release(open_release(store.url, "rel", version))


@pytest.mark.parametrize("lost", [("HEAD",), ("HEAD", "README.md"), ("HEAD", "README.md", "quarantine.parquet", "shards.parquet")])
def test_publication_cut_short_is_completed(local_store: Store, lost: tuple[str, ...]) -> None:
    """What a crash leaves is a release whose last writes are missing: HEAD, then card, then quarantine."""
    draft = commit_all(local_store, make_plan())
    before = publish(local_store, draft)
    for name in lost:
        local_store.delete(head_key("rel") if name == "HEAD" else f"{version_prefix('rel', 1)}/{name}")
    after = publish(local_store, redated(draft, "2030-01-01T00:00:00+00:00"))
    assert after.manifest == before.manifest and release_versions(local_store, "rel") == [1]
    verify_release(open_release(local_store.url, "rel"))


def test_a_version_number_taken_by_an_unfinished_publication_is_left_alone(local_store: Store) -> None:
    publish(local_store, commit_all(local_store, make_plan(word="unfinished")))
    local_store.delete(head_key("rel"))
    release = publish(local_store, commit_all(local_store, make_plan()))
    assert release.manifest.version == 2
    verify_release(open_release(local_store.url, "rel"))


def test_publishers_of_the_same_release_agree(store: Store) -> None:
    drafts = [redated(commit_all(store, make_plan()), f"at {i}") for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        releases = list(pool.map(lambda draft: publish(store, draft), drafts))
    assert len({r.manifest.to_bytes() for r in releases}) == 1
    assert release_versions(store, "rel") == [1]
    verify_release(open_release(store.url, "rel"))


def test_publishers_of_different_releases_get_different_versions(store: Store) -> None:
    drafts = [commit_all(store, make_plan(word=f"plan {i}", shards=1)) for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        releases = list(pool.map(lambda draft: publish(store, draft), drafts))
    assert sorted(r.manifest.version for r in releases) == [1, 2, 3, 4, 5]
    assert open_release(store.url, "rel").manifest.version == 5
    for version in release_versions(store, "rel"):
        verify_release(open_release(store.url, "rel", version))


def _publish_in_process(url: str, results: multiprocessing.Queue) -> None:
    results.put(publish(Store(url), commit_all(Store(url), make_plan())).manifest.to_bytes())


def test_a_publisher_is_told_that_another_went_beyond_it(local_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Beyond(Store):
        """Somebody publishes another release just before HEAD is moved."""

        def swap(self, key: str, expected: bytes | None, data: bytes) -> None:
            publish(local_store, commit_all(local_store, make_plan(word="other")))
            super().swap(key, expected, data)

    release = publish(Beyond(local_store.url), commit_all(local_store, make_plan()))
    (told,) = caplog.messages
    assert told == f"rel: somebody else published v0002 meanwhile, which is the current one; this is v0001 ({release.digest})"
    assert open_release(local_store.url, "rel").manifest.version == 2
    verify_release(release), verify_release(open_release(local_store.url, "rel"))


def test_processes_that_commit_and_publish_the_same_agree(local_store: Store) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_publish_in_process, args=(local_store.url, results)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = (results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert first == second
    verify_release(open_release(local_store.url, "rel"))


def test_the_first_commit_of_a_shard_stands(store: Store) -> None:
    plan = make_plan(shards=1)
    commit_all(store, plan)
    table = make_rows(99, 4)
    data = encode(table)
    quarantine = (QuarantineRow(dataset="coco", key="bad_0", reason="undecodable"),)
    outcome = commit_shard(store, make_commit(plan.digest(), plan.shards[0], data, table, quarantine), data)
    assert (
        outcome.raced
        and outcome.commit == load_commit(store, plan.digest(), 0)
        and outcome.commit.sha256 != make_commit(plan.digest(), plan.shards[0], data, table, quarantine).sha256
    )


def test_instances_that_vanish_are_an_error() -> None:
    plan = make_plan(shards=1)
    with pytest.raises(ReleaseError, match="planned 5 instances, but 4 were annotated"):
        make_commit(plan.digest(), plan.shards[0], b"x", make_rows(0, 4), ())
    commit = make_commit(plan.digest(), plan.shards[0], b"x", make_rows(0, 5), ())
    with pytest.raises(ValidationError, match="accounts for"):
        type(commit).model_validate(commit.model_dump() | {"annotated": 4})


def test_a_release_needs_every_commit(local_store: Store) -> None:
    plan = make_plan()
    commit_all(local_store, plan)
    local_store.delete(commit_key(plan.digest(), 1))
    commits = load_commits(local_store, plan)
    assert sorted(commits) == [0, 2]
    with pytest.raises(ReleaseError, match="1 of 3 shards are not committed"):
        draft_release("rel", plan, commits, "open", {})


def test_commits_of_another_plan_or_garbage_are_refused(local_store: Store) -> None:
    plan, other = make_plan(), make_plan(word="other")
    commit_all(local_store, other)
    local_store.create(commit_key(plan.digest(), 0), local_store.get(commit_key(other.digest(), 0)))
    with pytest.raises(ReleaseError, match="not of this plan"):
        load_commits(local_store, plan)
    local_store.delete(commit_key(plan.digest(), 0))
    local_store.create(commit_key(plan.digest(), 0), b"{}")
    with pytest.raises(StorageError, match="not a shard commit"):
        load_commits(local_store, plan)


def test_two_empty_shards_share_one_object(local_store: Store) -> None:
    release = publish(local_store, commit_all(local_store, make_plan(shards=2, persons=0), persons=0))
    assert release.manifest.annotated == 0 and release.manifest.planned == 2
    assert len(local_store.list("objects")) == 1
    verify_release(release)
    assert release.table().num_rows == 0
