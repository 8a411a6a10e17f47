"""The z-buffer against one ray a pixel, tried on every triangle."""

import numpy as np
import trimesh

from engine.synthetic.rasterizer import rasterize


def cast(pixels_V2: np.ndarray, depth_V: np.ndarray, faces_F3: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Depth of the nearest camera-facing triangle at every pixel, by brute force in float64; inf where none is."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    nearest = np.full(hw, np.inf)
    for a, b, c in faces_F3:
        (ax, ay), (bx, by), (cx, cy) = pixels_V2[[a, b, c]]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= 0:
            continue
        u = ((columns - ax) * (cy - ay) - (cx - ax) * (rows - ay)) / area
        v = ((bx - ax) * (rows - ay) - (columns - ax) * (by - ay)) / area
        depth = depth_V[a] + u * (depth_V[b] - depth_V[a]) + v * (depth_V[c] - depth_V[a])
        nearest = np.where((u >= 0) & (v >= 0) & (u + v <= 1), np.minimum(nearest, depth), nearest)
    return nearest


def test_agrees_with_brute_force_on_overlapping_spheres() -> None:
    rng = np.random.default_rng(0)
    spheres = [trimesh.creation.icosphere(2, 0.4) for _ in range(3)]
    for sphere in spheres:
        sphere.apply_translation([*rng.uniform(-0.4, 0.4, 2), rng.uniform(2, 3)])
    mesh = trimesh.util.concatenate(spheres)
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    pixels = vertices[:, :2] / vertices[:, 2:] * 120 + (30.3, 27.8)
    hw = (56, 64)
    found = rasterize(pixels, vertices[:, 2], faces, hw)
    depth = np.full(hw, np.inf)
    depth[found.row_P, found.column_P] = found.depth_P
    expected = cast(pixels, vertices[:, 2], faces, hw)
    same = np.isfinite(depth) == np.isfinite(expected)
    assert same.mean() > 0.998, "coverage may differ only where an edge meets a pixel's centre"
    both = np.isfinite(depth) & np.isfinite(expected)
    assert both.sum() > 500
    assert np.mean(np.abs(depth[both] - expected[both]) < 1e-4) > 0.995


def test_interpolates_what_is_linear_in_the_picture() -> None:
    pixels = np.array([[-5.0, -5], [10, 40], [45, -3]])
    found = rasterize(pixels, np.array([2.0, 2, 2]), np.array([[0, 1, 2]]), (20, 30))
    values = found.interpolate(pixels.astype(np.float32), np.array([[0, 1, 2]]))
    assert len(found.row_P) > 100
    np.testing.assert_allclose(values, np.stack([found.column_P, found.row_P], 1), atol=1e-3)


def test_back_faces_and_what_is_behind_the_camera_are_not_drawn() -> None:
    pixels = np.array([[0.0, 0], [0, 20], [20, 0]])
    towards, away = np.array([[0, 1, 2]]), np.array([[0, 2, 1]])
    assert len(rasterize(pixels, np.ones(3), towards, (20, 20)).row_P) > 0
    assert len(rasterize(pixels, np.ones(3), away, (20, 20)).row_P) == 0
    assert len(rasterize(pixels, np.array([1, -1, 1.0]), towards, (20, 20)).row_P) == 0
