"""Numbers of raw annotations: rounding that keeps every number what it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.geometry import degenerate, rounded, tight_box


@given(st.lists(st.floats(allow_nan=False), max_size=8))
def test_rounding_is_close_finite_and_settled(values: list[float]) -> None:
    found = rounded(np.array(values))
    assert rounded(np.array(found)) == found and all(math.copysign(1, v) == 1 for v in found if v == 0)
    for before, after in zip(values, found, strict=True):
        assert after == before or abs(after - before) <= 0.5000001e-6 + abs(before) * 1e-15


def test_shapes_stay_as_tuples() -> None:
    assert rounded(np.ones((2, 1, 2))) == (((1.0, 1.0),), ((1.0, 1.0),)) and rounded(np.array(2)) == 2.0


@pytest.mark.parametrize(
    ("box", "bad"),
    [((0, 0, 10, 10), False), ((-9, -9, 5, 5), False), ((63, 10, 10, 10), True), ((10, 10, 0, 5), True), ((10, 10, 1, 5), True)],
)
def test_boxes_without_area_in_the_image(box: tuple[float, ...], bad: bool) -> None:
    """By the rule crops are cut with, which moves a box that begins outside instead of cutting it."""
    assert degenerate(box, 64, 48) is bad


def test_a_tight_box_is_about_its_valid_joints() -> None:
    box = tight_box([[10, 20], [99, 99], [30, 60]], [True, False, True])
    assert box == pytest.approx((8, 16, 24, 48))
    with pytest.raises(ValueError):
        tight_box([[1, 2]], [False])
