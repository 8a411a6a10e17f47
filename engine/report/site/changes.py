"""What changed from a release to another, for a page: how many, how far, and who most.

Shapes: M persons on the site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.releases.change import Bodies, measure_change, open_bodies
from engine.releases.diff import ADDED, CHANGED, REMOVED, diff_rows
from engine.releases.diff_summary import furthest, measures_of
from engine.releases.store import Release
from engine.report.site.persons import Name

MM_EDGES = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, 150.0, 200.0, 300.0, 500.0)
DEGREE_EDGES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 180.0)


@dataclass(frozen=True)
class Changes:
    """Counts over the whole of both releases; `most` are the names of those that changed most, furthest first."""

    only_a: int
    only_b: int
    changed: int
    same: int
    figure: str
    """'mm', or 'degrees' where the two bodies differ and distances mean nothing."""
    counts: tuple[int, ...]
    """Changed persons by bin of `edges`: below the first, from one up to the next, from the last on."""
    most: tuple[Name, ...]
    bodies: Bodies

    @property
    def edges(self) -> tuple[float, ...]:
        return MM_EDGES if self.figure == "mm" else DEGREE_EDGES


def read_changes(a: Release, b: Release, most: int, smpl_dir: str | None = None) -> Changes:
    """Compare every person of two releases; at most `most` names are kept. ReleaseError for damaged rows."""
    bodies = open_bodies(a, b, smpl_dir)
    figure, *_ = order = measures_of(bodies)
    edges = np.asarray(MM_EDGES if figure == "mm" else DEGREE_EDGES)
    totals, counts = dict.fromkeys((ADDED, REMOVED, CHANGED), 0), np.zeros(len(edges) + 1, np.int64)
    top: pa.Table | None = None
    for table in diff_rows(a, b, bodies):
        for kind in totals:
            totals[kind] += pc.sum(pc.equal(table["change"], kind)).as_py() or 0
        moved = table.filter(pc.equal(table["change"], CHANGED)).select(["key", "annotation_id", *order])
        values = moved[figure].to_numpy().astype(np.float64)
        counts += np.bincount(np.searchsorted(edges, values[~np.isnan(values)], side="right"), minlength=len(counts))
        top = furthest(moved if top is None else pa.concat_tables([top, moved]), order, most)
    names = [] if top is None else list(zip(top["key"].to_pylist(), top["annotation_id"].to_pylist(), strict=True))
    same = a.manifest.annotated - totals[REMOVED] - totals[CHANGED]
    return Changes(totals[REMOVED], totals[ADDED], totals[CHANGED], same, figure, tuple(counts.tolist()), tuple(names), bodies)


def changes_of(rows: pa.Table, other: pa.Table, places_M: np.ndarray, bodies: Bodies) -> dict[str, np.ndarray]:
    """Change in mm, degrees and px (M,) from each row to its place in `other`; NaN where that is -1."""
    both = places_M >= 0
    measured = measure_change(rows.filter(pa.array(both)), other.take(pa.array(places_M[both])), bodies)
    found = {}
    for name, values in zip(("mm", "degrees", "px"), measured, strict=True):
        found[name] = np.full(len(rows), np.nan, np.float32)
        found[name][both] = values
    return found
