"""A release from one store to another, whatever their schemes, in an order that any crash may cut.

Plan; every object and then its commit record; the manifest, which claims the version number; tables, card, HEAD; tags. Running it again
copies what is missing. Bytes are checked against their digests on the way, and what is there is agreed with or refused, never replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from engine.errors import AlreadyExists, CommitConflict, ConfigError, ReleaseError
from engine.releases.card import check_card, write_card
from engine.releases.parallel import in_parallel
from engine.releases.publish import move_head, write_version
from engine.releases.reference import NAME
from engine.releases.selection import FILTERED, stored_rows
from engine.releases.store import (
    READ_THREADS,
    Release,
    commit_key,
    commits_prefix,
    first_problem,
    object_key,
    plan_key,
    read_manifest,
    release_versions,
    version_prefix,
)
from engine.releases.tables import SHARD_REASONS
from engine.releases.tags import read_tags, set_tag
from engine.storage import Store, join
from schemas.manifests import ReleaseManifest, ShardCommit


@dataclass
class Copied:
    """The release in its new store, and what this run did: objects and bytes written, objects found there, tags set and left alone."""

    release: Release
    objects: int = 0
    size_bytes: int = 0
    present: int = 0
    tags: list[str] = field(default_factory=list)
    tags_left: dict[str, str] = field(default_factory=dict)
    """Tag -> why it was not set."""


def copy_release(source: Release, target: Store, as_name: str | None = None, on_shard: Callable[[], object] = lambda: None) -> Copied:
    """The same release, version number and digest in another store (or under another name), with the tags that mean it.

    CommitConflict, with what to do, when the number is another release there, or the store annotated the same plan to other bytes;
    before anything is written where that can be known. ReleaseError or StorageError when the source is damaged.
    """
    manifest = _manifest_there(source, target, as_name)
    m, store = source.manifest, source.store
    folder = version_prefix(m.name, m.version)
    files = [file for file in (m.shards, m.quarantine, m.selection) if file is not None]
    tables = {file.path: store.get_checked(f"{folder}/{file.path}", file.sha256) for file in files}
    card = store.get(f"{folder}/README.md")
    try:
        check_card(card, m, source.digest)
    except ReleaseError as error:
        raise ReleaseError(f"{join(store.url, folder, 'README.md')}: {error}; restore it from a copy") from None
    if manifest != m:
        card = write_card(manifest, source.digest).encode()
    target.create_same(plan_key(m.plan_digest), store.get_checked(plan_key(m.plan_digest), m.plan_digest))

    copied = Copied(Release(target, manifest, source.digest))
    objects = {stored.key: stored.size_bytes for stored in target.scan("objects")}
    records = set(target.list(commits_prefix(m.plan_digest)))
    for size in in_parallel(lambda shard: _copy_shard(source, target, shard, objects, records), source.commits(), READ_THREADS):
        copied.objects += size > 0
        copied.present += size == 0
        copied.size_bytes += size
        on_shard()

    key = f"{version_prefix(manifest.name, manifest.version)}/manifest.json"
    try:
        target.create(key, manifest.to_bytes())
    except AlreadyExists:
        manifest = _manifest_there(source, target, as_name)
        if (found := target.get(key)) != manifest.to_bytes():
            raise ReleaseError(f"{join(target.url, key)}: expected the bytes of a manifest, found {len(found)} others; damaged") from None
    copied.release = write_version(target, manifest, tables, card)
    move_head(copied.release)
    _copy_tags(source, copied)
    return copied


def _manifest_there(source: Release, target: Store, as_name: str | None) -> ReleaseManifest:
    """The manifest that the release has, or will have, in its new store. CommitConflict when its number is taken."""
    m = source.manifest
    if as_name is not None and not NAME.fullmatch(as_name):
        raise ConfigError(f"as_name {as_name!r}: expected up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit")
    name = as_name or m.name
    manifest = m.model_copy(update={"name": name})
    others = set(release_versions(source.store, m.name))
    for version in release_versions(target, name):
        if version != m.version and version not in others:
            if name == m.name:
                continue
            raise CommitConflict(
                f"{join(target.url, version_prefix(name, version))} is no version of {m.name!r}: another release has that name there; "
                "copy with another --as_name"
            )
        found = read_manifest(target, name, version)
        own = m if version == m.version else read_manifest(source.store, m.name, version)
        if found.digest() != own.digest():
            raise CommitConflict(
                f"{join(target.url, version_prefix(name, version))} is another release ({found.digest()}) than {own.name!r} "
                f"v{version:04d} ({own.digest()}): two stores gave the same name and number; copy with --as_name=OTHER"
            )
        if version == m.version:
            manifest = found  # made there too, at another time
    return manifest


def _copy_shard(source: Release, target: Store, shard: ShardCommit, objects: dict[str, int], records: set[str]) -> int:
    """Copy a shard's object and record as far as they are missing; how many bytes the object cost, 0 where it was there."""
    key, record_key = object_key(shard.sha256), commit_key(shard.plan_digest, shard.index)
    there = objects.get(key)
    if there not in (None, shard.size_bytes):
        raise ReleaseError(f"{join(target.url, key)}: expected {shard.size_bytes} bytes, found {there}; damaged: remove it and copy again")
    written = False
    if there is None:
        written = target.create_same(key, source.store.get_checked(key, shard.sha256))
    if not set(SHARD_REASONS) & set(shard.quarantined):
        try:
            target.create_same(record_key, _record(source, shard))
        except CommitConflict as conflict:
            raise CommitConflict(
                f"{conflict}: that store has annotated shard {shard.index} of the same plan itself; copy into another store"
            ) from None
        if not written and record_key not in records and not target.exists(key):
            # an old object that nothing referred to may be collected as garbage until the record is there
            written = target.create_same(key, source.store.get_checked(key, shard.sha256))
    return shard.size_bytes if written else 0


def _record(source: Release, shard: ShardCommit) -> bytes:
    """The commit record of a shard of a release: what its table says, unless rows were left out of a derived one."""
    if FILTERED not in shard.skipped:
        return shard.to_bytes()
    key = commit_key(shard.plan_digest, shard.index)
    data = source.store.get(key)
    try:
        record = ShardCommit.from_bytes(data)
    except ValidationError as error:
        raise ReleaseError(f"{join(source.store.url, key)}: not a shard commit: {first_problem(error)}") from None
    same = ("plan_digest", "index", "source_sha256", "sha256", "size_bytes", "planned")
    if (
        any(getattr(record, name) != getattr(shard, name) for name in same)
        or record.annotated != stored_rows(shard)
        or data != record.to_bytes()
    ):
        raise ReleaseError(f"{join(source.store.url, key)}: not the record of shard {shard.index} of {source.where}; damaged or replaced")
    return data


def _copy_tags(source: Release, copied: Copied) -> None:
    release = copied.release
    there = read_tags(release.store, release.manifest.name)
    for tag, pointer in read_tags(source.store, source.manifest.name).items():
        if pointer.version != source.manifest.version or pointer.release_digest != source.digest:
            continue
        try:
            set_tag(release, tag)
            if tag not in there:
                copied.tags.append(tag)
        except CommitConflict as conflict:
            copied.tags_left[tag] = str(conflict)
