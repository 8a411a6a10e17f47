"""Un-mirroring undoes a mirror exactly, in pixels and in metres, and means of rotations are chordal means."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.annotators.base import Prediction, no_latent
from engine.annotators.flip import average, disagreement, mean_rotation, mirror_images, mirror_joints, mirror_prediction
from engine.body.cameras import project, virtual_camera
from engine.body.smpl import Body, BodyConfig, load_body
from engine.loading.augmentation import Augmentation
from engine.loading.crops import crop_affines, warp
from schemas.skeletons import POSE2POSE33

HW = (256, 192)
FOCAL, PRINCPT = (values.astype(np.float64) for values in virtual_camera(HW))


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(BodyConfig())


def _prediction(n: int, seed: int = 0) -> Prediction:
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.4, (n, 72)).astype(np.float32)
    pose[:, :3] += np.float32([3, 0, 0])
    transl = np.column_stack([rng.normal(0, 0.3, (n, 2)), rng.uniform(20, 50, n)]).astype(np.float32)
    return Prediction(pose, rng.normal(0, 1, (n, 10)).astype(np.float32), transl, no_latent(n))


def _joints(body: Body, out: Prediction) -> np.ndarray:
    with torch.inference_mode():
        posed = body.joints(torch.from_numpy(out.pose_N72), torch.from_numpy(out.betas_N10)).double().numpy()
    return posed + out.cam_transl_N3[:, None]


def test_the_mirror_image_is_that_of_the_training_augmentation() -> None:
    """A crop mirrored by `mirror_images` is the crop warped from the photograph with the augmentation's flip, but for column 0."""
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    box, plain = np.array([[100.0, 20.0, 192.0, 256.0]]), Augmentation.identity(1)
    flipped = Augmentation(**{**vars(plain), "flip_B": np.array([True])})
    crop, expected = (warp(photograph, crop_affines(box, HW, how)[0], HW) for how in (plain, flipped))
    found = mirror_images(torch.from_numpy(crop).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found[:, 1:], expected[:, 1:])
    np.testing.assert_array_equal(found[:, 0], crop[:, -1])


def test_what_is_seen_in_the_mirror_image_is_carried_back_to_its_pixel() -> None:
    """A dot's pixel in the mirrored crop, looked at through the virtual camera and un-mirrored, is its pixel in the crop."""
    images = torch.zeros(1, 1, *HW)
    images[0, 0, 40, 50] = 1
    y, x = (int(v) for v in np.argwhere(mirror_images(images)[0, 0].numpy())[0])
    depth = 30.0
    point = np.array([*((np.array([x, y]) - PRINCPT) / FOCAL * (depth + 1e-4)), depth])
    seen = project(np.tile(point, (1, 33, 1)), FOCAL, PRINCPT)
    np.testing.assert_allclose(seen[0, 0], [x, y], atol=1e-9)
    back = project(mirror_joints(np.tile(point, (1, 33, 1))), FOCAL, PRINCPT)
    np.testing.assert_allclose(back[0, 0], [50, 40], atol=1e-3)


def test_an_unmirrored_prediction_projects_to_the_mirrored_joints(body: Body) -> None:
    """x -> W - x for every joint of the other side. What is left over is the open body's own asymmetry, below half a millimetre."""
    out = _prediction(32)
    joints, swapped = _joints(body, out), list(POSE2POSE33.flip_permutation)
    pixels, mirrored = (project(values, FOCAL, PRINCPT) for values in (joints, mirror_joints(joints)))
    np.testing.assert_allclose(mirrored[..., 0], HW[1] - pixels[:, swapped, 0], atol=1e-3)
    np.testing.assert_allclose(mirrored[..., 1], pixels[:, swapped, 1], atol=1e-3)
    posed = _joints(body, mirror_prediction(out))
    np.testing.assert_allclose(posed, mirror_joints(joints), atol=5e-4)
    np.testing.assert_allclose(project(posed, FOCAL, PRINCPT), mirrored, atol=0.06)


def test_mirroring_twice_changes_nothing() -> None:
    out = _prediction(5)
    twice = mirror_prediction(mirror_prediction(out))
    for name in ("pose_N72", "betas_N10", "cam_transl_N3"):
        assert np.array_equal(getattr(twice, name), getattr(out, name)) and getattr(twice, name).dtype == np.float32
    joints = np.random.default_rng(0).normal(size=(2, 33, 3)).astype(np.float32)
    np.testing.assert_array_equal(mirror_joints(mirror_joints(joints)), joints)
    images = torch.arange(12).view(1, 1, 2, 6)
    assert torch.equal(mirror_images(mirror_images(images))[..., 1:], images[..., 1:])


@given(arrays(np.float64, (2, 4, 3), elements=st.floats(-6, 6)))
def test_means_of_rotations_are_chordal_means(rotations: np.ndarray) -> None:
    """Against the projection of the mean matrix onto SO(3), where that is unique."""
    mean = mean_rotation(*rotations)
    matrices = roma.rotvec_to_rotmat(torch.from_numpy(rotations))
    apart = roma.rotmat_geodesic_distance(*matrices)
    expected = roma.special_procrustes(matrices.mean(0))
    found = roma.rotvec_to_rotmat(torch.from_numpy(mean))
    clear = apart < 3.1
    torch.testing.assert_close(found[clear], expected[clear], atol=1e-6, rtol=0)
    halfway = roma.rotmat_geodesic_distance(matrices[0], found)
    torch.testing.assert_close(halfway, apart / 2, atol=1e-6, rtol=0)


def test_agreeing_predictions_are_their_own_average(body: Body) -> None:
    out = _prediction(4)
    joints = _joints(body, out)
    same = average(out, out, disagreement(joints, joints + 5.0))
    for name in ("pose_N72", "betas_N10", "cam_transl_N3"):
        found, truth = (getattr(value, name) for value in (same, out))
        if name == "pose_N72":
            found, truth = (roma.rotvec_to_rotmat(torch.from_numpy(v.reshape(-1, 3))).numpy() for v in (found, truth))
        np.testing.assert_allclose(found, truth, atol=1e-6)
    np.testing.assert_allclose(same.flip_disagreement_N, 0, atol=1e-9)


def test_disagreement_is_the_mean_distance_with_pelvis_on_pelvis() -> None:
    rng = np.random.default_rng(0)
    a, moved = rng.normal(size=(1, 33, 3)), rng.normal(size=3)
    b = a + moved
    b[0, POSE2POSE33.index("L_Wrist")] += (0.3, 0, 0.4)
    np.testing.assert_allclose(disagreement(a, b), [0.5 / 33])
