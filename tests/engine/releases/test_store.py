"""Opening releases: the right version, the right rows, and one clear message when something is not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import MissingInput, ReleaseError
from engine.releases.store import Release, head_key, open_release
from engine.storage import Store
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from tests.engine.releases.conftest import digest_of, make_rows


def test_rows_are_found_by_their_image_shard(store: Store, make_release: Callable[..., Release]) -> None:
    make_release(store)
    release = open_release(store.url, "rel")
    for i in range(3):
        rows = release.rows(digest_of(f"plan {i}"))
        assert rows.schema.equals(PSEUDO_GT_SCHEMA) and rows.schema.metadata == PSEUDO_GT_SCHEMA.metadata
        assert [field.metadata for field in rows.schema] == [field.metadata for field in PSEUDO_GT_SCHEMA]
        assert rows["pose"].to_pylist() == make_rows(i, 4)["pose"].to_pylist()
    assert release.table().num_rows == release.manifest.annotated == 12
    assert [row.key for row in release.quarantine()] == ["bad_0", "bad_1", "bad_2"]


def test_what_is_not_there_is_named(local_store: Store, make_release: Callable[..., Release]) -> None:
    with pytest.raises(MissingInput, match="no release store there"):
        open_release(local_store.url, "rel")
    release = make_release(local_store)
    with pytest.raises(ReleaseError, match="releases there: rel"):
        open_release(local_store.url, "other")
    with pytest.raises(ReleaseError, match=r"no version 7 .versions there: 1"):
        open_release(local_store.url, "rel", 7)
    with pytest.raises(ReleaseError, match=release.manifest.lineage["shard_set"]):
        release.rows(digest_of("another shard"))


def test_a_broken_head_or_manifest_is_an_error(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    head = local_store.get(head_key("rel"))
    local_store.swap(head_key("rel"), head, b"garbage")
    with pytest.raises(ReleaseError, match="not a release pointer"):
        open_release(local_store.url, "rel")
    local_store.swap(head_key("rel"), b"garbage", head)
    key = "releases/rel/v0001/manifest.json"
    edited = release.manifest.model_copy(update={"body": "smpl"}).to_bytes()
    local_store.swap(key, local_store.get(key), edited)
    with pytest.raises(ReleaseError, match="edited or replaced"):
        open_release(local_store.url, "rel")


def test_the_digest_says_what_not_when_or_which_number(local_store: Store, make_release: Callable[..., Release]) -> None:
    manifest = make_release(local_store).manifest
    same = manifest.model_copy(update={"created_at": "never", "version": 9, "name": "x"})
    assert same.digest() == manifest.digest()
    assert manifest.model_copy(update={"body": "smpl"}).digest() != manifest.digest()
