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

from engine.loading.augmentation import Augmentation

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


def apply_gain(crop: np.ndarray, gain_3: np.ndarray) -> None:
    """Multiply the channels of a crop (H, W, 3) uint8 in place, clipped to 0..255."""
    table = np.clip(np.arange(256)[:, None] * gain_3 + 0.5, 0, 255).astype(np.uint8)
    cv2.LUT(crop, table[None], dst=crop)


def apply_affine(affine_B23: np.ndarray, points_BJ2: np.ndarray) -> np.ndarray:
    """Points (B, J, 2) carried by each instance's affine, same dtype as the points."""
    affine_B23 = affine_B23.astype(points_BJ2.dtype)
    return points_BJ2 @ affine_B23[:, :, :2].transpose(0, 2, 1) + affine_B23[:, None, :, 2]
