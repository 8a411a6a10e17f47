"""Self-contact: what is free is free, what is inside is found."""

import numpy as np

from engine.body.joint_angles import BODY_JOINTS, angles_to_pose
from engine.body.self_contact import TOLERANCE_M, overlap_m


def _pose(**angles: tuple[float, float, float]) -> np.ndarray:
    angles_NJ3 = np.zeros((1, 21, 3))
    for side in ("L", "R"):
        angles_NJ3[0, BODY_JOINTS.index(f"{side}_Shoulder"), 1] = 90
    for joint, value in angles.items():
        angles_NJ3[0, BODY_JOINTS.index(joint)] = value
    return angles_to_pose(angles_NJ3)


def test_the_rest_pose_touches_nothing():
    assert overlap_m(np.zeros((2, 63))).max() < -0.05


def test_a_forearm_through_the_belly_is_found():
    assert overlap_m(_pose(L_Shoulder=(0, 10, 80), L_Elbow=(95, 0, 0)))[0] > TOLERANCE_M


def test_a_hand_in_the_head_is_found():
    assert overlap_m(_pose(R_Shoulder=(20, 115, -40), R_Elbow=(140, 0, 0)))[0] > TOLERANCE_M


def test_crossing_shanks_are_found():
    assert overlap_m(_pose(L_Hip=(0, -14, 0), R_Hip=(0, -14, 0)))[0] > TOLERANCE_M


def test_mirrored_poses_overlap_alike():
    left = overlap_m(_pose(L_Shoulder=(40, 15, 30), L_Elbow=(80, 0, 0)))
    right = overlap_m(_pose(R_Shoulder=(40, 15, 30), R_Elbow=(80, 0, 0)))
    np.testing.assert_allclose(left, right, atol=1e-9)
