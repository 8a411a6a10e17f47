"""EFT's camera, [s, tx, ty] of a square crop, and the pinhole camera of a release; they say the same where the pinhole has square pixels.

EFT's crop is 224 px for 200 * bbox_scale px of the photograph about bbox_center, and its network sees it from afar: a body X (m) at
t = [tx / s, ty / s, 2 * 5000 / (224 s)], focal length 5000 px of the crop, principal point in its middle. Read so, a pinhole camera with
focal length f and principal point c is the crop with bbox_center = c and 200 * bbox_scale = 224 f / 5000, exactly. Read as weak
perspective, x = s X + tx in [-1, 1], it is not: `weak_perspective` is there to say by how much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FOCAL = 5000.0
CROP = 224.0
_BOX = 200.0
"""Pixels of the photograph for a bbox_scale of 1."""


class EftCamera(NamedTuple):
    """`cam_3` [s, tx, ty], with the translation after scaling; `scale` of a box of 200 px; `centre_2` px of the photograph."""

    cam_3: np.ndarray
    scale: float
    centre_2: np.ndarray


def to_eft(transl_3: np.ndarray, focal: float, princpt_2: np.ndarray) -> EftCamera:
    """The camera of a person at `transl_3`, m, before a pinhole camera with square pixels. The depth is above 0."""
    x, y, z = (float(v) for v in transl_3)
    s = 2 * FOCAL / (CROP * z)
    return EftCamera(np.array([s, s * x, s * y]), focal * CROP / (FOCAL * _BOX), np.asarray(princpt_2, np.float64))


def from_eft(camera: EftCamera) -> tuple[np.ndarray, float, np.ndarray]:
    """(transl (3,) m, focal px, princpt (2,) px) of the pinhole camera that `camera` is, read with perspective."""
    s, tx, ty = (float(v) for v in camera.cam_3)
    return np.array([tx / s, ty / s, 2 * FOCAL / (CROP * s)]), FOCAL * _BOX * camera.scale / CROP, camera.centre_2


def weak_perspective(points_N3: np.ndarray, camera: EftCamera) -> np.ndarray:
    """Pixels (N, 2) of the photograph of points of the body, m and without translation, as a reader without perspective puts them."""
    s, tx, ty = camera.cam_3
    crop_N2 = s * points_N3[:, :2] + np.array([tx, ty])
    return camera.centre_2 + crop_N2 * camera.scale * _BOX / 2
