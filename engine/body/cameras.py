"""The virtual camera of a person's crop, and the way from it back to the whole image.

The network sees every crop as if a camera of focal length 5000 px had taken it at 256x192; other crop sizes scale the focal
length with their height. Camera frame: x right, y down, z forward, metres. Pixels are those of the crop or the image.
B persons, J points. Source: Pose2Pose (sections "camera" of its code), the same for f and g.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FOCAL_AT_256 = 5000.0
SIZE_M = 2.5
"""A person in the middle of the sigmoid's range spans about this much of the crop, in metres."""


def virtual_camera(crop_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(focal (2,), princpt (2,)) in pixels of a crop of (height, width): (5000, 5000) and (96, 128) for 256x192."""
    height, width = crop_hw
    focal = FOCAL_AT_256 * height / 256
    return np.array([focal, focal], np.float32), np.array([width / 2, height / 2], np.float32)


def depth_scale(crop_hw: tuple[int, int]) -> float:
    """Largest depth k in metres the camera head can say: t_z = k * sigmoid(raw); 56.4 m for 3:4 crops."""
    height, width = crop_hw
    focal = FOCAL_AT_256 * height / 256
    return float(np.sqrt(focal * focal * SIZE_M * SIZE_M / (height * width)))


def camera_translation(raw_B3: Tensor, crop_hw: tuple[int, int]) -> Tensor:
    """Translation (B, 3) in metres of the three raw outputs of a camera head: (x, y, k * sigmoid(z))."""
    return torch.cat((raw_B3[..., :2], depth_scale(crop_hw) * torch.sigmoid(raw_B3[..., 2:3])), dim=-1)


def project(points_BJ3: Tensor | np.ndarray, focal: np.ndarray | Tensor, princpt: np.ndarray | Tensor) -> Tensor | np.ndarray:
    """Pixels (B, J, 2) of camera-frame points (B, J, 3) in metres; focal and princpt (2,) or (B, 2).

    1e-4 m is added to the depth, as in Pose2Pose, which keeps a point in the camera's centre finite. Torch in, torch out.
    """
    if isinstance(points_BJ3, Tensor):
        focal = torch.as_tensor(focal, dtype=points_BJ3.dtype, device=points_BJ3.device)
        princpt = torch.as_tensor(princpt, dtype=points_BJ3.dtype, device=points_BJ3.device)
    return points_BJ3[..., :2] / (points_BJ3[..., 2:3] + 1e-4) * focal[..., None, :] + princpt[..., None, :]


def camera_to_image(box_xywh_B4: np.ndarray, crop_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(focal (B, 2), princpt (B, 2)) in pixels of the image, for persons whose processed boxes (B, 4) became crops.

    With these the same 3D points project onto the image: crops are boxes resized to `crop_hw`, so x = box x + crop x * w / W.
    """
    height, width = crop_hw
    box = np.asarray(box_xywh_B4, np.float32)
    focal, princpt = virtual_camera(crop_hw)
    scale = box[..., 2:] / np.array([width, height], np.float32)
    return focal * scale, princpt * scale + box[..., :2]
