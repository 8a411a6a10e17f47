"""A z-buffer in numpy for meshes whose triangles are a pixel or two wide, where casting rays would cost several times more.

Every triangle lists the pixels of its bounding box, all triangles at once; pixels inside are sorted by depth and the
nearest wins. Time goes with the number of those pixels, so big triangles are fine but few.

Shapes: V vertices, F faces, H height, W width, P covered pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fragments:
    """The covered pixels of one mesh, each with the nearest face, its barycentric weights and the depth in metres."""

    row_P: np.ndarray
    column_P: np.ndarray
    face_P: np.ndarray
    weights_P3: np.ndarray
    depth_P: np.ndarray

    def interpolate(self, values_VC: np.ndarray, faces_F3: np.ndarray) -> np.ndarray:
        """Vertex values at the covered pixels, (P, C)."""
        corners_P3 = faces_F3[self.face_P]
        total = values_VC[corners_P3[:, 0]] * self.weights_P3[:, :1]
        total += values_VC[corners_P3[:, 1]] * self.weights_P3[:, 1:2]
        total += values_VC[corners_P3[:, 2]] * self.weights_P3[:, 2:]
        return total


def rasterize(pixels_V2: np.ndarray, depth_V: np.ndarray, faces_F3: np.ndarray, hw: tuple[int, int]) -> Fragments:
    """Visible, camera-facing part of a mesh in an (H, W) image; pixel (0, 0) has its centre at the origin.

    A face is camera-facing when its corners run counter-clockwise seen from outside; faces with a corner nearer than
    0.1 m are left out.
    """
    height, width = hw
    corners_F32 = pixels_V2.astype(np.float32)[faces_F3]
    x_F3, y_F3 = corners_F32[..., 0], corners_F32[..., 1]
    z_F3 = depth_V.astype(np.float32)[faces_F3]
    area_F = (x_F3[:, 1] - x_F3[:, 0]) * (y_F3[:, 2] - y_F3[:, 0]) - (x_F3[:, 2] - x_F3[:, 0]) * (y_F3[:, 1] - y_F3[:, 0])
    left_F, top_F = np.ceil(np.clip(x_F3.min(1), 0, width)), np.ceil(np.clip(y_F3.min(1), 0, height))
    right_F, bottom_F = np.floor(np.clip(x_F3.max(1), -1, width - 1)), np.floor(np.clip(y_F3.max(1), -1, height - 1))
    kept = np.flatnonzero((area_F < -1e-6) & (z_F3.min(1) > 0.1) & (right_F >= left_F) & (bottom_F >= top_F))
    columns_K = (right_F[kept] - left_F[kept] + 1).astype(np.int32)
    counts_K = columns_K * (bottom_F[kept] - top_F[kept] + 1).astype(np.int32)
    which = np.repeat(np.arange(len(kept), dtype=np.int32), counts_K)
    step = np.arange(len(which), dtype=np.int32) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K).astype(np.int32)
    rows = step // columns_K[which]
    x = step - rows * columns_K[which] + left_F[kept].astype(np.int32)[which]
    y = rows + top_F[kept].astype(np.int32)[which]

    weight1_K3, weight2_K3 = _edge_planes(x_F3[kept], y_F3[kept], area_F[kept])
    w1 = weight1_K3[which, 0] * x + weight1_K3[which, 1] * y + weight1_K3[which, 2]
    w2 = weight2_K3[which, 0] * x + weight2_K3[which, 1] * y + weight2_K3[which, 2]
    inside = np.flatnonzero((w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1))
    x, y, w1, w2, which = x[inside], y[inside], w1[inside], w2[inside], which[inside]
    z_I3 = z_F3[kept][which]
    depth = z_I3[:, 0] + w1 * (z_I3[:, 1] - z_I3[:, 0]) + w2 * (z_I3[:, 2] - z_I3[:, 0])

    pixel = y.astype(np.int64) * width + x
    far_to_near = np.argsort(-depth, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[far_to_near]] = far_to_near
    winner = nearest[nearest >= 0]
    weights = np.stack([1 - w1[winner] - w2[winner], w1[winner], w2[winner]], 1)
    return Fragments(y[winner], x[winner], kept[which[winner]], weights, depth[winner])


def _edge_planes(x_K3: np.ndarray, y_K3: np.ndarray, area_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (of x, y, 1) of the barycentric weights of corners 1 and 2; float32 from float64 so that big triangles stay sharp."""
    x, y, area = x_K3.astype(np.float64), y_K3.astype(np.float64), area_K.astype(np.float64)
    first = np.stack([y[:, 2] - y[:, 0], x[:, 0] - x[:, 2], x[:, 2] * y[:, 0] - x[:, 0] * y[:, 2]], 1) / area[:, None]
    second = np.stack([y[:, 0] - y[:, 1], x[:, 1] - x[:, 0], x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]], 1) / area[:, None]
    return first, second
