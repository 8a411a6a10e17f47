"""Fits are looked up by number from a file, and odd ones count as absent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.smpl_fits import FitTable


def _fit(value: float) -> dict[str, list[float]]:
    return {"pose": [value] * 72, "shape": [value + 1] * 10, "trans": [value + 2] * 3}


@given(st.lists(st.integers(-(1 << 60), 1 << 60), max_size=30), st.integers(-(1 << 60), 1 << 60))
def test_the_first_fit_of_a_number_is_found(keys: list[int], other: int) -> None:
    table = FitTable((key, _fit(place)) for place, key in enumerate(keys))
    assert len(table) == len(keys)
    for key in {*keys, other}:
        fit = table.get(key)
        if key not in keys:
            assert fit is None
        else:
            value = keys.index(key)
            assert fit is not None
            np.testing.assert_array_equal(np.concatenate(fit), [value] * 72 + [value + 1] * 10 + [value + 2] * 3)


ODD = ({"pose": [0.0] * 69}, {"trans": [0, 0, float("nan")]}, {"shape": "x"}, {"pose": None})


@pytest.mark.parametrize("odd", [None, [], {}, {"pose": [0.0] * 72}, *(_fit(0) | change for change in ODD)])
def test_odd_fits_are_absent(odd: Any) -> None:
    assert FitTable([(1, odd)]).get(1) is None
