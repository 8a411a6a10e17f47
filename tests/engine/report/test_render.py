"""Silhouette, depth, side view and cropping against projected vertices and a sphere's closed form."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import binary_dilation

from engine.annotators.mean_pose import arms_down_pose
from engine.body.smpl import BodyConfig, load_body
from engine.report.render import View, composite, project, render_mesh, side_view


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def standing(body):
    with torch.inference_mode():
        return body(torch.from_numpy(arms_down_pose())[None], torch.zeros(1, 10)).vertices_BV3[0].numpy()


CAMERAS = {
    "virtual": (View((5000.0, 5000.0), (96.0, 128.0), 192, 256), (0.0, -0.3, 45.0)),
    "real": (View((300.0, 310.0), (90.0, 140.0), 192, 256), (0.1, -0.3, 2.6)),
}


@pytest.mark.parametrize("kind", CAMERAS)
@pytest.mark.parametrize("samples", [1, 2])
def test_projected_vertices_lie_in_the_silhouette(body, standing, kind, samples):
    view, place = CAMERAS[kind]
    vertices = standing + np.array(place)
    mask = render_mesh(vertices, body.faces, view, samples=samples).rgba[..., 3] > 0
    pixels = np.rint(project(vertices, view)).astype(int)
    inside = (pixels >= 0).all(1) & (pixels < (view.width, view.height)).all(1)
    assert inside.mean() > 0.95 and mask.sum() > 2000
    near = binary_dilation(mask, np.ones((3, 3), bool))
    assert near[pixels[inside, 1], pixels[inside, 0]].all()
    spread = np.zeros_like(mask)
    spread[pixels[inside, 1], pixels[inside, 0]] = True
    assert (mask & ~binary_dilation(spread, np.ones((15, 15), bool))).sum() == 0


def test_depth_and_outline_of_a_sphere():
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.5)
    view = View((400.0, 400.0), (99.5, 79.5), 200, 160)
    found = render_mesh(sphere.vertices + np.array((0, 0, 3)), sphere.faces, view, samples=1)
    u, v = np.meshgrid(np.arange(200), np.arange(160))
    ray = np.stack([(u - 99.5) / 400, (v - 79.5) / 400, np.ones(u.shape)], axis=2)
    a, b, c = (ray**2).sum(2), -2 * 3 * ray[..., 2], 9 - 0.25
    discriminant = b**2 - 4 * a * c
    expected = np.where(discriminant > 0, (-b - np.sqrt(np.maximum(discriminant, 0))) / (2 * a), np.inf)
    hit = np.isfinite(found.depth)
    assert (hit != np.isfinite(expected)).sum() < 30
    inner = hit & (discriminant > 0.4)
    np.testing.assert_allclose(found.depth[inner], expected[inner], atol=2e-3)
    assert (hit == (found.rgba[..., 3] > 0)).all()


def test_the_far_virtual_camera_costs_no_precision():
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.5)
    far = render_mesh(sphere.vertices + np.array((0, 0, 50)), sphere.faces, View((5000.0, 5000.0), (63.5, 63.5), 128, 128), samples=1)
    assert far.depth.min() == pytest.approx(49.5, abs=1e-3)
    assert (far.rgba[..., 3] > 0).sum() == pytest.approx(np.pi * 50**2, rel=0.02)


def test_meshes_out_of_sight_give_empty_pictures_and_bad_ones_are_refused(body, standing):
    view = CAMERAS["real"][0]
    for place in ((50, 0, 3), (0, 0, -5)):
        found = render_mesh(standing + np.array(place), body.faces, view)
        assert not found.rgba.any() and np.isinf(found.depth).all()
    assert render_mesh(standing, body.faces, view, samples=1).rgba.shape == (256, 192, 4)
    with pytest.raises(ValueError, match="not finite"):
        render_mesh(standing * np.nan, body.faces, view)


def test_a_window_shows_the_same_part_enlarged(body, standing):
    view, place = CAMERAS["real"]
    vertices = standing + np.array(place)
    whole = render_mesh(vertices, body.faces, view, samples=2).rgba
    part = render_mesh(vertices, body.faces, view.window(40, 20, 140, 120, 200, 200), samples=1).rgba
    shrunk = part.astype(float).reshape(100, 2, 100, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk[..., 3], whole[20:120, 40:140, 3], atol=1)


def test_the_side_view_keeps_height_and_middle_and_puts_the_front_on_the_left(standing):
    turned = side_view(standing)
    np.testing.assert_allclose(turned[:, 1], standing[:, 1], atol=1e-6)
    np.testing.assert_allclose(turned.min(0) + turned.max(0), (standing.min(0) + standing.max(0)), atol=1e-6)
    nearest = standing[:, 2].argmin()
    assert turned[nearest, 0] == turned[:, 0].min()
    assert np.linalg.det((turned[:3] - turned.mean(0)) @ np.linalg.inv(standing[:3] - (standing.min(0) + standing.max(0)) / 2)) != 0
    np.testing.assert_allclose(np.linalg.norm(turned[0] - turned[1]), np.linalg.norm(standing[0] - standing[1]), rtol=1e-5)


def test_composite_covers_exactly_the_mask(body, standing):
    view, place = CAMERAS["real"]
    rendering = render_mesh(standing + np.array(place), body.faces, view, samples=1)
    photo = np.full((256, 192, 3), 10, np.uint8)
    changed = (composite(photo, rendering) != 10).any(axis=2)
    assert (changed == (rendering.rgba[..., 3] > 0)).all()
