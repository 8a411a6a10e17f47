"""What lies in a release store that nothing refers to, and how it is removed without ever taking what something refers to.

A worker writes an object before the record that refers to it, so an object without a reference is either the leftover of a crash or a
commit under way; age tells them apart. An old leftover can still be taken up by a new commit of the same bytes: `collect_garbage` looks
again after it has deleted and puts back what is referred to by then, and `commit_shard` looks again after its record is there.
One of the two sees the other.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from engine.errors import MissingInput, ReleaseError
from engine.releases.parallel import in_parallel
from engine.releases.selection import SELECTION
from engine.releases.store import READ_THREADS, Release, object_key, read_manifest
from engine.releases.tables import SHARD_REASONS, encode
from engine.storage import Store, Stored, join
from schemas.manifests import ShardCommit
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex

Kind = Literal["object", "attempt", "partial", "upload", "run", "version", "stray"]
GARBAGE: tuple[Kind, ...] = ("object", "attempt", "partial", "upload")
"""Kinds that are of no use to anybody once they are old. The others are for people to judge."""
_BATCH = 256
"""Objects that are deleted, and held in memory, between two looks at what refers to them."""
_OBJECT = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{64}\.parquet")
_RECORD = re.compile(r"runs/([0-9a-f]{64})/shards/(\d{6,})\.json")
_ATTEMPT = re.compile(r"runs/[0-9a-f]{64}/attempts/.+")
_RUN = re.compile(r"runs/([0-9a-f]{64})/(plan\.json|collected/[0-9a-f]{64}\.jsonl)")
_VERSION = re.compile(r"releases/([^/]+)/v(\d+)/([^/]+)")
_POINTER = re.compile(r"releases/[^/]+/(HEAD|tags/[^/]+)(\.lock)?")
_VERSION_FILES = {"manifest.json", "shards.parquet", "quarantine.parquet", "README.md"}


@dataclass(frozen=True)
class Orphan:
    """One thing that no release and no commit record refers to.

    kind: 'object', rows; 'attempt', what a worker's death left; 'partial', an interrupted write; 'upload', an incomplete multipart upload;
    'run', the records of a plan that no release was made of (`key` is their folder), which submitting it again goes on from;
    'version', a release whose publication was cut short (its folder); 'stray', nothing that belongs into a release store.
    modified: seconds since 1970, of the newest part.
    """

    kind: Kind
    key: str
    size_bytes: int
    modified: float
    upload_id: str = ""


def find_orphans(store: Store) -> list[Orphan]:
    """Everything in a release store that nothing refers to, by kind and key. Reads listings, manifests and unpublished records.

    ReleaseError when a release's table or a commit record is damaged: then nobody can say what it refers to.
    """
    references = _References(store)
    references.look()
    return sorted(_orphans(store, references), key=lambda orphan: (orphan.kind, orphan.key))


def collect_garbage(store: Store, grace_s: float, dry_run: bool) -> list[Orphan]:
    """Delete orphans of the kinds in GARBAGE that have not changed for `grace_s` seconds; those that were, or in a dry run would be.

    grace_s: longer than any commit takes from its first byte to its record, and than clocks differ; a day is a good choice. Safe beside
    running jobs. ReleaseError as for `find_orphans`; then nothing was deleted.
    """
    references = _References(store)
    references.look()
    before = time.time() - grace_s
    old = [o for o in _orphans(store, references) if o.kind in GARBAGE and o.modified < before]
    old.sort(key=lambda orphan: (orphan.kind, orphan.key))
    if dry_run:
        return old
    deleted = []
    objects = iter([o for o in old if o.kind == "object"])
    while batch := list(islice(objects, _BATCH)):
        deleted += _delete_objects(store, references, batch)
    for orphan in old:
        if orphan.kind == "upload":
            store.abort(Stored(orphan.key, 0, orphan.modified, orphan.upload_id))
        elif orphan.kind != "object":
            _delete(store, orphan.key)
        if orphan.kind != "object":
            deleted.append(orphan)
    return deleted


def _delete_objects(store: Store, references: _References, batch: list[Orphan]) -> Iterator[Orphan]:
    references.look()
    held = {}
    for orphan in batch:
        if orphan.key not in references:
            try:
                held[orphan.key] = store.get(orphan.key)
            except MissingInput:  # somebody else collects too
                continue
            _delete(store, orphan.key)
    references.look()
    for orphan in batch:
        if orphan.key in held and orphan.key in references:
            store.create_same(orphan.key, held[orphan.key])
        elif orphan.key in held:
            yield orphan


def _delete(store: Store, key: str) -> None:
    try:
        store.delete(key)
    except MissingInput:
        return


class _References:
    """Keys of objects that releases and commit records refer to; every `look` reads what has come since the last one."""

    def __init__(self, store: Store) -> None:
        self.runs: set[str] = set()
        """Plans that a release was made of."""
        self._store = store
        empty = sha256_hex(encode(PSEUDO_GT_SCHEMA.empty_table()))
        self._objects = {object_key(empty)}  # of shards set aside: no commit record ever refers to it, a release only later
        self._read: set[str] = set()
        self._derived: set[str] = set()

    def files_of(self, version: str) -> set[str]:
        """Names of the files that the folder of a version has to hold."""
        return _VERSION_FILES | ({SELECTION} if version in self._derived else set())

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def look(self) -> None:
        """Take in releases and records that were not there before. A record is read after the releases, which often say the same."""
        records = [match for key, *_ in self._store.scan("runs") if key not in self._read and (match := _RECORD.fullmatch(key))]
        published = self._releases()
        unread = []
        for match in records:
            if match.group() not in self._read and int(match.group(2)) not in published.get(match.group(1), ()):
                unread.append(match.group())
            self._read.add(match.group())
        self._objects.update(in_parallel(self._object_of, unread, READ_THREADS))

    def _object_of(self, key: str) -> str:
        try:
            return object_key(ShardCommit.from_bytes(self._store.get(key, start=0)).sha256)
        except ValidationError:
            raise ReleaseError(
                f"{join(self._store.url, key)}: not a shard commit, so nobody knows which object it refers to; nothing was deleted. "
                "Restore it, or remove it and annotate its shard again"
            ) from None

    def _releases(self) -> dict[str, set[int]]:
        """Plan digest -> shards whose records the releases that were not read before repeat."""
        published: dict[str, set[int]] = defaultdict(set)
        for key, *_ in list(self._store.scan("releases")):
            match = _VERSION.fullmatch(key)
            if not match or match.group(3) != "shards.parquet" or key in self._read:
                continue
            manifest = read_manifest(self._store, match.group(1), int(match.group(2)))
            release = Release(self._store, manifest, manifest.digest())
            self._objects.update(map(object_key, release.shards["sha256"].to_pylist()))
            aside = release.quarantined["shard"].filter(pc.is_in(release.quarantined["reason"], pa.array(SHARD_REASONS)))
            published[manifest.plan_digest] |= set(release.shards["index"].to_pylist()) - set(aside.to_pylist())
            self.runs.add(manifest.plan_digest)
            if manifest.selection is not None:
                self._derived.add(key.rpartition("/")[0])
            self._read.add(key)
        return published


def _orphans(store: Store, references: _References) -> Iterator[Orphan]:
    runs: dict[str, list[Stored]] = defaultdict(list)
    versions: dict[str, dict[str, Stored]] = defaultdict(dict)
    for stored in store.scan():
        key = stored.key
        if key.rpartition("/")[2].startswith(".partial-"):
            yield Orphan("partial", key, stored.size_bytes, stored.modified)
        elif _OBJECT.fullmatch(key):
            if key not in references:
                yield Orphan("object", key, stored.size_bytes, stored.modified)
        elif match := _RECORD.fullmatch(key) or _RUN.fullmatch(key):
            if match.group(1) not in references.runs:
                runs[f"runs/{match.group(1)}"].append(stored)
        elif _ATTEMPT.fullmatch(key):
            yield Orphan("attempt", key, stored.size_bytes, stored.modified)
        elif (match := _VERSION.fullmatch(key)) and match.group(3) in {*_VERSION_FILES, SELECTION}:
            versions[key.rpartition("/")[0]][match.group(3)] = stored
        elif not _POINTER.fullmatch(key):
            yield Orphan("stray", key, stored.size_bytes, stored.modified)
    yield from (_folder("run", key, parts) for key, parts in runs.items())
    yield from (_folder("version", key, files.values()) for key, files in versions.items() if files.keys() != references.files_of(key))
    yield from (Orphan("upload", *upload) for upload in store.uploads())


def _folder(kind: Kind, key: str, parts: Iterable[Stored]) -> Orphan:
    parts = list(parts)
    return Orphan(kind, key, sum(part.size_bytes for part in parts), max(part.modified for part in parts))
