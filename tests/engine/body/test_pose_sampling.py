"""Sampled poses: limits, hinges, contact, modes, determinism."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.body.joint_angles import BODY_JOINTS, within_limits
from engine.body.pose_sampling import sample_poses
from engine.body.postures import ARMS, LEGS, MODES, STUDIO_MODES, TRUNK
from engine.body.self_contact import TOLERANCE_M, overlap_m
from engine.body.smpl import BodyConfig, load_body
from schemas.skeletons import SMPL24


def _joints(pose_N63: np.ndarray) -> np.ndarray:
    pose_N72 = torch.zeros(len(pose_N63), 72)
    pose_N72[:, 3:66] = torch.from_numpy(pose_N63)
    return load_body(BodyConfig())(pose_N72, torch.zeros(len(pose_N63), 10)).joints_B243.numpy()


def _bone_direction(pose_N63: np.ndarray, joint: str, bone: tuple[float, float, float]) -> np.ndarray:
    j = BODY_JOINTS.index(joint)
    return Rotation.from_rotvec(pose_N63[:, 3 * j : 3 * j + 3]).apply(bone)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_sample_is_a_pose_a_person_can_hold(seed):
    pose_N63 = sample_poses(30, np.random.default_rng(seed))
    assert pose_N63.shape == (30, 63) and pose_N63.dtype == np.float32 and np.isfinite(pose_N63).all()
    assert within_limits(pose_N63, slack_deg=1e-2).all()
    assert (overlap_m(pose_N63) <= TOLERANCE_M + 1e-5).all()
    for side, outward in (("L", 1.0), ("R", -1.0)):
        assert (_bone_direction(pose_N63, f"{side}_Knee", (0, -1, 0))[:, 2] <= 1e-3).all()  # shanks only fold backward
        forearm_N3 = _bone_direction(pose_N63, f"{side}_Elbow", (outward, 0, 0))
        assert (forearm_N3[:, 2] >= -1e-3).all()  # forearms only fold forward


def test_the_same_seed_gives_the_same_poses_and_another_seed_others():
    a, b, c = (sample_poses(12, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_drawn_alone(mode):
    assert sample_poses(8, np.random.default_rng(0), (mode,)).shape == (8, 63)


def test_no_poses_are_no_poses():
    assert sample_poses(0, np.random.default_rng(0)).shape == (0, 63)


@pytest.mark.parametrize("modes", [("flying",), ()])
def test_an_unknown_mode_is_named(modes):
    with pytest.raises(ValueError, match="expected some of standing, walking"):
        sample_poses(3, np.random.default_rng(0), modes)


def test_modes_look_like_their_names():
    rng = np.random.default_rng(0)
    at = SMPL24.index
    standing = _joints(sample_poses(100, rng, STUDIO_MODES))
    assert (standing[:, at("L_Wrist"), 1] < standing[:, at("L_Shoulder"), 1]).mean() > 0.8
    sitting = _joints(sample_poses(100, rng, ("sitting",)))
    assert (sitting[:, at("R_Knee"), 2] - sitting[:, at("R_Hip"), 2]).min() > 0.2
    up = _joints(sample_poses(100, rng, ("reaching up",)))
    assert (up[:, [at("L_Wrist"), at("R_Wrist")], 1].max(1) > up[:, at("Head"), 1]).mean() > 0.4
    squatting = _joints(sample_poses(100, rng, ("squatting",)))
    height = squatting[:, at("Head"), 1] - squatting[:, [at("L_Foot"), at("R_Foot")], 1].min(1)
    assert height.mean() < 0.8 * (standing[:, at("Head"), 1] - standing[:, [at("L_Foot"), at("R_Foot")], 1].min(1)).mean()


def test_joints_move_together():
    pose_N63 = sample_poses(300, np.random.default_rng(0), ("squatting",))
    flexion = {j: pose_N63[:, 3 * BODY_JOINTS.index(j)] for j in ("L_Knee", "R_Knee", "L_Hip")}
    assert np.corrcoef(flexion["L_Knee"], flexion["R_Knee"])[0, 1] > 0.7
    assert np.corrcoef(flexion["L_Knee"], flexion["L_Hip"])[0, 1] < -0.7  # SMPL flexes knees by +x, hips by -x


def test_modes_name_postures_that_exist():
    for mode in MODES.values():
        assert set(mode.legs) <= set(LEGS) and set(mode.trunk) <= set(TRUNK) and set(mode.arms) <= set(ARMS)
    assert set(STUDIO_MODES) <= set(MODES)
