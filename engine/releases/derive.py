"""A release that is a part of another: the rows that a filter keeps, or those of a list of persons. Metadata alone.

The new release refers to the objects of the old one and says which of their rows are its own (selection.py), so it costs no copy, and
what it leaves out is counted as skipped. The filter's columns are decoded from objects whose whole bytes were checked: a digest
covers an object, not a column, and what a release holds must not be decided by bytes that nobody vouches for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ReleaseError
from engine.releases.expressions import Expression
from engine.releases.figures import count_figures, total_figures
from engine.releases.parallel import in_parallel
from engine.releases.persons import Persons
from engine.releases.publish import ReleaseDraft, publish, table_file
from engine.releases.selection import FILTERED, SELECTION, encode_selection, make_selection, stored_rows
from engine.releases.store import READ_THREADS, Release
from engine.releases.tables import encode, release_tables, sum_counts
from schemas.manifests import FigureTotal, ReleaseManifest, ShardCommit

log = logging.getLogger(__name__)


class _Part(NamedTuple):
    """What is kept of a shard: its record, the places of its rows in the object (None: all), and who of a list is there."""

    commit: ShardCommit
    kept: np.ndarray | None
    found: Persons | None


def derive(parent: Release, name: str, keep: Expression | Persons, allow_unknown: bool = False) -> Release:
    """Publish the rows of `parent` that `keep` takes as the next version of `name`, in the same store.

    Persons of a list who have no row in `parent` are a ReleaseError that names the first, unless `allow_unknown`. ReleaseError too when
    nothing is kept or an object is damaged. Deriving the same again changes nothing.
    """
    return publish(parent.store, draft_derived(parent, name, keep, allow_unknown))


def draft_derived(parent: Release, name: str, keep: Expression | Persons, allow_unknown: bool = False) -> ReleaseDraft:
    """The derived release, pure but for `created_at`. Raises as `derive` does."""
    m = parent.manifest
    edges = {figure: total.edges for figure, total in m.figures.items()}
    selected: list[tuple[int, np.ndarray | None]] = []
    missing = _Missing(keep)

    def commits() -> Iterator[ShardCommit]:
        for part in in_parallel(lambda shard: _select(parent, shard, keep, edges), parent.commits(), READ_THREADS):
            selected.append((part.commit.index, part.kept))
            missing.found(part.found)
            yield part.commit

    shards, quarantine = release_tables(commits(), edges)
    annotated = pc.sum(shards["annotated"]).as_py() or 0
    if missing.count:
        told = f"{parent.where}: {missing.count} persons of the list have no row in it, such as {'; '.join(missing.some())}"
        if not allow_unknown:
            raise ReleaseError(f"{told}; see whether it is the right release, or allow it with --allow_unknown=true")
        log.warning("%s", told)
    if not annotated:
        raise ReleaseError(f"{parent.where}: {keep.text} keeps none of its {m.annotated} rows; nothing was written")
    selection = make_selection(selected)
    tables = {"shards.parquet": encode(shards), "quarantine.parquet": encode(quarantine), SELECTION: encode_selection(selection)}
    changed = {
        "name": name,
        "version": 1,
        "lineage": m.lineage | {"release": parent.digest} | ({"ids": keep.digest()} if isinstance(keep, Persons) else {}),
        "settings": m.settings | {"filter": _both(m.settings.get("filter"), keep.text)},
        "shards": table_file("shards.parquet", tables, shards),
        "quarantine": table_file("quarantine.parquet", tables, quarantine),
        "selection": table_file(SELECTION, tables, selection),
        "annotated": annotated,
        "skipped": sum_counts(shards["skipped"]),
        "figures": {n: FigureTotal(edges=edges[n], counts=h.counts, sum=h.sum) for n, h in total_figures(shards).items()},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return ReleaseDraft(ReleaseManifest(**dict(m) | changed), tables)


def _both(before: object, text: str) -> str:
    return text if before is None else f"({before}) and ({text})"


def _select(parent: Release, shard: ShardCommit, keep: Expression | Persons, edges: Mapping[str, tuple[float, ...]]) -> _Part:
    if not shard.annotated:
        return _Part(shard, parent.kept(shard), None)
    rows = parent.read(shard, sorted({*keep.columns, *edges, "valid_joints"}))
    taken = keep(rows)
    before = parent.kept(shard)
    kept = np.flatnonzero(taken) if before is None else before[taken]
    skipped = {reason: n for reason, n in shard.skipped.items() if reason != FILTERED}
    if left_out := stored_rows(shard) - len(kept):
        skipped[FILTERED] = left_out
    rows = rows.filter(pa.array(taken))
    update = {"annotated": len(kept), "skipped": dict(sorted(skipped.items())), "figures": count_figures(rows, edges)}
    found = keep.among(rows) if isinstance(keep, Persons) else None
    return _Part(shard.model_copy(update=update), kept if left_out else None, found)


class _Missing:
    """Who of a list of persons was not found so far."""

    def __init__(self, keep: Expression | Persons) -> None:
        self._named, self._alone = (set(keep.named), set(keep.alone)) if isinstance(keep, Persons) else (set(), set())

    def found(self, persons: Persons | None) -> None:
        if persons is not None:
            self._named -= persons.named
            self._alone -= persons.alone

    @property
    def count(self) -> int:
        return len(self._named) + len(self._alone)

    def some(self) -> list[str]:
        return Persons(frozenset(self._named), frozenset(self._alone)).some()
