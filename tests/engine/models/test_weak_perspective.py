from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.body.cameras import camera_to_image, project, virtual_camera
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import Body
from engine.models.weak_perspective import SpinOutput, WeakPerspective


@pytest.fixture
def output(body: Body) -> SpinOutput:
    g = torch.Generator().manual_seed(1)
    rotmats = axis_angle_to_matrix(torch.randn(3, 24, 3, generator=g) * 0.3)
    camera = torch.tensor([[0.9, 0.0, 0.1], [0.5, -0.3, 0.2], [1.4, 0.1, 0.0]])
    return WeakPerspective((224, 224))(body, rotmats, torch.randn(3, 10, generator=g), camera)


def test_the_translation_means_the_same_before_the_virtual_camera(output: SpinOutput, body: Body) -> None:
    """Parameters -> mesh -> the engine's camera of the crop: the pixels that the network compares in [-1, 1]."""
    p = output.parameters()
    with torch.no_grad():
        vertices = body(p.pose_B72, p.betas_B10, p.cam_transl_B3).vertices_BV3
    joints = body.regress(vertices, "pose2pose33").numpy().astype(np.float64)
    pixels = project(joints, *virtual_camera((224, 224)))
    np.testing.assert_allclose(output.joint_proj_B332.numpy(), pixels / 112 - 1, atol=2e-4)


def test_it_is_nearly_s_times_x_plus_t(output: SpinOutput) -> None:
    """A weak-perspective camera by its definition; the rest is perspective, some percent of a joint's place."""
    s, t = output.camera_B3[:, None, :1], output.camera_B3[:, None, 1:]
    weak: Tensor = s * (output.joints_B333[..., :2] + t)
    assert ((output.joint_proj_B332 - weak).abs() <= 0.04 * weak.abs() + 1e-4).all()
    on_root_plane = output.joints_B333[..., 2].abs() < 0.02
    assert on_root_plane.any()
    assert ((output.joint_proj_B332 - weak).abs()[on_root_plane] < 2e-3).all()


def test_the_cameras_way_back_to_the_image(output: SpinOutput) -> None:
    """A square box of the photograph: its crop's pixels, scaled and moved, are the image camera's."""
    boxes = np.array([[10.0, -30.0, 100, 100], [200, 50, 448, 448], [0, 0, 56, 56]])
    focal, princpt = camera_to_image(boxes, (224, 224))
    points = (output.joints_B333 + output.cam_transl_B3[:, None]).numpy()
    in_image = project(points, focal, princpt)
    expected = (output.joint_proj_B332.numpy() + 1) / 2 * boxes[:, None, 2:] + boxes[:, None, :2]
    np.testing.assert_allclose(in_image, expected, atol=0.05)


def test_depth_by_hand_at_any_crop_size() -> None:
    camera = torch.tensor([[0.9, 0.1, -0.2]])
    for side in (128, 224, 256):
        expected = [0.1, -0.2, 2 * (5000 * side / 256) / (side * 0.9 + 1e-9)]
        np.testing.assert_allclose(WeakPerspective((side, side)).translation(camera)[0].numpy(), expected, rtol=1e-6)


def test_nothing_of_it_is_in_a_checkpoint() -> None:
    assert not WeakPerspective((128, 128)).state_dict()
