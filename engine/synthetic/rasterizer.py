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
    corners_3F = np.ascontiguousarray(faces_F3.T)
    x_3F, y_3F = (np.ascontiguousarray(pixels_V2[:, i], np.float32)[corners_3F] for i in (0, 1))
    z_3F = depth_V.astype(np.float32)[corners_3F]
    area_F = (x_3F[1] - x_3F[0]) * (y_3F[2] - y_3F[0]) - (x_3F[2] - x_3F[0]) * (y_3F[1] - y_3F[0])
    left_F, top_F = np.ceil(np.clip(x_3F.min(0), 0, width)), np.ceil(np.clip(y_3F.min(0), 0, height))
    right_F, bottom_F = np.floor(np.clip(x_3F.max(0), -1, width - 1)), np.floor(np.clip(y_3F.max(0), -1, height - 1))
    kept = np.flatnonzero((area_F < -1e-6) & (z_3F.min(0) > 0.1) & (right_F >= left_F) & (bottom_F >= top_F))
    columns_K = (right_F[kept] - left_F[kept] + 1).astype(np.int32)
    counts_K = columns_K * (bottom_F[kept] - top_F[kept] + 1).astype(np.int32)
    which = np.repeat(np.arange(len(kept), dtype=np.int32), counts_K)
    step = np.arange(len(which), dtype=np.int32) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K).astype(np.int32)
    rows = step // columns_K[which]
    x = step - rows * columns_K[which] + left_F[kept].astype(np.int32)[which]
    y = rows + top_F[kept].astype(np.int32)[which]

    plane1_3K, plane2_3K = _weight_planes(x_3F[:, kept], y_3F[:, kept], area_F[kept])
    w1, w2 = (plane[0][which] * x + plane[1][which] * y + plane[2][which] for plane in (plane1_3K, plane2_3K))
    inside = np.flatnonzero((w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1))
    x, y, w1, w2, which = x[inside], y[inside], w1[inside], w2[inside], which[inside]
    z0, z1, z2 = z_3F[:, kept]
    depth = z0[which] + w1.astype(np.float32) * (z1 - z0)[which] + w2.astype(np.float32) * (z2 - z0)[which]

    pixel = y * np.int32(width) + x
    far_to_near = np.argsort(-depth, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[far_to_near]] = far_to_near
    winner = nearest[nearest >= 0]
    weights = np.stack([1 - w1[winner] - w2[winner], w1[winner], w2[winner]], 1).astype(np.float32)
    return Fragments(y[winner], x[winner], kept[which[winner]], weights, depth[winner])


def _weight_planes(x_3K: np.ndarray, y_3K: np.ndarray, area_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (of x, y, 1) of the barycentric weights of corners 1 and 2, in float64 so that big triangles stay sharp."""
    x, y, area = x_3K.astype(np.float64), y_3K.astype(np.float64), area_K.astype(np.float64)
    first = np.stack([y[2] - y[0], x[0] - x[2], x[2] * y[0] - x[0] * y[2]]) / area
    second = np.stack([y[0] - y[1], x[1] - x[0], x[0] * y[1] - x[1] * y[0]]) / area
    return first, second
