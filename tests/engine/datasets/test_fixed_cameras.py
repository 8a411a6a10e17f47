"""Which of two conventions a camera file follows, and which of its cameras are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.datasets.fixed_cameras import FixedCamera, Seen, make_camera, settle


def _studio(seed: int, cameras: int, persons: int, place: bool) -> tuple[dict[tuple[int], FixedCamera], dict[tuple[int], Seen]]:
    """Cameras around a room of people who wander 1.5 m from its middle, z up, and their boxes; with `place` t is where a camera stands."""
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    rng = np.random.default_rng(seed)
    found, seen = {}, {}
    for number in range(cameras):
        angle = 2 * np.pi * number / cameras + rng.uniform(-0.3, 0.3)
        where = np.array([5 * np.sin(angle), rng.uniform(-0.5, 0.5), 5 * np.cos(angle)])
        forward = -where / np.linalg.norm(where)
        right = np.cross([0, 1.0, 0], forward) / np.linalg.norm(np.cross([0, 1.0, 0], forward))
        rotation = np.stack([right, np.cross(forward, right), forward])
        focal, princpt = np.array([1100.0, 1110]), np.array([500.0, 510])
        world = rng.uniform(-1.5, 1.5, (persons, 1, 3)) * (1, 0, 1) + rng.normal(0, (0.2, 0.5, 0.2), (persons, 17, 3))
        pixels = np.array([[rotation @ (joint - where) for joint in person] for person in world])
        pixels = pixels[..., :2] / pixels[..., 2:] * focal + princpt
        low, high = pixels.min(1), pixels.max(1)
        found[number,] = FixedCamera(rotation @ z_up.T, z_up @ where if place else -rotation @ where, focal, princpt)
        seen[number,] = Seen(world @ z_up.T, np.concatenate([low - 5, high - low + 10], 1))
    return found, seen


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cameras=st.integers(1, 5), place=st.booleans())
def test_the_convention_is_told_and_cameras_are_given_in_one(seed: int, cameras: int, place: bool) -> None:
    given_cameras, seen = _studio(seed, cameras, 12, place)
    convention, read, wrong = settle(given_cameras, seen)
    assert (convention, wrong) == ("R (x - t)" if place else "R x + t", {})
    truth, _ = _studio(seed, cameras, 12, place=False)
    for key, camera in read.items():
        np.testing.assert_allclose(camera.t, truth[key].t, atol=1e-9)


@pytest.mark.parametrize("place", [False, True])
def test_a_camera_exchanged_or_in_metres_is_named_and_the_others_stay(place: bool) -> None:
    cameras, seen = _studio(1, 5, 20, place)
    cameras[1,] = FixedCamera(cameras[2,].R, cameras[2,].t, cameras[1,].focal, cameras[1,].princpt)
    cameras[3,] = FixedCamera(cameras[3,].R, cameras[3,].t / 1000, cameras[3,].focal, cameras[3,].princpt)
    convention, _, wrong = settle(cameras, seen)
    assert convention == ("R (x - t)" if place else "R x + t") and sorted(wrong) == [(1,), (3,)]
    assert "20 persons in front of it" in wrong[1,] and "under R (x - t)" in wrong[1,]


def test_few_persons_settle_nothing() -> None:
    cameras, seen = _studio(2, 3, 2, place=True)
    assert settle(cameras, seen)[0] == "R x + t" and not settle(cameras, seen)[2]
    assert settle({}, {}) == ("R x + t", {}, {})


@pytest.mark.parametrize(
    "odd", [{"R": np.eye(2)}, {"R": 2 * np.eye(3)}, {"R": -np.eye(3)}, {"t_mm": [1, 2, np.nan]}, {"focal": [0, 1]}, {"princpt": None}]
)
def test_numbers_that_are_no_camera_are_refused(odd: dict) -> None:
    turn = Rotation.from_rotvec([0.3, 0.2, 0.1]).as_matrix()
    sound = {"R": turn.tolist(), "t_mm": [[1000.0], [0], [0]], "focal": [1, 1], "princpt": [0, 0]}
    np.testing.assert_array_equal(make_camera(**sound).t, [1, 0, 0])
    with pytest.raises(ValueError, match=r"expected|rotation"):
        make_camera(**(sound | odd))
