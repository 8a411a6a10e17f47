"""What changed from one release to another, person by person: who is new, who is gone, and how far the fits of the others moved.

Shards made from the same image shard are compared with each other, and are not read where both releases refer to one object and keep the
same rows of it. Where the two were made from different shard sets, the persons of the shards that have no counterpart are found by the
digest of their (key, annotation_id), 24 bytes a person; that is fast as long as both sets are in the order of their keys, as ingest
makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.releases.change import Bodies, measure_change, open_bodies
from engine.releases.parallel import in_parallel
from engine.releases.store import READ_THREADS, Release
from schemas.manifests import ShardCommit
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
DIFF_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("annotation_id", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in ("mm", "degrees", "px", "score_a", "score_b")),
    ]
)
"""One row a person who is not the same in both: 'added' (in b alone), 'removed' (in a alone) or 'changed' (any column differs).

mm, degrees, px: as in `change.Change`; NaN for who is in one of the two, and where bodies differ or are not at hand. score_a, score_b: NaN
where the person is not."""
_NAMES = ("dataset", "key", "annotation_id", "score")
_TABLES_AT_HAND = 16


@dataclass(frozen=True)
class ShardPairs:
    """Which shards of two releases are to be compared, by their image shards' digests.

    identical: the same rows of the same object. aligned: from the same image shard. only_a, only_b: the rest.
    """

    identical: tuple[str, ...]
    aligned: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def pair_shards(a: Release, b: Release) -> ShardPairs:
    """What to compare, from the tables of shards alone; each in the order of its release."""
    objects_a, objects_b = (dict(zip(*(r.shards[name].to_pylist() for name in ("source_sha256", "sha256")), strict=True)) for r in (a, b))
    both = [source for source in objects_a if source in objects_b]
    derived = a.selection is not None or b.selection is not None
    same = {s for s in both if objects_a[s] == objects_b[s] and (not derived or np.array_equal(*_kept(a, b, s)))}
    return ShardPairs(
        identical=tuple(s for s in both if s in same),
        aligned=tuple(s for s in both if s not in same),
        only_a=tuple(s for s in objects_a if s not in objects_b),
        only_b=tuple(s for s in objects_b if s not in objects_a),
    )


def diff_rows(a: Release, b: Release, bodies: Bodies | None = None) -> Iterator[pa.Table]:
    """Tables (DIFF_SCHEMA) of everybody who is not the same in both releases, a few shards' worth at a time, sorted within each by name.

    bodies: what `open_bodies` finds, if not given. Every object read is checked; ReleaseError for one that is damaged.
    """
    bodies = open_bodies(a, b) if bodies is None else bodies
    pairs = pair_shards(a, b)

    def compare(source: str) -> pa.Table:
        return _compare_shards(a, b, a.commit(source), b.commit(source), bodies)

    for table in in_parallel(compare, pairs.aligned, READ_THREADS):
        if len(table):
            yield table
    if pairs.only_a or pairs.only_b:
        yield from _compare_unaligned(a, b, pairs, bodies)


def _kept(a: Release, b: Release, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Places that each release keeps of an object of theirs."""
    commits = a.commit(source), b.commit(source)
    kept_a, kept_b = (
        np.arange(shard.annotated) if (kept := release.kept(shard)) is None else kept
        for release, shard in zip((a, b), commits, strict=True)
    )
    return kept_a, kept_b


def _compare_shards(a: Release, b: Release, shard_a: ShardCommit, shard_b: ShardCommit, bodies: Bodies) -> pa.Table:
    if shard_a.sha256 == shard_b.sha256:  # of one object each keeps other rows, and none has changed
        kept_a, kept_b = _kept(a, b, shard_a.source_sha256)
        removed = a.read(shard_a, _NAMES).filter(pa.array(~np.isin(kept_a, kept_b)))
        added = b.read(shard_b, _NAMES).filter(pa.array(~np.isin(kept_b, kept_a)))
        return _sorted([_one_sided(removed, REMOVED), _one_sided(added, ADDED)])
    rows_a, rows_b = a.read(shard_a), b.read(shard_b)
    if rows_a["key"].equals(rows_b["key"]) and rows_a["annotation_id"].equals(rows_b["annotation_id"]):
        return _changed(rows_a, rows_b, bodies)
    place_of = {name: place for place, name in enumerate(_names(rows_a))}
    found = np.array([place_of.get(name, -1) for name in _names(rows_b)], np.int64)
    both = found >= 0
    gone = np.ones(len(rows_a), bool)
    gone[found[both]] = False
    return _sorted(
        [
            _changed(rows_a.take(pa.array(found[both])), rows_b.filter(pa.array(both)), bodies),
            _one_sided(rows_a.filter(pa.array(gone)), REMOVED),
            _one_sided(rows_b.filter(pa.array(~both)), ADDED),
        ]
    )


def _compare_unaligned(a: Release, b: Release, pairs: ShardPairs, bodies: Bodies) -> Iterator[pa.Table]:
    """Persons of shards without a counterpart: b's, in order, against whichever of a's have them."""
    shards_a = [a.commit(source) for source in pairs.only_a]
    starts = np.cumsum([0, *(shard.annotated for shard in shards_a)])
    tables = in_parallel(lambda shard: _digests(a.read(shard, _NAMES)), shards_a, READ_THREADS)
    digests = np.concatenate([np.empty(0, "S16"), *tables])
    order = np.argsort(digests, kind="stable").astype(np.int64)
    digests = digests[order]
    gone = np.ones(len(order), bool)
    table_of = lru_cache(_TABLES_AT_HAND)(lambda number: a.read(shards_a[number]))
    for rows in in_parallel(b.read, map(b.commit, pairs.only_b), READ_THREADS):
        wanted = _digests(rows)
        at = np.minimum(np.searchsorted(digests, wanted), max(len(digests) - 1, 0))
        both = digests[at] == wanted if len(digests) else np.zeros(len(rows), bool)
        places = order[at[both]] if len(digests) else at[:0]
        gone[places] = False
        numbers = np.searchsorted(starts, places, side="right") - 1
        parts, at_hand = [PSEUDO_GT_SCHEMA.empty_table()], []
        for number in np.unique(numbers):
            mine = np.flatnonzero(numbers == number)
            parts.append(table_of(int(number)).take(pa.array(places[mine] - starts[number])))
            at_hand.append(mine)
        before = pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate([np.empty(0, np.int64), *at_hand]))))
        changed = _changed(before, rows.filter(pa.array(both)), bodies)
        if len(table := _sorted([changed, _one_sided(rows.filter(pa.array(~both)), ADDED)])):
            yield table
    left = [number for number in range(len(shards_a)) if gone[starts[number] : starts[number + 1]].any()]
    for number, rows in zip(left, in_parallel(lambda number: a.read(shards_a[number], _NAMES), left, READ_THREADS), strict=True):
        yield _one_sided(rows.filter(pa.array(gone[starts[number] : starts[number + 1]])), REMOVED)


def _changed(a: pa.Table, b: pa.Table, bodies: Bodies) -> pa.Table:
    """Those of the persons, row by row the same in both tables, of whom any column differs."""
    differs = np.zeros(len(a), bool)
    for field in PSEUDO_GT_SCHEMA:
        differs |= _differs(a[field.name], b[field.name])
    if not differs.all():
        a, b = a.filter(pa.array(differs)), b.filter(pa.array(differs))
    change = measure_change(a, b, bodies)
    scores = (rows["score"].combine_chunks() for rows in (a, b))
    figures = [pa.array(values) for values in change]
    return pa.Table.from_arrays([*_names_of(b), pa.repeat(pa.scalar(CHANGED), len(b)), *figures, *scores], schema=DIFF_SCHEMA)


def _differs(a: pa.ChunkedArray, b: pa.ChunkedArray) -> np.ndarray:
    """Whether two columns of numbers, vectors or strings differ (N,). NaN is like NaN."""
    if pa.types.is_string(a.type):
        return pc.not_equal(a, b).to_numpy()
    x, y = (v.combine_chunks() for v in (a, b))
    size = 1
    if pa.types.is_fixed_size_list(a.type):
        x, y, size = x.flatten(), y.flatten(), a.type.list_size
    x, y = x.to_numpy(zero_copy_only=False), y.to_numpy(zero_copy_only=False)
    differs = x != y
    if differs.any():
        differs &= (x == x) | (y == y)
    return differs.reshape(len(a), size).any(1)


def _one_sided(rows: pa.Table, change: str) -> pa.Table:
    nothing = pa.array(np.full(len(rows), np.nan, np.float32))
    score = rows["score"].combine_chunks()
    scores = (score, nothing) if change == REMOVED else (nothing, score)
    return pa.Table.from_arrays(
        [*_names_of(rows), pa.repeat(pa.scalar(change), len(rows)), nothing, nothing, nothing, *scores], schema=DIFF_SCHEMA
    )


def _sorted(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).sort_by([("key", "ascending"), ("annotation_id", "ascending")])


def _names_of(rows: pa.Table) -> list[pa.Array]:
    return [rows[name].combine_chunks() for name in ("dataset", "key", "annotation_id")]


def _names(rows: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True)


def _digests(rows: pa.Table) -> np.ndarray:
    return np.array([blake2b(f"{len(key)} {key}{person}".encode(), digest_size=16).digest() for key, person in _names(rows)], "S16")
