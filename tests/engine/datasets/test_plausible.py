"""Units are told by the size of people, and a projection by its median distance from what is published."""

from __future__ import annotations

import numpy as np
import pytest

from engine.datasets.plausible import disagreement_px, size_m, wrong_size


def _persons(height_m: float) -> np.ndarray:
    joints = np.zeros((5, 17, 3))
    joints[:, :, 1] = np.linspace(0, height_m, 17)
    joints[0] *= 100  # one person does not speak for the set
    return joints


@pytest.mark.parametrize(("height_m", "wrong"), [(1.7, False), (0.5, False), (1700.0, True), (0.0017, True)])
def test_a_unit_is_told_by_the_median_person(height_m: float, wrong: bool) -> None:
    assert size_m(_persons(height_m)) == pytest.approx(height_m)
    said = wrong_size(_persons(height_m))
    assert (said is not None) == wrong
    assert not wrong or f"found {height_m:.3g} m" in said


def test_nobody_has_no_size() -> None:
    assert np.isnan(size_m(np.empty((0, 17, 3)))) and wrong_size(np.empty((0, 17, 3))) is None


def test_a_joint_that_is_not_in_front_is_infinitely_far_off() -> None:
    published = np.zeros((1, 5, 2))
    assert disagreement_px(np.full((1, 5, 2), (3.0, 4.0)), published) == 5
    projected = np.full((1, 5, 2), (3.0, 4.0))
    projected[0, :2] = np.nan
    assert disagreement_px(projected, published) == 5
    projected[0, 2] = np.nan
    assert disagreement_px(projected, published) == np.inf
    assert disagreement_px(published[:0], published[:0]) == 0
