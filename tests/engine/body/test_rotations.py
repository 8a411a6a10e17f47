"""Rotations against scipy, their gradients at the identity, and the mirror image of a pose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.body.rotations import (
    axis_angle_to_matrix,
    flip_pose_aa,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotate_root,
    rotation_6d_to_matrix,
)
from schemas.skeletons import SMPL24

vectors = st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3)


@given(vectors)
@settings(deadline=None, max_examples=100)
def test_axis_angle_to_matrix_agrees_with_scipy(vector: list[float]) -> None:
    ours = axis_angle_to_matrix(torch.tensor(vector, dtype=torch.float64))
    np.testing.assert_allclose(ours.numpy(), Rotation.from_rotvec(vector).as_matrix(), atol=1e-9)


@given(vectors)
@settings(deadline=None, max_examples=100)
def test_matrix_to_axis_angle_gives_the_same_rotation(vector: list[float]) -> None:
    matrix = Rotation.from_rotvec(vector).as_matrix()
    back = matrix_to_axis_angle(torch.from_numpy(matrix)[None])[0]
    assert back.norm() <= np.pi + 1e-6
    np.testing.assert_allclose(Rotation.from_rotvec(back.numpy()).as_matrix(), matrix, atol=1e-7)


def test_batches_of_any_shape() -> None:
    pose = torch.randn(2, 5, 24, 3)
    matrices = axis_angle_to_matrix(pose)
    assert matrices.shape == (2, 5, 24, 3, 3)
    assert matrix_to_axis_angle(matrices).shape == pose.shape
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(matrices)), matrices, atol=1e-5, rtol=0)


def test_gradients_at_and_near_the_identity_are_those_of_the_exponential_map() -> None:
    for scale in (0.0, 1e-10, 1e-6, 1e-3):
        vector = (scale * torch.ones(4, 3)).requires_grad_()
        weights = torch.randn(4, 3, 3)
        (axis_angle_to_matrix(vector) * weights).sum().backward()
        generators = torch.linalg.cross(torch.eye(3)[:, None].expand(3, 3, 3), torch.eye(3)[None].expand(3, 3, 3)).mT
        expected = torch.einsum("nij,kij->nk", weights, generators)
        torch.testing.assert_close(vector.grad, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("vector", [(0.0, 0, 0), (1e-6, 0, 0), (np.pi, 0, 0), (0, np.pi - 1e-5, 0)])
def test_gradients_of_the_logarithm_are_finite(vector: tuple[float, ...]) -> None:
    matrix = torch.from_numpy(Rotation.from_rotvec(vector).as_matrix()).float()[None].requires_grad_()
    matrix_to_axis_angle(matrix).sum().backward()
    assert torch.isfinite(matrix.grad).all()


def test_6d_is_interleaved() -> None:
    six = torch.tensor([[2.0, 0.3, 0.0, 5.0, 0.0, 0.0]])  # even entries (2, 0, 0), odd entries (0.3, 5, 0)
    torch.testing.assert_close(rotation_6d_to_matrix(six)[0], torch.eye(3))


def test_6d_round_trip_and_orthonormality() -> None:
    matrices = torch.from_numpy(Rotation.random(50, rng=0).as_matrix()).float()
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrices)), matrices, atol=1e-6, rtol=0)
    any_six = rotation_6d_to_matrix(torch.randn(50, 6))
    torch.testing.assert_close(any_six @ any_six.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(any_six), torch.ones(50), atol=1e-5, rtol=0)


def test_6d_of_zeros_has_finite_gradients() -> None:
    six = torch.zeros(1, 6, requires_grad=True)
    rotation_6d_to_matrix(six).sum().backward()
    assert torch.isfinite(six.grad).all()


def test_rotate_root_turns_the_root_and_nothing_else() -> None:
    pose = 0.5 * torch.randn(3, 72)
    turn = torch.from_numpy(Rotation.from_euler("z", -20, degrees=True).as_matrix()).float()
    turned = rotate_root(pose, turn)
    torch.testing.assert_close(turned[:, 3:], pose[:, 3:])
    torch.testing.assert_close(axis_angle_to_matrix(turned[:, :3]), turn @ axis_angle_to_matrix(pose[:, :3]), atol=1e-5, rtol=0)


def test_flip_pose_is_an_involution_that_swaps_sides() -> None:
    pose = np.random.default_rng(0).normal(size=(2, 3, 72)).astype(np.float32)
    flipped = flip_pose_aa(pose)
    assert flipped.dtype == np.float32
    np.testing.assert_array_equal(flip_pose_aa(flipped), pose)
    left, right = SMPL24.index("L_Knee") * 3, SMPL24.index("R_Knee") * 3
    np.testing.assert_array_equal(flipped[..., left : left + 3], pose[..., right : right + 3] * np.float32([1, -1, -1]))
