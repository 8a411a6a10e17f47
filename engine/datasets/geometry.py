"""Numbers of raw annotations: rounding, degenerate boxes, and SMPL parameters carried from the world to the camera frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from schemas.sample import Camera, SmplParams


def degenerate(bbox_xywh: tuple[float, ...], width: float, height: float) -> bool:
    """Whether clipping the box to the image leaves no area, by the rule crops are cut with (Pose2Pose `sanitize_bbox`)."""
    x, y, w, h = bbox_xywh
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(width - 1.0, x1 + max(0.0, w - 1)), min(height - 1.0, y1 + max(0.0, h - 1))
    return not (w * h > 0 and x2 > x1 and y2 > y1)


def tight_box(places: Sequence[Sequence[float]], valid: Sequence[bool], scale: float = 1.2) -> tuple[float, float, float, float]:
    """Box (x, y, w, h) around the valid joints, `scale` times as large about its middle; w or h is 0 where they span none.

    The box of a person whose dataset has none, by the rule of the authors' converters (scale 1.2). ValueError without a valid joint.
    """
    xs, ys = zip(*(place for place, ok in zip(places, valid, strict=True) if ok), strict=True)
    (x, w), (y, h) = ((min(v), max(v) - min(v)) for v in (xs, ys))
    box = x - w * (scale - 1) / 2, y - h * (scale - 1) / 2, w * scale, h * scale
    return tuple(round(v, 6) for v in box)  # type: ignore[return-value]


_WHOLE = 1e9
"""From here on numbers are left as they are: rounding multiplies, and would make the largest ones infinite."""


def rounded(values: np.ndarray, decimals: int = 6) -> Any:
    """Numbers as nested tuples. Six decimals are a micrometre, far below any ground truth and above the noise of the machine.

    So the same raw data gives the same bytes on another CPU, and a record is half as long.
    """
    found = np.array(values, np.float64)
    small = np.abs(found) < _WHOLE
    found[small] = np.round(found[small], decimals)
    return _nested((found + 0.0).tolist())


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def carry_to_camera(
    pose_72: np.ndarray, betas_10: np.ndarray, trans_3: np.ndarray, pelvis_3: np.ndarray, R: np.ndarray, t: np.ndarray, **flags: Any
) -> SmplParams:
    """SMPL parameters carried from the world to the camera frame, x_cam = R x + t (radians, metres).

    SMPL turns about its rest pelvis p and not about the origin, so with the root rotated by R the translation that puts
    every vertex where R x + t puts it is R (p + trans) + t - p. `flags` are SmplParams' gender and validities.
    """
    pose = np.array(pose_72, np.float64)
    pose[:3] = (Rotation.from_matrix(R) * Rotation.from_rotvec(pose[:3])).as_rotvec()
    transl = R @ (pelvis_3 + trans_3) + t - pelvis_3
    return SmplParams(pose=rounded(pose), betas=rounded(betas_10), transl=rounded(transl), **flags)


def is_camera(camera: Camera) -> bool:
    """Whether its numbers are those of a pinhole camera."""
    return bool(np.isfinite([*camera.focal, *camera.princpt]).all() and min(camera.focal) > 0)
