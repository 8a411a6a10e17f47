"""Person crops: one exact affine from the stored image to the crop, shared by pixels and joints.

Mirror, shift, scale and rotation are composed into one 2x3 matrix, so the image is sampled once. A pixel's coordinate is that of
its centre on both sides, and the box's left edge maps to crop x = 0, its right edge to W: the convention of the virtual camera
whose principal point is (W/2, H/2).

Shapes: B instances, crop_hw = (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engine.loading.augmentation import Augmentation, AugmentConfig
from schemas.sample import Sample

_BORDER_PX = 2
"""Bilinear sampling reads a pixel to either side; one more for rounding."""
WINDOW = np.dtype([("stored_wh", "i4", 2), ("step", "f8", 2), ("origin", "f8", 2), ("kept", "f8", 4)])
"""A `Window` as numbers: `kept` is left, top, right, bottom, photograph px, infinite where the photograph ends."""

cv2.setNumThreads(1)  # parallelism is ours, one crop a thread; OpenCV's own pool would fight with it and with torch's


def crop_affines(boxes_B4: np.ndarray, crop_hw: tuple[int, int], augmentation: Augmentation) -> np.ndarray:
    """(B, 2, 3) float64, image px -> crop px, of processed boxes. The box centre goes to the crop's centre; mirror first, then rotation."""
    boxes_B4 = np.asarray(boxes_B4, dtype=np.float64)
    H, W = crop_hw
    size_B2 = boxes_B4[:, 2:]
    centre_B2 = boxes_B4[:, :2] + (0.5 + augmentation.shift_B2) * size_B2
    zoom_B2 = np.array([W, H]) / (size_B2 * augmentation.scale_B[:, None])
    cos_B, sin_B = np.cos(augmentation.rotation_B), np.sin(augmentation.rotation_B)
    mirror_B = np.where(augmentation.flip_B, -1.0, 1.0)
    affine_B23 = np.empty((len(boxes_B4), 2, 3))
    affine_B23[:, 0, 0] = zoom_B2[:, 0] * cos_B * mirror_B
    affine_B23[:, 0, 1] = zoom_B2[:, 0] * sin_B
    affine_B23[:, 1, 0] = -zoom_B2[:, 1] * sin_B * mirror_B
    affine_B23[:, 1, 1] = zoom_B2[:, 1] * cos_B
    affine_B23[:, :, 2] = np.array([W, H]) / 2 - np.einsum("bij,bj->bi", affine_B23[:, :, :2], centre_B2)
    return affine_B23


def crop_affine(box: Sequence[float], crop_hw: tuple[int, int], augmentation: Augmentation | None = None) -> np.ndarray:
    """(2, 3) float64, image px -> crop px, of one processed box; `augmentation` is one of length 1, None for none."""
    return crop_affines(np.asarray(box)[None], crop_hw, augmentation or Augmentation.identity(1))[0]


def warp(image: np.ndarray, affine_23: np.ndarray, crop_hw: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """The crop (H, W, 3) uint8 of an RGB image (h, w, 3) uint8: bilinear, black outside. Written into `out` where given."""
    H, W = crop_hw
    return cv2.warpAffine(image, affine_23, (W, H), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0))


def apply_gain(crop_HW3: np.ndarray, gain_3: np.ndarray) -> None:
    """Multiply the channels of a crop (H, W, 3) uint8 in place, clipped to 0..255. Gains count in steps of 1/1024."""
    cv2.transform(crop_HW3, np.diag(gain_3), dst=crop_HW3)


def apply_affine(affine_B23: np.ndarray, points_BJ2: np.ndarray) -> np.ndarray:
    """Points (B, J, 2) carried by each instance's affine, same dtype as the points."""
    affine_B23 = affine_B23.astype(points_BJ2.dtype)
    return points_BJ2 @ affine_B23[:, :, :2].transpose(0, 2, 1) + affine_B23[:, None, :, 2]


def window_record(sample: Sample) -> np.ndarray:
    """The WINDOW record () of a sample; that of a whole photograph changes nothing."""
    record = np.zeros((), dtype=WINDOW)
    record["stored_wh"], record["step"], record["kept"] = sample.stored_wh, 1, (-np.inf, -np.inf, np.inf, np.inf)
    if (w := sample.window) is not None:
        record["step"], record["origin"] = w.step, w.origin
        right, bottom = w.left + w.width, w.top + w.height
        ends = (w.left == 0, w.top == 0, right == sample.width, bottom == sample.height)
        record["kept"] = np.where(ends, record["kept"], (w.left - 0.5, w.top - 0.5, right - 0.5, bottom - 0.5))
    return record


def onto_stored(affine_B23: np.ndarray, windows_B: np.ndarray) -> np.ndarray:
    """(B, 2, 3) stored px -> crop px, of affines photograph px -> crop px, where `windows_B` (WINDOW records) say what is stored."""
    stored_B23 = affine_B23.copy()
    stored_B23[:, :, :2] *= windows_B["step"][:, None]
    stored_B23[:, :, 2] += np.einsum("bij,bj->bi", affine_B23[:, :, :2], windows_B["origin"])
    return stored_B23


def looked_at(affine_B23: np.ndarray, crop_hw: tuple[int, int]) -> np.ndarray:
    """(B, 4) int64 left, top, right, bottom, px, the last two excluded: what crops are sampled from. It may leave the image."""
    H, W = crop_hw
    inverse_B22 = np.linalg.inv(affine_B23[:, :, :2])
    corners_42 = np.array([[0, 0], [W - 1, 0], [0, H - 1], [W - 1, H - 1]], dtype=np.float64)
    points_B42 = (corners_42 - affine_B23[:, None, :, 2]) @ inverse_B22.transpose(0, 2, 1)
    low_B2, high_B2 = np.floor(points_B42.min(1)) - _BORDER_PX, np.ceil(points_B42.max(1)) + _BORDER_PX + 1
    return np.concatenate((low_B2, high_B2), axis=1).astype(np.int64)


def widest(boxes_B4: np.ndarray, config: AugmentConfig) -> np.ndarray:
    """(B, 4) left, top, right, bottom, px: what the widest augmentation of processed boxes can look at."""
    boxes_B4 = np.asarray(boxes_B4, dtype=np.float64)
    size_B2 = boxes_B4[:, 2:]
    largest = np.deg2rad(2 * config.rotation_deg) if config.rotation_probability else 0.0
    angle_B2 = np.minimum(largest, np.arctan2(size_B2[:, ::-1], size_B2))  # beyond it the extent shrinks again
    reach_B2 = 0.5 * (size_B2 * np.cos(angle_B2) + size_B2[:, ::-1] * np.sin(angle_B2))
    reach_B2 = reach_B2 * (1 + config.scale) + config.shift * size_B2
    centre_B2 = boxes_B4[:, :2] + 0.5 * size_B2
    return np.concatenate((centre_B2 - reach_B2, centre_B2 + reach_B2), axis=1)
