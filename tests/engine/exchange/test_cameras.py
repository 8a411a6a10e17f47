"""EFT's and CLIFF's cameras against closed forms and a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from engine.exchange.cliff_camera import diagonal_camera, to_cliff
from engine.exchange.eft_camera import from_eft, to_eft, weak_perspective

_PLACES = st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(0.1, 1e3))


@given(_PLACES, st.floats(1, 1e6), st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)))
def test_eft_there_and_back(place: tuple, focal: float, princpt: tuple) -> None:
    transl, back, centre = from_eft(to_eft(np.array(place), focal, np.array(princpt)))
    assert np.allclose(transl, place, rtol=1e-12, atol=1e-12)
    assert np.isclose(back, focal, rtol=1e-12)
    assert np.array_equal(centre, princpt)


@given(_PLACES, st.floats(100, 1e5))
def test_eft_camera_sees_what_the_pinhole_sees(place: tuple, focal: float) -> None:
    """EFT's own words: a perspective camera of 5000 px in the 224 px crop, whose pixels are then carried to the photograph."""
    points, princpt = np.random.default_rng(0).normal(size=(20, 3)) * [0.4, 0.8, 0.02], np.array([321.0, 123.0])
    camera = to_eft(np.array(place), focal, princpt)
    s, tx, ty = camera.cam_3
    crop = points + np.array([tx / s, ty / s, 2 * 5000 / (224 * s)])
    crop_px = 5000 * crop[:, :2] / crop[:, 2:] + 112
    side = 200 * camera.scale
    found = princpt - side / 2 + crop_px * side / 224
    there = points + place
    assert np.allclose(found, there[:, :2] / there[:, 2:] * focal + princpt, rtol=1e-9, atol=1e-6)


def test_weak_perspective_is_the_limit_of_far_cameras() -> None:
    points, princpt = np.random.default_rng(0).normal(size=(50, 3)) * 0.5, np.array([100.0, 200.0])
    moved = []
    for far in (40, 400, 4000):
        there = points + np.array([0.2, -0.1, far])
        seen = there[:, :2] / there[:, 2:] * 10 * far + princpt
        moved.append(np.abs(weak_perspective(points, to_eft(np.array([0.2, -0.1, far]), 10 * far, princpt)) - seen).max())
    assert moved[0] > 9 * moved[1] > 80 * moved[2] > 0
    assert moved[0] < 0.2 * 10 * 0.2  # a tenth of what such a body spans in depth over the distance


def _seen(points: np.ndarray, place: np.ndarray, focal: float, princpt: np.ndarray) -> np.ndarray:
    there = points + place
    return there[:, :2] / there[:, 2:] * focal + princpt


@pytest.mark.parametrize("seed", range(5))
def test_a_cliff_camera_is_found_again(seed: int) -> None:
    """What CLIFF's camera saw itself is put back where it was, to the last digit, whatever the person's place in the photograph."""
    rng = np.random.default_rng(seed)
    focal, princpt = diagonal_camera(640, 480)
    assert focal == 800
    points, pelvis = rng.normal(size=(33, 3)) * [0.3, 0.6, 0.2], np.array([0.0, -0.2, 0.03])
    place = np.array([*rng.uniform(-2, 2, 2), rng.uniform(3, 9)])
    placed = to_cliff(points, pelvis, _seen(points, place, focal, princpt), focal, princpt)
    again = (points - pelvis) @ placed.rotation_33.T + pelvis + placed.transl_3
    assert placed.moved_px < 1e-3
    assert np.allclose(_seen(again, np.zeros(3), focal, princpt), _seen(points, place, focal, princpt), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_remaining_movement_is_the_least_there_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    focal, princpt = diagonal_camera(1200, 900)
    points, pelvis = rng.normal(size=(33, 3)) * [0.3, 0.6, 0.2], np.zeros(3)
    seen = _seen(points, np.array([0.1, 0.2, 39.0]), 9000.0, rng.uniform(100, 900, 2))
    placed = to_cliff(points, pelvis, seen, focal, princpt)

    def moved(turn: np.ndarray, place: np.ndarray) -> np.ndarray:
        return (_seen(points @ (Rotation.from_rotvec(turn).as_matrix()).T, place, focal, princpt) - seen).ravel()

    ray = (seen.mean(0) - princpt) / focal
    starts = [np.concatenate([rng.normal(0, 0.2, 3), 4 * np.array([*ray, 1])]) for _ in range(5)]
    best = min(least_squares(lambda x: moved(x[:3], x[3:]), start, xtol=1e-15, ftol=1e-15).cost for start in starts)
    ours = moved(Rotation.from_matrix(placed.rotation_33).as_rotvec(), placed.transl_3)
    assert 0.5 * ours @ ours <= best * (1 + 1e-6)
    assert np.isclose(np.linalg.norm(ours.reshape(-1, 2), axis=1).max(), placed.moved_px)
    assert 0.1 < placed.moved_px < 100


def test_nobody_is_too_near() -> None:
    """A person who fills more of the photograph than the camera can see at arm's length is still put before it."""
    rng = np.random.default_rng(0)
    focal, princpt = diagonal_camera(90, 64)
    points = rng.normal(size=(33, 3))
    placed = to_cliff(points, np.zeros(3), _seen(points, np.array([0, 0, 5.0]), 5000.0, princpt), focal, princpt)
    assert ((points @ placed.rotation_33.T + placed.transl_3)[:, 2] > 0).all()
    assert np.isfinite(placed.moved_px)
