"""The virtual camera: Pose2Pose's numbers, and that crop and image cameras see the same thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.body.cameras import camera_to_image, camera_translation, depth_scale, project, virtual_camera


def test_paper_values_at_256x192() -> None:
    focal, princpt = virtual_camera((256, 192))
    np.testing.assert_array_equal(focal, (5000, 5000))
    np.testing.assert_array_equal(princpt, (96, 128))
    assert depth_scale((256, 192)) == pytest.approx(56.38, abs=0.01)


def test_smaller_crops_see_the_same_body_at_the_same_place() -> None:
    points = torch.rand(2, 5, 3) + torch.tensor([-0.5, -0.5, 28.0])
    large = project(points, *virtual_camera((256, 192)))
    small = project(points, *virtual_camera((128, 96)))
    torch.testing.assert_close(small * 2, large)
    assert depth_scale((128, 96)) == pytest.approx(depth_scale((256, 192)))


def test_project_is_the_pinhole_formula_with_a_guarded_depth() -> None:
    point = np.array([[[1.0, 2.0, 10.0], [1.0, 1.0, 0.0]]])
    pixels = project(point, np.array([100.0, 200.0]), np.array([5.0, 6.0]))
    np.testing.assert_allclose(pixels[0, 0], (100 / 10.0001 + 5, 400 / 10.0001 + 6))
    assert np.isfinite(pixels).all()


def test_project_takes_a_camera_per_person_and_keeps_gradients() -> None:
    points = (torch.rand(3, 4, 3) + 5).requires_grad_()
    focal, princpt = np.full((3, 2), 100.0) * [[1], [2], [3]], np.zeros((3, 2))
    pixels = project(points, focal, princpt)
    assert pixels.shape == (3, 4, 2)
    torch.testing.assert_close(pixels[2], project(points[2:], focal[2], princpt[2])[0])
    pixels.sum().backward()
    assert torch.isfinite(points.grad).all()


def test_camera_translation_is_bounded_in_depth() -> None:
    raw = torch.tensor([[0.3, -0.2, 0.0], [0.0, 0.0, 100.0]])
    translation = camera_translation(raw, (256, 192))
    torch.testing.assert_close(translation[0], torch.tensor([0.3, -0.2, depth_scale((256, 192)) / 2]))
    assert translation[1, 2] == pytest.approx(depth_scale((256, 192)))


@pytest.mark.parametrize("crop_hw", [(256, 192), (128, 96)])
def test_camera_to_image_projects_where_the_crop_says(crop_hw: tuple[int, int]) -> None:
    points = np.random.default_rng(0).uniform((-1, -1, 29), (1, 1, 31), (2, 6, 3))
    boxes = np.array([[100.0, 50.0, 150.0, 200.0], [-20.0, 5.0, 60.0, 80.0]])
    in_crop = project(points, *virtual_camera(crop_hw))
    expected = boxes[:, None, :2] + in_crop * boxes[:, None, 2:] / np.array(crop_hw[::-1])
    focal, princpt = camera_to_image(boxes, crop_hw)
    assert focal.shape == princpt.shape == (2, 2)
    np.testing.assert_allclose(project(points, focal, princpt), expected, atol=1e-3)
    np.testing.assert_allclose(focal[:, 0], focal[:, 1])
