"""A block to sit on, for persons whose thighs say they sit and whom nothing else would hold up.

World frame: y up, ground at y = 0, metres. Shapes: V vertices, F faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.synthetic.atlas import Atlas

_HALF_SIDE_M = 0.21
_LOWEST_M, _HIGHEST_M = 0.25, 0.75


@dataclass(frozen=True)
class Seat:
    """A box mesh with flat normals."""

    vertices_V3: np.ndarray
    normals_V3: np.ndarray
    faces_F3: np.ndarray


def seat_under(atlas: Atlas, vertices_V3: np.ndarray) -> Seat | None:
    """The block under a posed body (world frame) that sits, or None for one that does not."""
    rest_V3, mark = atlas.rest_V3, atlas.landmarks
    hip_y, knee_y = mark["L_Hip"][1], mark["L_Knee"][1]
    bottom_V3 = vertices_V3[(np.abs(rest_V3[:, 1] - hip_y + 0.04) < 0.07) & (np.abs(rest_V3[:, 0]) < 0.22)]
    knees = [vertices_V3[(np.abs(rest_V3[:, 1] - knee_y) < 0.06) & (side * rest_V3[:, 0] > 0)].mean(0) for side in (1, -1)]
    centre, top = bottom_V3.mean(0), bottom_V3[:, 1].min()
    forward = (knees[0] + knees[1]) / 2 - centre
    level = all(abs(knee[1] - centre[1]) < 0.22 and knee[1] > 0.3 for knee in knees)
    reach = np.hypot(forward[0], forward[2])
    if not (_LOWEST_M < top < _HIGHEST_M and level and reach > 0.25 and vertices_V3[:, 1].min() < 0.05):
        return None
    forward = forward / reach
    right = np.array([forward[2], 0, -forward[0]])
    return _box(
        np.array([centre[0], top / 2, centre[2]]),
        right * _HALF_SIDE_M,
        np.array([0, top / 2, 0]),
        np.array([forward[0], 0, forward[2]]) * _HALF_SIDE_M,
    )


def _box(centre: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Seat:
    vertices, normals, faces = [], [], []
    for a, b, c in ((x, y, z), (y, z, x), (z, x, y)):
        for sign in (1, -1):
            corners = [centre + sign * a + u * b + sign * v * c for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            start = len(vertices)
            vertices += corners
            normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
            normal = normal / np.linalg.norm(normal)
            outward = normal @ a * sign > 0
            normals += [normal if outward else -normal] * 4
            order = (0, 1, 2, 3) if outward else (3, 2, 1, 0)
            faces += [[start + order[0], start + order[1], start + order[2]], [start + order[0], start + order[2], start + order[3]]]
    return Seat(np.array(vertices), np.array(normals), np.array(faces))
