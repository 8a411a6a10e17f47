"""Histograms of shards: exact counts, sums that no order changes, and percentiles within one bin of the rows' own."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ReleaseError
from engine.releases.figures import FIGURES, count_figures, percentile, total_figures
from engine.releases.tables import release_tables
from schemas.manifests import Histogram, ShardCommit
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

numbers = st.floats(0, 30, width=32) | st.sampled_from([math.nan, math.inf, 0.0, 1.0, 0.02, 0.05])


def _rows(values: list[float], joints: list[int]) -> pa.Table:
    columns = {name: pa.array(values, pa.float32()) for name in FIGURES}
    return pa.table(columns | {"valid_joints": pa.array(joints, pa.int16())})


def _shards(figures: list[dict[str, Histogram]]) -> pa.Table:
    digest = "0" * 64
    fields = {"plan_digest": digest, "source_sha256": digest, "sha256": digest, "size_bytes": 1, "planned": 0, "annotated": 0}
    fields |= {"skipped": {}, "quarantined": {}, "quarantine": ()}
    return release_tables(ShardCommit(index=i, figures=f, **fields) for i, f in enumerate(figures))[0]


def test_the_figures_are_columns_with_rising_edges() -> None:
    for name, edges in FIGURES.items():
        assert pa.types.is_float32(PSEUDO_GT_SCHEMA.field(name).type)
        assert list(edges) == sorted(set(edges))


@given(st.lists(st.tuples(numbers, st.integers(0, 17)), max_size=40), st.integers(0, 40), st.randoms())
def test_a_sum_over_shards_is_the_count_over_all_rows(rows: list[tuple[float, int]], cut: int, random: object) -> None:
    whole = count_figures(_rows([v for v, _ in rows], [j for _, j in rows]))
    shuffled = list(rows)
    random.shuffle(shuffled)
    parts = [count_figures(_rows([v for v, _ in part], [j for _, j in part])) for part in (shuffled[:cut], shuffled[cut:])]
    assert {name: h.counts for name, h in total_figures(_shards(parts)).items()} == {name: h.counts for name, h in whole.items()}
    assert count_figures(_rows([v for v, _ in shuffled], [j for _, j in shuffled])) == whole
    for name, edges in FIGURES.items():
        values = [float(np.float32(v)) for v, j in rows if not math.isnan(v) and (j > 0 or name != "score")]
        expected = [sum(low <= v < high for v in values) for low, high in zip((-math.inf, *edges), (*edges, math.inf), strict=True)]
        expected[-1] += sum(v == math.inf for v in values)
        assert list(whole[name].counts) == expected
        assert whole[name].sum == math.fsum(v for v in values if math.isfinite(v))


@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=60), st.sampled_from([0, 10, 50, 90, 100]))
def test_a_percentile_lies_in_its_bin(values: list[float], percent: int) -> None:
    edges = FIGURES["reprojection_error"]
    histogram = count_figures(_rows(values, [1] * len(values)))["reprojection_error"]
    low, high = percentile(histogram, edges, percent)
    assert low <= np.percentile(np.array(values, np.float64), percent, method="lower") < high


def test_other_columns_are_refused() -> None:
    with pytest.raises(ReleaseError, match="without the columns score"):
        count_figures(_rows([1.0], [1]).drop_columns(["score"]))


def test_no_shard_has_no_figures() -> None:
    assert {name: h.count for name, h in total_figures(_shards([])).items()} == dict.fromkeys(FIGURES, 0)
