"""How a shard's rows and then a whole release enter the store: create-only, in an order that any crash may cut.

A shard: object, then commit record. A release: manifest (it claims the version number), then quarantine and card, then
HEAD by compare-and-swap. Whoever runs again finds what is there, agrees with it and goes on from it; the same release is
never written twice, and HEAD only moves forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import ValidationError

from engine import faults
from engine.errors import AlreadyExists, CommitConflict, MissingInput, ReleaseError, StorageError
from engine.releases.card import write_card
from engine.releases.figures import count_figures
from engine.releases.store import (
    READ_THREADS,
    Release,
    commit_key,
    commits_prefix,
    first_problem,
    head_key,
    object_key,
    plan_key,
    read_head,
    read_manifest,
    version_prefix,
)
from engine.releases.tables import add_counts, count_reasons, encode, quarantine_table
from engine.storage import Store, join
from schemas.manifests import AnnotationPlan, QuarantineRow, ReleaseManifest, ReleasePointer, ShardCommit, ShardPlan
from schemas.records import sha256_hex

_HEAD_TRIES = 100


@dataclass(frozen=True)
class CommitOutcome:
    """`commit` is what the store holds. `raced`: another worker had committed other bytes for the same shard first."""

    commit: ShardCommit
    raced: bool = False


def make_commit(plan_digest: str, shard: ShardPlan, data: bytes, table: pa.Table, quarantine: tuple[QuarantineRow, ...]) -> ShardCommit:
    """The record of a shard's rows, `data` being the Parquet bytes of `table`.

    ReleaseError when its instances are not all accounted for, or the rows are not of the pseudo-GT schema.
    """
    annotated, quarantined = table.num_rows, count_reasons(quarantine)
    if annotated + sum(quarantined.values()) != shard.instances:
        raise ReleaseError(
            f"shard {shard.index} ({shard.url}): planned {shard.instances} instances, but {annotated} were annotated "
            f"and {quarantined} quarantined; nothing was committed; the image shard and its manifest disagree"
        )
    return ShardCommit(
        plan_digest=plan_digest,
        index=shard.index,
        source_sha256=shard.sha256,
        sha256=sha256_hex(data),
        size_bytes=len(data),
        planned=shard.instances,
        annotated=annotated,
        skipped={},
        quarantined=quarantined,
        quarantine=quarantine,
        figures=count_figures(table),
    )


def commit_shard(store: Store, commit: ShardCommit, data: bytes) -> CommitOutcome:
    """Put a shard's Parquet bytes and then its record into the store.

    When another worker was first, its record stands: a release holds one answer a shard, and a retry on other hardware may
    differ in the last bit. `raced` tells.
    """
    where = f"{commit.index:06d}"
    faults.hit("before_object", where)
    store.create_same(object_key(commit.sha256), data)
    faults.hit("after_object", where)
    key = commit_key(commit.plan_digest, commit.index)
    try:
        store.create_same(key, commit.to_bytes())
    except CommitConflict:
        return CommitOutcome(_read_commit(store, key), raced=True)
    faults.hit("after_record", where)
    return CommitOutcome(commit)


def load_commit(store: Store, plan_digest: str, index: int) -> ShardCommit | None:
    """The record of one shard, None when it is not committed."""
    try:
        return _read_commit(store, commit_key(plan_digest, index))
    except MissingInput:
        return None


def load_commits(store: Store, plan: AnnotationPlan) -> dict[int, ShardCommit]:
    """Index -> record of every committed shard of a plan. ReleaseError for a record that belongs to another plan or shard."""
    digest = plan.digest()
    with ThreadPoolExecutor(READ_THREADS) as pool:
        commits = list(pool.map(lambda key: _read_commit(store, key), store.list(commits_prefix(digest))))
    for commit in commits:
        if commit.plan_digest != digest or commit.index >= len(plan.shards) or plan.shards[commit.index].sha256 != commit.source_sha256:
            where = join(store.url, commit_key(digest, commit.index))
            raise ReleaseError(
                f"{where}: a commit of shard {commit.source_sha256}, plan {commit.plan_digest}: not of this plan; was it moved?"
            )
    return {commit.index: commit for commit in commits}


def save_plan(store: Store, plan: AnnotationPlan) -> None:
    """Write the plan beside its commits, without URLs: they say where, not what."""
    shards = tuple(shard.model_copy(update={"url": ""}) for shard in plan.shards)
    store.create_same(plan_key(plan.digest()), plan.model_copy(update={"shards": shards}).to_bytes())
    faults.hit("after_plan", plan.dataset)


def draft_release(
    name: str, plan: AnnotationPlan, commits: Mapping[int, ShardCommit], body: str, lineage: Mapping[str, str]
) -> ReleaseManifest:
    """The manifest of a release, pure but for `created_at`; its version is not chosen yet. ReleaseError when a shard has no commit."""
    absent = [shard.index for shard in plan.shards if shard.index not in commits]
    if absent:
        raise ReleaseError(
            f"release {name!r}: {len(absent)} of {len(plan.shards)} shards are not committed (first: {absent[0]}); run the job again"
        )
    shards = tuple(commits[shard.index] for shard in plan.shards)
    return ReleaseManifest(
        name=name,
        version=1,
        dataset=plan.dataset,
        split=plan.split,
        plan_digest=plan.digest(),
        lineage=dict(lineage),
        body=body,
        settings=plan.settings,
        shards=shards,
        planned=sum(s.planned for s in shards),
        annotated=sum(s.annotated for s in shards),
        skipped=add_counts(s.skipped for s in shards),
        quarantined=add_counts(s.quarantined for s in shards),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def publish(store: Store, draft: ReleaseManifest) -> Release:
    """Make a drafted release the HEAD of its name; nothing is written when HEAD already is this release.

    Two processes that publish the same release agree on one version; two that publish different ones get two, and HEAD ends
    at the higher.
    """
    digest = draft.digest()
    _, pointer = read_head(store, draft.name)
    if pointer is not None and pointer.release_digest == digest:
        return Release(store, read_manifest(store, draft.name, pointer.version), digest)
    faults.hit("before_manifest", draft.name)
    manifest = _claim_version(store, draft, first=1 if pointer is None else pointer.version + 1)
    faults.hit("after_manifest", draft.name)
    folder = version_prefix(manifest.name, manifest.version)
    release = Release(store, manifest, digest)
    store.create_same(f"{folder}/quarantine.parquet", encode(quarantine_table(manifest.shards)))
    store.create_same(f"{folder}/README.md", write_card(release).encode())
    faults.hit("before_head", draft.name)
    _move_head(
        store, ReleasePointer(version=manifest.version, release_digest=digest, manifest_path=f"{folder}/manifest.json"), manifest.name
    )
    faults.hit("after_head", draft.name)
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


def _move_head(store: Store, pointer: ReleasePointer, name: str) -> None:
    for _ in range(_HEAD_TRIES):
        data, current = read_head(store, name)
        if current is not None and current.version >= pointer.version:
            return
        try:
            store.swap(head_key(name), data, pointer.to_bytes())
            return
        except CommitConflict as error:
            conflict = error
    raise conflict


def _read_commit(store: Store, key: str) -> ShardCommit:
    try:
        return ShardCommit.from_bytes(store.get(key))
    except ValidationError as error:
        raise StorageError(f"{join(store.url, key)}: not a shard commit: {first_problem(error)}") from None
