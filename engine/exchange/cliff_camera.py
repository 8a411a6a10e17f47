"""A person seen by a virtual camera of their own, put before CLIFF's camera, which is one for the whole photograph.

CLIFF's focal length is the photograph's diagonal and its principal point the middle. A release's cameras are far away and look straight
at each person. What CLIFF's camera sees of a person depends on the direction it looks in, so the person is turned with it, and the
depth on the ratio of the focal lengths; then the nearer camera still shows what is near larger than the farther one did. That part cannot
be carried: `to_cliff` makes it as small as it gets, over the joints it is given, and `moved_px` says what remains.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_STEPS = 30
_DAMPING = 1e-6
_NEAREST_M, _START_M = 0.05, 0.2
"""Of any joint to the camera's plane: never less than the first, and the search starts from the second."""


class Placed(NamedTuple):
    """`rotation_33` turns the body about its pelvis; `transl_3`, m, is smplx's for the body so turned; px are over the points given."""

    rotation_33: np.ndarray
    transl_3: np.ndarray
    moved_px: float


def diagonal_camera(width: int, height: int) -> tuple[float, np.ndarray]:
    """(focal, princpt (2,)) px of CLIFF's camera for a photograph of this size."""
    return float(np.hypot(width, height)), np.array([width / 2, height / 2])


def to_cliff(points_J3: np.ndarray, pelvis_3: np.ndarray, seen_J2: np.ndarray, focal: float, princpt_2: np.ndarray) -> Placed:
    """The turn and translation that let CLIFF's camera see points of a body where they were seen, in least squares of pixels.

    points_J3: posed joints without translation, m, and `pelvis_3` the root about which SMPL's first rotation turns. seen_J2: px.
    All are finite.
    """
    offsets_J3 = points_J3 - pelvis_3
    rays_J2 = (seen_J2 - princpt_2) / focal
    rotation = _turn(rays_J2.mean(0))
    turned_J3 = offsets_J3 @ rotation.T
    place = _translation(turned_J3, rays_J2)
    if not place[2] > 0:
        place = np.array([*rays_J2.mean(0), 1.0])
    while (turned_J3[:, 2] + place[2]).min() < _START_M:
        place = place * 1.25  # away from the camera, along the ray
    rotation, place = _refined(rotation, place, offsets_J3, rays_J2)
    camera_J3 = offsets_J3 @ rotation.T + place
    moved_J2 = (camera_J3[:, :2] / camera_J3[:, 2:] - rays_J2) * focal
    return Placed(rotation, place - pelvis_3, float(np.linalg.norm(moved_J2, axis=1).max()))


def _turn(ray_2: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the optical axis to a ray (x / z, y / z)."""
    axis = np.array([-ray_2[1], ray_2[0], 0.0])  # z x ray
    length = np.linalg.norm(axis)
    vector = axis * (np.arctan(length) / length) if length > 0 else axis
    return _rotation(vector)


def _rotation(vector_3: np.ndarray) -> np.ndarray:
    import roma
    import torch

    return roma.rotvec_to_rotmat(torch.from_numpy(vector_3)).numpy()


def _translation(points_J3: np.ndarray, rays_J2: np.ndarray) -> np.ndarray:
    """The place (3,) whose points lie on the rays in linear least squares: x + X - u (z + Z) = 0, and so for y."""
    n = len(points_J3)
    a = np.zeros((2 * n, 3))
    a[:n, 0] = a[n:, 1] = 1
    a[:n, 2], a[n:, 2] = -rays_J2[:, 0], -rays_J2[:, 1]
    b = (rays_J2 * points_J3[:, 2:] - points_J3[:, :2]).T.ravel()
    return np.linalg.lstsq(a, b, rcond=None)[0]


def _refined(rotation: np.ndarray, place: np.ndarray, offsets_J3: np.ndarray, rays_J2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt over rotation and place on the distances in the image plane; never worse than where it starts."""
    residual = _residual(rotation, place, offsets_J3, rays_J2)
    damping = 1e-3
    for _ in range(_STEPS):
        jacobian = _jacobian(rotation, place, offsets_J3)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + _DAMPING), -gradient)
        turned, moved = _rotation(step[:3]) @ rotation, place + step[3:]
        tried = _residual(turned, moved, offsets_J3, rays_J2)
        if tried @ tried < residual @ residual:
            small = residual @ residual - tried @ tried < 1e-12 * (residual @ residual)
            rotation, place, residual, damping = turned, moved, tried, damping / 10
            if small:
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    return rotation, place


def _residual(rotation: np.ndarray, place: np.ndarray, offsets_J3: np.ndarray, rays_J2: np.ndarray) -> np.ndarray:
    camera_J3 = offsets_J3 @ rotation.T + place
    if camera_J3[:, 2].min() < _NEAREST_M:
        return np.full(2 * len(rays_J2), np.inf)
    return (camera_J3[:, :2] / camera_J3[:, 2:] - rays_J2).T.ravel()


def _jacobian(rotation: np.ndarray, place: np.ndarray, offsets_J3: np.ndarray) -> np.ndarray:
    """(2J, 6): of the image plane's x, then y, by a turn in front of `rotation` and by `place`."""
    turned_J3 = offsets_J3 @ rotation.T
    camera_J3 = turned_J3 + place
    n, z = len(camera_J3), camera_J3[:, 2]
    by_point = np.zeros((2, n, 3))
    by_point[0, :, 0] = by_point[1, :, 1] = 1 / z
    by_point[0, :, 2], by_point[1, :, 2] = -camera_J3[:, 0] / z**2, -camera_J3[:, 1] / z**2
    by_turn = np.cross(turned_J3[None], by_point)  # d(w x p) . g = w . (p x g)
    return np.concatenate([by_turn, by_point], axis=2).reshape(2 * n, 6)
