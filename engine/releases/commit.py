"""How a shard's rows enter the store: object, then commit record, both create-only, in an order that any crash may cut.

A worker that finds the shard committed agrees with what is there. Records are small and many, so a driver holds them as bytes, reads
only those that its workers have not told it of, and leaves them collected for its successor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pydantic import ValidationError

from engine import faults
from engine.errors import CommitConflict, MissingInput, ReleaseError, StorageError
from engine.releases.figures import count_figures
from engine.releases.parallel import in_parallel
from engine.releases.store import READ_THREADS, collected_prefix, commit_key, commits_prefix, first_problem, object_key, plan_key
from engine.releases.tables import count_reasons
from engine.storage import Store, join
from schemas.manifests import AnnotationPlan, QuarantineRow, ShardCommit, ShardPlan
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex

_RECORD_THREADS = 64
"""Records are read one a request, and a request to an object store is mostly waiting."""


@dataclass(frozen=True)
class CommitOutcome:
    """`commit` is what the store holds. `raced`: another worker had committed other bytes for the same shard first."""

    commit: ShardCommit
    raced: bool = False


class Commits(Mapping[int, ShardCommit]):
    """Commit records of one plan by shard index, held as bytes: some 2 kB a shard, a record is built when it is asked for."""

    def __init__(self, plan: AnnotationPlan) -> None:
        self.plan_digest = plan.digest()
        self._shards = plan.shards
        self._records: dict[int, bytes] = {}

    def add(self, record: bytes, where: str = "a commit record") -> ShardCommit:
        """Take in a record's bytes. StorageError when they are none, ReleaseError when they are of another plan or shard."""
        try:
            commit = ShardCommit.from_bytes(record)
        except ValidationError as error:
            raise StorageError(f"{where}: not a shard commit: {first_problem(error)}") from None
        known = commit.index < len(self._shards) and self._shards[commit.index].sha256 == commit.source_sha256
        if commit.plan_digest != self.plan_digest or not known:
            raise ReleaseError(
                f"{where}: a commit of shard {commit.source_sha256}, plan {commit.plan_digest}: not of this plan; was it moved?"
            )
        self._records[commit.index] = record
        return commit

    def record(self, index: int) -> bytes:
        """The record's bytes."""
        return self._records[index]

    def keep(self, other: Commits, index: int) -> None:
        """Take over a record that other commits of the same plan hold."""
        self._records[index] = other._records[index]

    def __getitem__(self, index: int) -> ShardCommit:
        return ShardCommit.from_bytes(self._records[index])

    def __contains__(self, index: object) -> bool:
        return index in self._records

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._records))

    def __len__(self) -> int:
        return len(self._records)


def make_commit(
    plan_digest: str,
    shard: ShardPlan,
    data: bytes,
    table: pa.Table,
    quarantine: tuple[QuarantineRow, ...],
    skipped: Mapping[str, int] | None = None,
) -> ShardCommit:
    """The record of a shard's rows, `data` being the Parquet bytes of `table`. `skipped`: instances by the reason why they are left out.

    ReleaseError when its instances are not all accounted for, or the rows are not of the pseudo-GT schema.
    """
    if not table.schema.equals(PSEUDO_GT_SCHEMA):
        raise ReleaseError(f"shard {shard.index} ({shard.url}): expected rows of the pseudo-GT schema, found {table.schema.names}")
    annotated, quarantined, skipped = table.num_rows, count_reasons(quarantine), dict(sorted((skipped or {}).items()))
    if annotated + sum(quarantined.values()) + sum(skipped.values()) != shard.instances:
        raise ReleaseError(
            f"shard {shard.index} ({shard.url}): planned {shard.instances} instances, but {annotated} were annotated, "
            f"{skipped or 'none'} skipped and {quarantined or 'none'} quarantined; nothing was committed; "
            "the image shard and its manifest disagree"
        )
    return ShardCommit(
        plan_digest=plan_digest,
        index=shard.index,
        source_sha256=shard.sha256,
        sha256=sha256_hex(data),
        size_bytes=len(data),
        planned=shard.instances,
        annotated=annotated,
        skipped=skipped,
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
    key = object_key(commit.sha256)
    written = store.create_same(key, data)
    faults.hit("after_object", where)
    try:
        store.create_same(commit_key(commit.plan_digest, commit.index), commit.to_bytes())
    except CommitConflict:
        return CommitOutcome(_read_commit(store, commit_key(commit.plan_digest, commit.index)), raced=True)
    if not written and not store.exists(key):
        # an old object that nothing referred to may be collected as garbage until the record is there
        store.create_same(key, data)
    faults.hit("after_record", where)
    return CommitOutcome(commit)


def load_commit(store: Store, plan_digest: str, index: int) -> ShardCommit | None:
    """The record of one shard, None when it is not committed."""
    try:
        return _read_commit(store, commit_key(plan_digest, index))
    except MissingInput:
        return None


def load_commits(store: Store, plan: AnnotationPlan, known: Commits | None = None) -> Commits:
    """Every committed shard of a plan, as one listing of the records says.

    A record's content comes from the `known`, which this process was told by its own workers, from what `collect_commits` wrote, or else
    from the record itself: a request each. ReleaseError for one that belongs to another plan or shard, StorageError for one that is none.
    """
    commits = Commits(plan)
    index_of = {commit_key(commits.plan_digest, shard.index): shard.index for shard in plan.shards}
    listed = store.list(commits_prefix(commits.plan_digest))
    if stray := next((key for key in listed if key not in index_of), None):
        raise ReleaseError(f"{join(store.url, stray)}: not of this plan, which has no such shard; was it moved?")
    told = known if known is not None else Commits(plan)
    if any(index_of[key] not in told for key in listed):
        told = _read_collected(store, plan, told)
    for key in listed:
        if index_of[key] in told:
            commits.keep(told, index_of[key])
    unread = [key for key in listed if index_of[key] not in told]
    threads = 1 if store.protocol == "file" else _RECORD_THREADS
    read = partial(store.get, start=0)  # without a start s3fs asks for the size first, which is another request
    for key, record in zip(unread, in_parallel(read, unread, threads), strict=True):
        where = join(store.url, key)
        if commits.add(record, where).index != index_of[key]:
            raise ReleaseError(f"{where}: the commit of another shard: not of this plan; was it moved?")
    return commits


def collect_commits(store: Store, commits: Commits, indices: Iterable[int]) -> None:
    """Write the records of some committed shards once more, as one object, so that a later submission reads them with one request.

    A copy and nothing else: a shard counts as committed by its own record. Nothing is written for no indices.
    """
    if data := b"\n".join(commits.record(index) for index in sorted(indices)):
        store.create_same(f"{collected_prefix(commits.plan_digest)}/{sha256_hex(data)}.jsonl", data)


def _read_collected(store: Store, plan: AnnotationPlan, known: Commits) -> Commits:
    """The known and the collected records of a plan."""
    told = Commits(plan)
    keys = store.list(collected_prefix(told.plan_digest))
    for key, data in zip(keys, in_parallel(store.get, keys, READ_THREADS), strict=True):
        for record in data.splitlines():
            told.add(record, join(store.url, key))
    for index in known:
        told.keep(known, index)
    return told


def save_plan(store: Store, plan: AnnotationPlan) -> None:
    """Write the plan beside its commits, without URLs: they say where, not what."""
    data = plan.without_urls()
    store.create_same(plan_key(sha256_hex(data)), data)
    faults.hit("after_plan", plan.dataset)


def _read_commit(store: Store, key: str) -> ShardCommit:
    try:
        return ShardCommit.from_bytes(store.get(key))
    except ValidationError as error:
        raise StorageError(f"{join(store.url, key)}: not a shard commit: {first_problem(error)}") from None
