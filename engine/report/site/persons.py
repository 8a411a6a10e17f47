"""The rows of the persons on a site: read shard by shard, so that a release of millions costs one number a person.

Shapes: N persons of the release, M those on the site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.releases.figures import FIGURES, count_figures
from engine.releases.parallel import in_parallel
from engine.releases.store import READ_THREADS, Release
from engine.report.site.choose import choose, mixed_order
from schemas.manifests import Histogram
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

Name = tuple[str, str]
"""Key and annotation id."""
DATASETS_AT_MOST = 50


@dataclass(frozen=True)
class Shown:
    """The persons on a site, in its mixed order, with the image shard (sha256) each is in."""

    rows: pa.Table
    sources: list[str]
    datasets: dict[str, dict[str, Histogram]]
    """Dataset -> figure -> its distribution over all of the release's persons; the first `DATASETS_AT_MOST` by name."""

    @property
    def names(self) -> list[Name]:
        return names_of(self.rows)


def names_of(rows: pa.Table) -> list[Name]:
    return list(zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True))


def vectors(rows: pa.Table, name: str) -> np.ndarray:
    """A column of vectors (M, length), float32."""
    flat = rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(rows.num_rows, PSEUDO_GT_SCHEMA.field(name).type.list_size).astype(np.float32)


def read_shown(release: Release, most: int, also: frozenset[Name] = frozenset()) -> Shown:
    """At most `most` persons (see `choose`) and those of `also`, with the distributions of every dataset. ReleaseError for damaged rows."""
    scores, datasets = [np.empty(0, np.float32)], {}
    small = release.manifest.annotated <= most
    kept: list[tuple[str, pa.Table]] = []
    for source, rows in _shards(release):
        scores.append(rows["score"].to_numpy())
        _count(rows, datasets)
        if small:
            kept.append((source, rows))
    if not small:
        chosen = choose(np.concatenate(scores), max(1, most - len(also)))
        starts = np.cumsum([0, *(len(s) for s in scores[1:])])
        for number, (source, rows) in enumerate(_shards(release)):
            mine = np.zeros(len(rows), bool)
            low, high = np.searchsorted(chosen, starts[number : number + 2])
            mine[chosen[low:high] - starts[number]] = True
            if also:
                mine |= np.fromiter((name in also for name in names_of(rows)), bool, len(rows))
            kept.append((source, rows.filter(pa.array(mine))))
    table = pa.concat_tables([PSEUDO_GT_SCHEMA.empty_table(), *(rows for _, rows in kept)])
    sources = [source for source, rows in kept for _ in range(len(rows))]
    order = mixed_order(table["key"].to_pylist(), table["annotation_id"].to_pylist())
    return Shown(table.take(pa.array(order)).combine_chunks(), [sources[i] for i in order], dict(sorted(datasets.items())))


def read_counterparts(release: Release, names: list[Name]) -> tuple[pa.Table, np.ndarray]:
    """Rows of these persons in another release, and their places (M,) in that table; -1 for who is not in it."""
    wanted, kept = set(names), [PSEUDO_GT_SCHEMA.empty_table()]
    for _, rows in _shards(release):
        kept.append(rows.filter(pa.array([name in wanted for name in names_of(rows)], pa.bool_())))
    table = pa.concat_tables(kept).combine_chunks()
    place_of = {name: i for i, name in enumerate(names_of(table))}
    return table, np.array([place_of.get(name, -1) for name in names], np.int64)


def _shards(release: Release) -> Iterator[tuple[str, pa.Table]]:
    sources = release.shards["source_sha256"].to_pylist()
    yield from zip(sources, in_parallel(release.rows, sources, READ_THREADS), strict=True)


def _count(rows: pa.Table, datasets: dict[str, dict[str, Histogram]]) -> None:
    for name in rows["dataset"].unique().to_pylist():
        if name not in datasets and len(datasets) == DATASETS_AT_MOST:
            continue
        found = count_figures(rows.filter(pa.array([d == name for d in rows["dataset"].to_pylist()], pa.bool_())))
        before = datasets.get(name)
        datasets[name] = {f: _sum(before[f], found[f]) if before else found[f] for f in FIGURES}


def _sum(a: Histogram, b: Histogram) -> Histogram:
    return Histogram(counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)), sum=a.sum + b.sum)
