"""A camera that stands in the world, and how it is aimed.

World frame: y up, ground at y = 0, metres. Camera frame: x right, y down, z forward. Pixels: origin at the centre of the
top-left pixel. `x_cam = rotation @ x_world + translation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PinholeCamera:
    rotation: np.ndarray
    translation: np.ndarray
    focal: np.ndarray
    princpt: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """Where it stands in the world."""
        return -self.rotation.T @ self.translation

    def to_camera(self, points_X3: np.ndarray) -> np.ndarray:
        return points_X3 @ self.rotation.T + self.translation

    def to_pixels(self, points_cam_X3: np.ndarray) -> np.ndarray:
        return points_cam_X3[..., :2] / points_cam_X3[..., 2:] * self.focal + self.princpt

    def rays(self, hw: tuple[int, int], step: int = 1) -> np.ndarray:
        """Unit directions in the world of the centres of blocks of `step` x `step` pixels, (H * W, 3) for `hw` blocks."""
        rows, columns = np.mgrid[: hw[0], : hw[1]] * step + (step - 1) / 2
        direction = np.stack(
            [(columns - self.princpt[0]) / self.focal[0], (rows - self.princpt[1]) / self.focal[1], np.ones(hw)], -1
        ).reshape(-1, 3)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return direction @ self.rotation


def aim(position: np.ndarray, yaw: float, pitch: float, roll: float, focal: float, hw: tuple[int, int]) -> PinholeCamera:
    """A camera at `position` looking along `yaw` (0: +z, rising towards +x), `pitch` below the horizon, turned by `roll`; radians."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([-np.cos(yaw), 0.0, np.sin(yaw)])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    princpt = np.array([(hw[1] - 1) / 2, (hw[0] - 1) / 2])
    return PinholeCamera(rotation, -rotation @ position, np.array([focal, focal]), princpt)
