"""The closed-form translation against a general solver of the same rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.exchange.camera import box_camera, solve_translation
from engine.loading.boxes import processed_box
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17


def _lstsq(joints: np.ndarray, image: np.ndarray, weight: np.ndarray, focal: np.ndarray, princpt: np.ndarray) -> np.ndarray:
    """SPIN's rows, f t_x + (c - u) t_z = (u - c) Z - f X and so for y, each times sqrt(weight) and over f, by numpy."""
    rows, wanted = [], []
    for (x, y, z), (u, v), w in zip(joints, image, weight, strict=True):
        for axis, (point, pixel) in enumerate(((x, u), (y, v))):
            row = np.zeros(3)
            row[axis], row[2] = focal[axis], princpt[axis] - pixel
            rows.append(np.sqrt(w) * row / focal[axis])
            wanted.append(np.sqrt(w) * ((pixel - princpt[axis]) * z - focal[axis] * point) / focal[axis])
    return np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_is_the_least_squares_solution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, j = 4, 33
    joints = rng.normal(0, 0.5, (n, j, 3))
    focal, princpt = rng.uniform(800, 9000, (n, 2)), rng.uniform(-500, 900, (n, 2))
    true = np.concatenate([rng.uniform(-1, 1, (n, 2)), rng.uniform(4, 50, (n, 1))], 1)
    points = joints + true[:, None]
    image = points[..., :2] / points[..., 2:] * focal[:, None] + princpt[:, None]
    weight = np.where(rng.uniform(size=(n, j)) < 0.4, 0, rng.uniform(0.1, 1, (n, j)))
    exact, solved = solve_translation(joints, image, weight, focal, princpt)
    assert solved.all()
    np.testing.assert_allclose(exact, true, rtol=1e-6, atol=1e-6)
    noisy = image + rng.normal(0, 8, image.shape)
    found, _ = solve_translation(joints, noisy, weight, focal, princpt)
    for i in range(n):
        np.testing.assert_allclose(found[i], _lstsq(joints[i], noisy[i], weight[i], focal[i], princpt[i]), rtol=1e-6, atol=1e-6)
        alone, _ = solve_translation(*(v[i : i + 1] for v in (joints, noisy, weight, focal, princpt)))
        np.testing.assert_allclose(alone[0], found[i], rtol=1e-12)


def test_joints_that_say_nothing() -> None:
    joints, image = np.random.default_rng(0).normal(size=(4, 5, 3)), np.zeros((4, 5, 2))
    image[3] = [[0, 0], [90, 0], [0, 90], [50, 50], [np.nan, np.nan]]
    weight = np.ones((4, 5))
    weight[1], weight[2, 1:], weight[3, 4] = 0, 0, 0
    found, solved = solve_translation(joints, image, weight, np.full((4, 2), 5000.0), np.zeros((4, 2)))
    assert solved.tolist() == [False, False, False, True], "all in one place; none; one; four of five"
    assert np.isfinite(found[3]).all()


def test_the_camera_is_that_of_fs_crop() -> None:
    instance = Instance(
        annotation_id="1", bbox_xywh=(100, 50, 80, 200), skeleton="coco17", joints_img=[(0, 0)] * len(COCO17), joints_valid=[False] * 17
    )
    sample = Sample(key="k", dataset="d", image_path="k.jpg", width=640, height=480, instances=(instance,))
    focal, princpt = box_camera(sample, instance)
    x, y, w, h = processed_box(instance.bbox_xywh, (640, 480), (256, 192))
    np.testing.assert_allclose(focal, [5000 * w / 192, 5000 * h / 256], rtol=1e-6)
    np.testing.assert_allclose(princpt, [x + w / 2, y + h / 2], rtol=1e-6)
