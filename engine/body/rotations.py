"""Rotations between axis-angle, matrix and 6D form, and the mirror image of an SMPL pose.

Conversions are roma's, whose gradients are finite at the identity (torchgeometry's and kornia's are not everywhere).
All functions but `flip_pose_aa` take torch tensors with any leading dimensions and are differentiable.
"""

from __future__ import annotations

import numpy as np
import roma
import torch
from torch import Tensor

from schemas.skeletons import SMPL24

_FLIP_72 = np.array([3 * joint + axis for joint in SMPL24.flip_permutation for axis in range(3)])
_FLIP_SIGN_72 = np.tile(np.array([1.0, -1.0, -1.0]), len(SMPL24))


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) in radians."""
    return roma.rotvec_to_rotmat(axis_angle)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3), angle in [0, pi], of rotation matrices (..., 3, 3)."""
    return roma.rotmat_to_rotvec(matrix)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of 6D representations (..., 6), interleaved as in Pose2Pose and VPoser.

    The six numbers are a row-major 3x2 matrix, so its columns are the even and the odd entries; Gram-Schmidt makes them the
    first two columns of the rotation and their cross product is the third (Zhou et al., CVPR 2019).
    """
    columns = rotation_6d.unflatten(-1, (3, 2))
    x = torch.nn.functional.normalize(columns[..., 0], dim=-1, eps=1e-8)
    second = columns[..., 1]
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=1e-8)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), dim=-1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Interleaved 6D representations (..., 6) of rotation matrices (..., 3, 3): their first two columns."""
    return matrix[..., :2].flatten(-2)


def rotate_root(pose_B72: Tensor, rotation: Tensor) -> Tensor:
    """Axis-angle pose (..., 72) whose root rotation is `rotation` (..., 3, 3) times the old one."""
    root = matrix_to_axis_angle(rotation @ axis_angle_to_matrix(pose_B72[..., :3]))
    return torch.cat((root, pose_B72[..., 3:]), dim=-1)


def flip_pose_aa(pose: np.ndarray) -> np.ndarray:
    """Axis-angle pose (..., 72) of the mirrored person: left and right swapped, y and z of every vector negated."""
    return (pose[..., _FLIP_72] * _FLIP_SIGN_72).astype(pose.dtype, copy=False)
