"""Distributions from a stream, against numpy on all numbers at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspection import spread as module
from engine.inspection.spread import SpreadCounter

SHARES = {"p01": 1, "p05": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "p99": 99}


@given(st.lists(st.lists(st.floats(-1e3, 1e6), max_size=20), max_size=8))
def test_few_numbers_are_exact(parts: list[list[float]]) -> None:
    counter, flat = SpreadCounter(), np.array([v for part in parts for v in part])
    for part in parts:
        counter.add(np.array(part))
    found = counter.spread()
    if not len(flat):
        assert found is None
        return
    assert (found.count, found.least, found.largest) == (len(flat), flat.min(), flat.max())
    for name, percent in SHARES.items():
        assert getattr(found, name) == np.percentile(flat, percent, method="nearest")


@pytest.mark.parametrize("exact", [0, 5000])
def test_many_numbers_are_right_to_half_a_percent(monkeypatch: pytest.MonkeyPatch, exact: int) -> None:
    monkeypatch.setattr(module, "_EXACT", exact)
    values = np.random.default_rng(0).lognormal(4, 1.5, 20_000)
    counter = SpreadCounter()
    for part in np.array_split(values, 37):
        counter.add(part)
    counter.add(np.array([np.nan, np.inf]))
    found = counter.spread()
    assert (found.count, found.least, found.largest) == (len(values), values.min(), values.max())
    assert found.mean == pytest.approx(values.mean())
    for name, percent in SHARES.items():
        assert getattr(found, name) == pytest.approx(np.percentile(values, percent), rel=0.01), name


def test_zeros_and_negative_numbers_are_the_lowest_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXACT", 0)
    counter = SpreadCounter()
    counter.add(np.array([0.0, 0.0, -3.0, 0.0, 8.0]))
    found = counter.spread()
    assert found.least == -3 and found.largest == 8 and found.median == pytest.approx(1e-6, rel=0.01)


def test_the_largest_numbers_have_a_mean() -> None:
    counter = SpreadCounter()
    for _ in range(3):
        counter.add(np.array([1.7e308, 1.7e308, float("inf")]))
    found = counter.spread()
    assert found is not None and found.count == 6 and found.mean == pytest.approx(1e290) and found.largest == 1e290
