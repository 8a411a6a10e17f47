"""How a release enters the store, in an order that any crash may cut.

Manifest (it claims the version number), then its tables and the card, then HEAD by compare-and-swap. Whoever runs again finds what is
there, agrees with it and goes on from it; the same release is never written twice, and HEAD only moves forward.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from engine import faults
from engine.errors import AlreadyExists, CommitConflict, ReleaseError
from engine.releases.card import check_card, write_card
from engine.releases.figures import FIGURES, total_figures
from engine.releases.store import Release, head_key, point_at, read_head, read_manifest, version_prefix
from engine.releases.tables import encode, release_tables, sum_counts
from engine.storage import Store
from schemas.manifests import AnnotationPlan, FigureTotal, ReleaseManifest, ReleasePointer, ShardCommit, TableFile
from schemas.records import sha256_hex

log = logging.getLogger(__name__)

_HEAD_TRIES = 100


@dataclass(frozen=True)
class ReleaseDraft:
    """A release that is not in the store yet: its manifest, whose version is not chosen, and the bytes of its tables by file name."""

    manifest: ReleaseManifest
    tables: dict[str, bytes]


def draft_release(
    name: str, plan: AnnotationPlan, commits: Mapping[int, ShardCommit], body: str, lineage: Mapping[str, str]
) -> ReleaseDraft:
    """A release of these commits, pure but for `created_at`. ReleaseError when a shard has no commit."""
    absent = [shard.index for shard in plan.shards if shard.index not in commits]
    if absent:
        raise ReleaseError(
            f"release {name!r}: {len(absent)} of {len(plan.shards)} shards are not committed (first: {absent[0]}); run the job again"
        )
    shards, quarantine = release_tables(commits[shard.index] for shard in plan.shards)
    tables = {"shards.parquet": encode(shards), "quarantine.parquet": encode(quarantine)}
    manifest = ReleaseManifest(
        name=name,
        version=1,
        dataset=plan.dataset,
        split=plan.split,
        plan_digest=plan.digest(),
        lineage=dict(lineage),
        body=body,
        annotator=plan.annotator,
        settings=plan.settings,
        shards=table_file("shards.parquet", tables, shards),
        quarantine=table_file("quarantine.parquet", tables, quarantine),
        planned=sum(shards["planned"].to_pylist()),
        annotated=sum(shards["annotated"].to_pylist()),
        skipped=sum_counts(shards["skipped"]),
        quarantined=sum_counts(shards["quarantined"]),
        figures={n: FigureTotal(edges=FIGURES[n], counts=h.counts, sum=h.sum) for n, h in total_figures(shards).items()},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return ReleaseDraft(manifest, tables)


def table_file(path: str, tables: Mapping[str, bytes], table: pa.Table) -> TableFile:
    """What a manifest says of one of its tables, `tables` being their bytes by file name."""
    return TableFile(path=path, sha256=sha256_hex(tables[path]), size_bytes=len(tables[path]), rows=len(table))


def publish(store: Store, draft: ReleaseDraft) -> Release:
    """Make a drafted release the HEAD of its name; nothing is written when HEAD already is this release.

    Two processes that publish the same release agree on one version; two that publish different ones get two, and HEAD ends
    at the higher.
    """
    name, digest = draft.manifest.name, draft.manifest.digest()
    _, pointer = read_head(store, name)
    if pointer is not None and pointer.release_digest == digest:
        return Release(store, read_manifest(store, name, pointer.version), digest)
    faults.hit("before_manifest", name)
    manifest = _claim_version(store, draft.manifest, first=1 if pointer is None else pointer.version + 1)
    faults.hit("after_manifest", name)
    release = write_version(store, manifest, draft.tables, write_card(manifest, digest).encode())
    head = move_head(release)
    if head.version > manifest.version:
        log.warning(
            "%s: somebody else published v%04d meanwhile, which is the current one; this is v%04d (%s)",
            name,
            head.version,
            manifest.version,
            digest,
        )
    return release


def write_version(store: Store, manifest: ReleaseManifest, tables: Mapping[str, bytes], card: bytes) -> Release:
    """Write everything else of a version whose manifest is in the store. What is there is agreed with; CommitConflict when it differs."""
    release = Release(store, manifest, manifest.digest())
    folder = version_prefix(manifest.name, manifest.version)
    for path, data in tables.items():
        store.create_same(f"{folder}/{path}", data)
    try:
        store.create_same(f"{folder}/README.md", card)
    except CommitConflict as conflict:
        try:
            check_card(store.get(f"{folder}/README.md"), manifest, release.digest)  # written by another version of this program
        except ReleaseError as error:
            raise CommitConflict(f"{conflict}: {error}") from None
    return release


def _claim_version(store: Store, draft: ReleaseManifest, first: int) -> ReleaseManifest:
    version = first
    while True:
        manifest = draft.model_copy(update={"version": version})
        try:
            store.create(f"{version_prefix(draft.name, version)}/manifest.json", manifest.to_bytes())
            return manifest
        except AlreadyExists:
            found = read_manifest(store, draft.name, version)
            if found.digest() == draft.digest():
                return found
            version += 1


def move_head(release: Release) -> ReleasePointer:
    """Make a whole version the current one, unless a later one is; what HEAD means then."""
    store, name, pointer = release.store, release.manifest.name, point_at(release)
    faults.hit("before_head", name)
    for _ in range(_HEAD_TRIES):
        data, current = read_head(store, name)
        if current is not None and current.version >= pointer.version:
            return current
        try:
            store.swap(head_key(name), data, pointer.to_bytes())
        except CommitConflict as error:
            conflict = error
            continue
        faults.hit("after_head", name)
        return pointer
    raise conflict
