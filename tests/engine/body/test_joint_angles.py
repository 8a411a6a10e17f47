"""Anatomical angles: their meaning checked on the open body's joints, their inverse for every pose within limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.body.joint_angles import ANGLES, BODY_JOINTS, LIMITS_DEG, angles_to_pose, kind, limits_deg, pose_to_angles, within_limits
from engine.body.smpl import BodyConfig, load_body
from schemas.skeletons import SMPL24


def _joint_positions(angles_J3: np.ndarray) -> np.ndarray:
    pose_172 = torch.zeros(1, 72)
    pose_172[0, 3:66] = torch.from_numpy(angles_to_pose(angles_J3[None])[0])
    return load_body(BodyConfig())(pose_172, torch.zeros(1, 10)).joints_B243[0].numpy()


def _move(joint: str, angle: str, degrees: float) -> np.ndarray:
    angles_J3 = np.zeros((21, 3))
    for side in ("L", "R"):
        angles_J3[BODY_JOINTS.index(f"{side}_Shoulder"), 1] = 90  # the T-pose
    angles_J3[BODY_JOINTS.index(joint), [a.split(" (")[0] for a in ANGLES[kind(joint)]].index(angle)] = degrees
    return _joint_positions(angles_J3)


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize(
    ("joint", "angle", "moved", "reference", "axis", "sign"),
    [
        ("Hip", "flexion", "Knee", "Hip", 2, 1),
        ("Hip", "abduction", "Ankle", "Hip", 0, "out"),
        ("Knee", "flexion", "Ankle", "Knee", 2, -1),
        ("Ankle", "dorsiflexion", "Foot", "Ankle", 1, 1),
        ("Elbow", "flexion", "Wrist", "Elbow", 2, 1),
        ("Shoulder", "azimuth", "Elbow", "Shoulder", 2, 1),
        ("Shoulder", "internal rotation", None, None, None, None),
        ("Collar", "elevation", "Shoulder", "Collar", 1, 1),
        ("Collar", "protraction", "Shoulder", "Collar", 2, 1),
        ("Wrist", "flexion to the palm", "Hand", "Wrist", 1, -1),
    ],
)
def test_positive_angles_go_where_their_name_says(side, joint, angle, moved, reference, axis, sign):
    if moved is None:
        angles_J3 = np.zeros((21, 3))
        angles_J3[BODY_JOINTS.index(f"{side}_Shoulder")] = (0, 90, 60)
        angles_J3[BODY_JOINTS.index(f"{side}_Elbow"), 0] = 90
        joints = _joint_positions(angles_J3)
        assert joints[SMPL24.index(f"{side}_Wrist"), 1] < joints[SMPL24.index(f"{side}_Elbow"), 1] - 0.1
        return
    rest, posed = _move(f"{side}_{joint}", angle, 0.0), _move(f"{side}_{joint}", angle, 40.0)
    a, b = SMPL24.index(f"{side}_{moved}"), SMPL24.index(f"{side}_{reference}")
    change = (posed[a] - posed[b] - rest[a] + rest[b])[axis]
    outward = 1 if side == "L" else -1
    assert change * (outward if sign == "out" else sign) > 0.01


@pytest.mark.parametrize(
    ("azimuth", "elevation", "direction"), [(0, 0, (0, -1, 0)), (0, 90, (1, 0, 0)), (90, 90, (0, 0, 1)), (45, 180, (0, 1, 0))]
)
def test_a_shoulder_points_the_arm(azimuth, elevation, direction):
    angles_J3 = np.zeros((21, 3))
    angles_J3[BODY_JOINTS.index("L_Shoulder"), :2] = azimuth, elevation
    joints = _joint_positions(angles_J3)
    arm = joints[SMPL24.index("L_Elbow")] - joints[SMPL24.index("L_Shoulder")]
    assert np.dot(arm / np.linalg.norm(arm), direction) > 0.99


def test_the_two_sides_are_mirror_images():
    rng = np.random.default_rng(1)
    low_J3, high_J3 = np.moveaxis(limits_deg(), -1, 0)
    angles_J3 = low_J3 + rng.random((21, 3)) * (high_J3 - low_J3)
    for joint in BODY_JOINTS:
        if joint.startswith("L_"):
            angles_J3[BODY_JOINTS.index("R_" + joint[2:])] = angles_J3[BODY_JOINTS.index(joint)]
        elif not joint.startswith("R_"):
            angles_J3[BODY_JOINTS.index(joint), 1:] = 0
    pose_J3 = angles_to_pose(angles_J3[None]).reshape(21, 3)
    for joint in BODY_JOINTS:
        if joint.startswith("L_"):
            left, right = (pose_J3[BODY_JOINTS.index(side + joint[2:])] for side in ("L_", "R_"))
            np.testing.assert_allclose(right, left * [1, -1, -1], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_angles_survive_the_way_to_a_pose_and_back(seed):
    low_J3, high_J3 = np.moveaxis(limits_deg(), -1, 0)
    angles_NJ3 = low_J3 + np.random.default_rng(seed).random((8, 21, 3)) * (high_J3 - low_J3)
    pose_N63 = angles_to_pose(angles_NJ3)
    np.testing.assert_allclose(pose_to_angles(pose_N63), angles_NJ3, atol=1e-5)
    assert within_limits(pose_N63, slack_deg=1e-6).all()


def test_a_knee_that_bends_forward_is_outside_its_limits():
    angles_NJ3 = np.zeros((1, 21, 3))
    for joint in ("L_Shoulder", "R_Shoulder"):
        angles_NJ3[0, BODY_JOINTS.index(joint), 1] = 30
    assert within_limits(angles_to_pose(angles_NJ3), 1e-6).all()
    angles_NJ3[0, BODY_JOINTS.index("R_Knee"), 0] = -30
    inside = within_limits(angles_to_pose(angles_NJ3), slack_deg=20)
    assert not inside[0, BODY_JOINTS.index("R_Knee")] and inside.sum() == 20


def test_every_joint_has_names_and_limits():
    assert {kind(joint) for joint in BODY_JOINTS} == set(ANGLES) == set(LIMITS_DEG)
    assert (limits_deg()[..., 0] < limits_deg()[..., 1]).all()
