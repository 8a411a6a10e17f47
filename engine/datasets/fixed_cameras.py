"""Cameras that stand still in a MoCap studio: read from a dataset's camera file, and held against the persons they should see.

A camera file says nothing of its own convention. The published ones mean x_cam = R x + t; files of an older converter hold the camera's
place c instead and mean x_cam = R (x - c). Read the wrong way they still give plausible numbers, so the boxes decide, which were
drawn on the images: under which reading do the persons stand in front of the cameras and fill their own boxes?

Legend: N persons, J joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

MM = 1e-3
MIN_PERSONS = 8
"""Fewer persons than this neither make a camera wrong nor settle how a file is to be read."""
BOX_MARGIN, MOST_JOINTS, MIN_FILLED = 1.25, 0.9, 0.15
"""A person is in their box if this share of the joints is in one of so many times its sides, and spans this share of its area: some boxes
are drawn around the joints, some around the skin."""
Convention = Literal["R x + t", "R (x - t)"]
Key = tuple[int, ...]


@dataclass(frozen=True)
class FixedCamera:
    """x_cam = R x + t, metres; a point's pixel is focal * (x, y) / z + princpt."""

    R: np.ndarray
    t: np.ndarray
    focal: np.ndarray
    princpt: np.ndarray

    def to_camera(self, world_J3: np.ndarray) -> np.ndarray:
        return world_J3 @ self.R.T + self.t

    def to_image(self, cam_J3: np.ndarray) -> np.ndarray:
        """Pixels; NaN for what is not in front of the camera."""
        depth = np.where(cam_J3[..., 2:] > 0, cam_J3[..., 2:], np.nan)
        return cam_J3[..., :2] / depth * self.focal + self.princpt


@dataclass(frozen=True)
class Seen:
    """Persons of one camera, for judging it."""

    world_NJ3: np.ndarray
    bbox_N4: np.ndarray


def make_camera(R: Any, t_mm: Any, focal: Any, princpt: Any) -> FixedCamera:
    """A camera from a file's own numbers. ValueError says what is odd: a count, a NaN, a focal length, a matrix that is no rotation."""
    parts = [np.asarray(v, np.float64).ravel() for v in (R, t_mm, focal, princpt)]
    if [part.size for part in parts] != [9, 3, 2, 2] or not all(np.isfinite(part).all() for part in parts):
        raise ValueError("expected finite R (3x3), t (3), focal (2) and principal point (2)")
    rotation = parts[0].reshape(3, 3)
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise ValueError("R is not a rotation")
    if (parts[2] <= 0).any():
        raise ValueError(f"expected a focal length above 0, found {parts[2].tolist()}")
    return FixedCamera(rotation, parts[1] * MM, parts[2], parts[3])


def settle(cameras: Mapping[Key, FixedCamera], seen: Mapping[Key, Seen]) -> tuple[Convention, dict[Key, FixedCamera], dict[Key, str]]:
    """The convention a camera file follows, its cameras in terms of R x + t, and what is wrong with those that do not see their persons.

    The convention is one for all of a file: the one under which more cameras see at least half of their persons, then the one under which
    more persons are seen, and R x + t if both are alike.
    """
    readings: dict[Convention, dict[Key, FixedCamera]] = {
        "R x + t": dict(cameras),
        "R (x - t)": {key: replace(camera, t=-camera.R @ camera.t) for key, camera in cameras.items()},
    }
    persons = {key: len(seen[key].bbox_N4) for key in cameras if key in seen and len(seen[key].bbox_N4)}
    if sum(persons.values()) < MIN_PERSONS:
        return "R x + t", readings["R x + t"], {}
    share = {name: {key: share_seen(read[key], seen[key]) for key in persons} for name, read in readings.items()}
    agree = {name: (sum(value >= 0.5 for value in shares.values()), sum(shares.values())) for name, shares in share.items()}
    chosen: Convention = "R (x - t)" if agree["R (x - t)"] > agree["R x + t"] else "R x + t"
    wrong = {
        key: f"expected its {count} persons in front of it and in their boxes, found "
        + " and ".join(f"{share[name][key]:.0%} under {name}" for name in readings)
        + "; R, t (mm), the focal length or the principal point is wrong"
        for key, count in persons.items()
        if share[chosen][key] < 0.5 and count >= MIN_PERSONS
    }
    return chosen, readings[chosen], wrong


def share_seen(camera: FixedCamera, seen: Seen) -> float:
    """Share of the persons who are in front of the camera and whose joints fill their box: most inside, and not a corner of it alone.

    The middle of a person alone would say little: all cameras of a studio look at its middle.
    """
    pixels_NJ2 = camera.to_image(camera.to_camera(seen.world_NJ3))
    corner_N12, size_N12 = seen.bbox_N4[:, None, :2], seen.bbox_N4[:, None, 2:]
    inside_NJ = (np.abs(pixels_NJ2 - corner_N12 - size_N12 / 2) <= BOX_MARGIN * size_N12 / 2).all(2)
    spread_N = np.prod(pixels_NJ2.max(1) - pixels_NJ2.min(1), axis=1)
    return float(((inside_NJ.mean(1) >= MOST_JOINTS) & (spread_N >= MIN_FILLED * np.prod(size_N12[:, 0], axis=1))).mean())
