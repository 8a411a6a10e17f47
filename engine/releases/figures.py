"""The quality figures of a shard as histograms with fixed edges, so that a release's distribution is the sum over its shards.

They are counted once, when a shard is encoded, and travel in its commit record: a release's card reads no rows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import pyarrow as pa

from engine.errors import ReleaseError
from schemas.manifests import Histogram
from schemas.records import canonical_json, sha256_hex

FIGURES: dict[str, tuple[float, ...]] = {
    "score": tuple(i / 50 for i in range(51)),
    "reprojection_error": tuple(round(0.005 * 2 ** (i / 6), 6) for i in range(55)),
    "visible_fraction": tuple(i / 20 for i in range(21)),
    "keypoint_similarity": tuple(i / 20 for i in range(21)),
    "latent_norm": tuple(i / 2 for i in range(41)),
    "truncation": tuple(i / 40 for i in range(41)),
    "flip_disagreement": tuple(i / 100 for i in range(41)),
}
"""Column -> edges. n edges make n + 1 bins: below the first, from one up to the next, from the last on."""

_MEASURED = ("score",)
"""Figures that stand for nothing where a row has no valid joint, although they are a number there."""


def figures_digest() -> str:
    """sha256 of the edges; part of every plan, because records with other edges cannot be summed."""
    return sha256_hex(canonical_json({name: list(edges) for name, edges in FIGURES.items()}))


def count_figures(table: pa.Table, figures: Mapping[str, tuple[float, ...]] = FIGURES) -> dict[str, Histogram]:
    """Histograms of a shard's rows (PSEUDO_GT_SCHEMA), NaN left out. The same rows give the same record, in any order.

    figures: column -> edges. `score` counts rows with valid joints alone. ReleaseError when a column is missing.
    """
    absent = [name for name in (*figures, "valid_joints") if name not in table.column_names]
    if absent:
        raise ReleaseError(
            f"rows without the columns {', '.join(absent)}: expected those of the pseudo-GT schema, found {table.column_names}"
        )
    measured = table["valid_joints"].to_numpy() > 0
    return {
        name: _count(table[name].to_numpy()[measured] if name in _MEASURED else table[name].to_numpy(), edges)
        for name, edges in figures.items()
    }


def _count(values: np.ndarray, edges: tuple[float, ...]) -> Histogram:
    values = values[~np.isnan(values)].astype(np.float64)
    bins = np.searchsorted(np.asarray(edges), values, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    # fsum rounds the exact sum once, so neither the order of rows nor the machine's vector width can change it
    return Histogram(counts=tuple(counts.tolist()), sum=math.fsum(values[np.isfinite(values)].tolist()))


def total_figures(shards: pa.Table) -> dict[str, Histogram]:
    """The sum of the histograms in a table of shards, whatever the order of its rows."""
    totals = {}
    for name in (column.removesuffix("_counts") for column in shards.column_names if column.endswith("_counts")):
        bins = shards.schema.field(f"{name}_counts").type.list_size
        counts_SB = shards[f"{name}_counts"].combine_chunks().flatten().to_numpy().reshape(-1, bins)
        totals[name] = Histogram(counts=tuple(counts_SB.sum(0, dtype=np.int64).tolist()), sum=math.fsum(shards[f"{name}_sum"].to_pylist()))
    return totals


def percentile(histogram: Histogram, edges: tuple[float, ...], percent: float) -> tuple[float, float]:
    """The bin (from, to) that holds a percentile of at least one value; open ends are infinite."""
    rank = percent / 100 * (histogram.count - 1)
    at = bisect_right(list(accumulate(histogram.counts)), rank)
    bounds = (-math.inf, *edges, math.inf)
    return bounds[at], bounds[at + 1]
