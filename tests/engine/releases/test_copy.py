"""A copy is the release itself: the same digest in any other store, whatever cuts the copying short."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import CommitConflict, ConfigError, ReleaseError, StorageError
from engine.releases.copy import copy_release
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.fsck import collect_garbage, find_orphans
from engine.releases.publish import publish
from engine.releases.store import Release, commit_key, object_key, open_reference, open_release, release_versions
from engine.releases.tables import encode
from engine.releases.tags import set_tag
from engine.releases.verify import find_problems, verify_release
from engine.storage import Store
from tests.engine.releases.conftest import commit_all, make_plan, redated


@pytest.fixture
def source(tmp_path, make_release: Callable[..., Release]) -> Release:
    return make_release(Store(str(tmp_path / "source")))


def _content(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list() if "/attempts/" not in key}


def test_a_copy_is_the_same_to_the_byte_in_any_store(source: Release, store: Store) -> None:
    set_tag(source, "paper")
    done = []
    copied = copy_release(source, store, on_shard=lambda: done.append(1))
    assert (copied.objects, copied.present, copied.tags, len(done)) == (3, 0, ["paper"], 3)
    assert _content(store) == _content(source.store)
    there = open_reference(f"{store.url}#rel@paper")
    verify_release(there)
    assert there.digest == source.digest and find_orphans(store) == []
    again = copy_release(source, store)
    assert (again.objects, again.size_bytes, again.present, again.tags, again.tags_left) == (0, 0, 3, [], {})
    assert _content(copy_release(there, Store(f"{source.store.url}-back")).release.store) == _content(source.store)


class Cut(Store):
    """A store whose connection breaks at the n-th write."""

    def create(self, key: str, data: bytes) -> None:
        left = self.__dict__["left"] = self.__dict__.get("left", 0) - 1
        if left < 0:
            raise StorageError("the connection broke")
        super().create(key, data)


def test_a_copy_that_is_cut_short_anywhere_is_completed_by_the_next(source: Release, tmp_path) -> None:
    writes = len(_content(source.store))
    for n in range(writes + 1):
        target = Store(str(tmp_path / f"target{n}"))
        cut = Cut(target.url)
        cut.__dict__["left"] = n
        if n < writes:
            with pytest.raises(StorageError, match="the connection broke"):
                copy_release(source, cut)
            assert collect_garbage(target, 3600, dry_run=False) == []
            for key, data in _content(target).items():
                assert data == source.store.get(key)
        else:
            copy_release(source, cut)
        if target.exists("releases/rel/HEAD"):
            assert list(find_problems(open_release(target.url, "rel"))) == []
        there = len([key for key in target.list("objects")])
        assert copy_release(source, target).present >= there
        assert _content(target) == _content(source.store)


def test_an_object_that_is_collected_before_its_record_is_there_is_put_back(source: Release, local_store: Store) -> None:
    shard = next(source.commits())

    class Collected(Store):
        def create_same(self, key: str, data: bytes) -> bool:
            if key == commit_key(shard.plan_digest, shard.index):
                local_store.delete(object_key(shard.sha256))
            return super().create_same(key, data)

    local_store.create(object_key(shard.sha256), source.store.get(object_key(shard.sha256)))
    copy_release(source, Collected(local_store.url))
    verify_release(open_release(local_store.url, "rel"))


def test_a_number_that_is_taken_is_refused_before_anything_is_written(
    source: Release, local_store: Store, make_release: Callable[..., Release]
) -> None:
    make_release(local_store, word="other")
    before = _content(local_store)
    with pytest.raises(CommitConflict, match=r"releases/rel/v0001 is another release .* copy with --as_name=OTHER"):
        copy_release(source, local_store)
    later = make_release(source.store, word="later")
    with pytest.raises(CommitConflict, match="releases/rel/v0001 is another release"):  # under the number 2, but of another history
        copy_release(later, local_store)
    assert _content(local_store) == before
    copied = copy_release(source, local_store, as_name="theirs").release
    verify_release(open_release(local_store.url, "theirs"))
    verify_release(open_release(local_store.url, "rel"))
    assert (copied.digest, copied.manifest.name, copied.manifest.created_at) == (source.digest, "theirs", source.manifest.created_at)
    copy_release(later, local_store, as_name="later")
    with pytest.raises(CommitConflict, match=r"releases/later/v0002 is no version of 'rel': another release has that name there"):
        copy_release(make_release(Store(f"{local_store.url}-third"), word="third"), local_store, as_name="later")
    with pytest.raises(ConfigError, match="as_name 'a/b'"):
        copy_release(source, local_store, as_name="a/b")


def test_two_that_claim_the_number_at_once(source: Release, local_store: Store, make_release: Callable[..., Release]) -> None:
    """The other release appears after the look at what is there."""

    class Raced(Store):
        def create(self, key: str, data: bytes) -> None:
            if key.endswith("manifest.json"):
                make_release(local_store, word="other")
            super().create(key, data)

    with pytest.raises(CommitConflict, match="is another release"):
        copy_release(source, Raced(local_store.url))
    verify_release(open_release(local_store.url, "rel"))


def test_versions_come_in_any_order_and_head_only_moves_forward(
    source: Release, local_store: Store, make_release: Callable[..., Release]
) -> None:
    later = make_release(source.store, word="later")
    set_tag(source, "paper")
    for version in (later, source):
        copy_release(version, local_store)
        assert open_release(local_store.url, "rel").digest == later.digest
    assert release_versions(local_store, "rel") == [1, 2]
    set_tag(open_release(local_store.url, "rel"), "paper", move=True)
    left = copy_release(source, local_store).tags_left
    assert list(left) == ["paper"] and "means v0002" in left["paper"]


def test_the_same_release_made_there_at_another_time_is_agreed_with(source: Release, local_store: Store) -> None:
    publish(local_store, redated(commit_all(local_store, make_plan()), "2020-01-01T00:00:00+00:00"))
    before = _content(local_store)
    copied = copy_release(source, local_store)
    assert copied.objects == 0 and copied.release.manifest.created_at.startswith("2020")
    assert _content(local_store) == before
    verify_release(copied.release)


def test_a_store_that_annotated_the_plan_itself_to_other_bytes_is_refused(source: Release, local_store: Store) -> None:
    shard = next(source.commits())
    local_store.create(commit_key(shard.plan_digest, 0), shard.model_copy(update={"sha256": "0" * 64}).to_bytes())
    with pytest.raises(CommitConflict, match="has annotated shard 0 of the same plan itself; copy into another store"):
        copy_release(source, local_store)
    assert release_versions(local_store, "rel") == []


def test_damage_is_not_copied(source: Release, local_store: Store) -> None:
    key = object_key(next(source.commits()).sha256)
    data = source.store.get(key)
    source.store.swap(key, data, data[:-1] + b"x")
    with pytest.raises(StorageError, match="damaged or replaced"):
        copy_release(source, local_store)
    source.store.swap(key, data[:-1] + b"x", data)
    copy_release(source, local_store)
    local_store.swap(key, data, data[:-1])
    with pytest.raises(ReleaseError, match=r"expected \d+ bytes, found .*remove it and copy again"):
        copy_release(source, local_store)
    card = "releases/rel/v0001/README.md"
    source.store.swap(card, source.store.get(card), b"# Another\n")
    with pytest.raises(ReleaseError, match="expected the card of its manifest"):
        copy_release(source, Store(f"{local_store.url}-2"))


def test_a_derived_release_is_copied_with_what_it_keeps(source: Release, local_store: Store) -> None:
    derived = derive(source, "good", Expression("score > 0.3", "truth"))
    copied = copy_release(derived, local_store).release
    verify_release(copied)
    assert encode(copied.table()) == encode(derived.table()) and len(copied.table()) < len(source.table())
    record = commit_key(source.manifest.plan_digest, 1)
    source.store.swap(record, source.store.get(record), source.store.get(commit_key(source.manifest.plan_digest, 0)))
    with pytest.raises(ReleaseError, match=r"000001\.json: not the record of shard 1"):
        copy_release(derived, Store(f"{local_store.url}-2"))
