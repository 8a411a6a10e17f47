"""Is a release what it says it is? Believes digests and listings, or, where it looks deep, nothing but bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import EngineError, ReleaseError
from engine.releases.figures import total_figures
from engine.releases.selection import FILTERED, SELECTION, kept_rows
from engine.releases.store import Release, commit_key, commits_prefix, object_key
from engine.releases.tables import SHARD_REASONS, sum_counts
from engine.releases.verify_files import collected_problems, file_problems, plan_problems
from engine.releases.verify_rows import row_problems

_MOST_PROBLEMS = 20


def verify_release(release: Release, deep: bool = True) -> None:
    """Nothing when all is well; ReleaseError that lists what is wrong (the first 20 of `find_problems`)."""
    problems = list(find_problems(release, deep))
    if problems:
        rest = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise ReleaseError(f"{release.where}: {len(problems)} problems: " + "; ".join(problems[:_MOST_PROBLEMS]) + rest)


def find_problems(release: Release, deep: bool = True, on_shard: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Everything that is wrong with a release, a line each.

    Always: manifest and card as stored, HEAD and every tag of the name; the tables' digests; the plan; what a derived release keeps;
    annotated + skipped + quarantined = planned, for each shard and in total; histograms; the quarantine rows against the counts.
    deep: every object's sha256, size, schema, row count, order and histograms; finite numbers in their ranges; (key, annotation_id)
    unique over the release; whether a derived release keeps what its filter says; every commit record and the collected ones. This reads
    the whole release; `on_shard` is called after each shard.
    Otherwise objects and records are listed: each is there, each object of its size.
    """
    unreadable = list(_table_problems(release))
    yield from file_problems(release)
    yield from unreadable
    yield from plan_problems(release, readable=not unreadable)
    if not unreadable:
        yield from _count_problems(release)
        yield from _selection_problems(release)
    if not deep:
        yield from () if unreadable else _listing_problems(release)
        return
    if not unreadable:
        yield from row_problems(release, on_shard)
    yield from collected_problems(release)


def _table_problems(release: Release) -> Iterator[str]:
    for name in ("shards", "quarantined", "selection"):
        try:
            getattr(release, name)
        except EngineError as error:
            yield str(error)


def _count_problems(release: Release) -> Iterator[str]:
    """Conservation, for each shard and in total, and what the tables say of each other."""
    m, shards, quarantined = release.manifest, release.shards, release.quarantined
    accounted = shards["annotated"].to_numpy() + _per_shard(shards["skipped"]) + _per_shard(shards["quarantined"])
    for row in np.flatnonzero(accounted != shards["planned"].to_numpy()):
        yield f"shard {row}: planned {shards['planned'][row]} instances but accounts for {accounted[row]}"
    totals = (pc.sum(shards["planned"]).as_py() or 0, pc.sum(shards["annotated"]).as_py() or 0)
    if (*totals, sum_counts(shards["skipped"]), sum_counts(shards["quarantined"])) != (m.planned, m.annotated, m.skipped, m.quarantined):
        yield "the manifest's totals are not the sums over its shards"
    counted = quarantined.select(["shard", "reason", "instances"]).group_by(["shard", "reason"]).aggregate([("instances", "sum")])
    said = shards["quarantined"].combine_chunks()
    index = shards["index"].to_numpy().repeat(np.diff(said.offsets.to_numpy()))
    pairs = (counted["shard"], counted["reason"], counted["instances_sum"]), (pa.array(index), said.keys, said.items)
    rows, table = ({(s, r): n for s, r, n in zip(*(c.to_pylist() for c in columns), strict=True)} for columns in pairs)
    for shard in sorted({shard for (shard, _), _ in rows.items() ^ table.items()}):
        yield f"shard {shard}: the rows of the quarantine do not add up to the counts of the shard"
    totals_of = total_figures(shards)
    if {name: (f.counts, f.sum) for name, f in m.figures.items()} != {name: (h.counts, h.sum) for name, h in totals_of.items()}:
        yield "the manifest's figures are not the sums over its shards"


def _selection_problems(release: Release) -> Iterator[str]:
    """Whether a derived release keeps rows that the objects can have, as many as it says. (A damaged count is found above.)"""
    shards, selection = release.shards, release.selection
    if selection is None:
        if FILTERED in release.manifest.skipped:
            yield f"instances are skipped as {FILTERED!r}, but the manifest names no {SELECTION}"
        return
    annotated, skipped = shards["annotated"].to_pylist(), shards["skipped"].to_pylist(maps_as_pydicts="strict")
    for place, (kept, reasons) in enumerate(zip(annotated, skipped, strict=True)):
        try:
            kept_rows(selection, place, kept, kept + reasons.get(FILTERED, 0))
        except ReleaseError as error:
            yield str(error)


def _per_shard(column: pa.ChunkedArray) -> np.ndarray:
    """Sum over the reasons of each row of a column of counts."""
    entries = column.combine_chunks()
    running = np.concatenate([[0], np.cumsum(entries.items.to_numpy())])
    return np.diff(running[entries.offsets.to_numpy()])


def _listing_problems(release: Release) -> Iterator[str]:
    m, shards = release.manifest, release.shards
    records = {stored.key for stored in release.store.scan(commits_prefix(m.plan_digest))}
    aside = pc.is_in(release.quarantined["reason"], pa.array(SHARD_REASONS))
    without = set(release.quarantined["shard"].filter(aside).to_pylist())
    for index in shards["index"].to_pylist():
        if index not in without and commit_key(m.plan_digest, index) not in records:
            yield f"shard {index}: no commit record: {commit_key(m.plan_digest, index)}"
    sizes = {stored.key: stored.size_bytes for stored in release.store.scan("objects")}
    for index, sha256, size in zip(*(shards[name].to_pylist() for name in ("index", "sha256", "size_bytes")), strict=True):
        if (found := sizes.get(object_key(sha256))) != size:
            has = "no such object" if found is None else f"expected {size} bytes, found {found}"
            yield f"pseudo-GT of shard {index}: {object_key(sha256)}: {has}"
