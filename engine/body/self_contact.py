"""Does a pose put one body part inside another? A rough answer, from 20 capsules, fast enough to ask about every sample.

Joint limits alone let a hand pass through the belly. The capsules stand for an average adult in SMPL's rest pose; where two
that are not neighbours overlap by more than soft tissue and the roughness of capsules explain, no person holds the pose.

Shapes: N poses, K points along a capsule, metres, SMPL's rest frame (x left, y up, z forward).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from engine.body.joint_angles import BODY_JOINTS
from schemas.skeletons import SMPL24, SMPL_PARENTS

TOLERANCE_M = 0.035
"""Overlap that flesh and the capsules' roughness account for."""

_SIDED_REST = {
    "Hip": (0.09, -0.02, 0.0),
    "Knee": (0.11, -0.43, 0.0),
    "Ankle": (0.12, -0.84, -0.02),
    "Foot": (0.13, -0.89, 0.11),
    "Collar": (0.04, 0.44, 0.0),
    "Shoulder": (0.17, 0.47, -0.01),
    "Elbow": (0.44, 0.47, -0.01),
    "Wrist": (0.68, 0.47, -0.01),
    "Hand": (0.78, 0.46, 0.0),
}
_REST: dict[str, tuple[float, float, float]] = {
    "Pelvis": (0, 0, 0),
    "Torso": (0, 0.08, -0.01),
    "Spine": (0, 0.2, -0.01),
    "Chest": (0, 0.28, 0.0),
    "Neck": (0, 0.52, 0.0),
    "Head": (0, 0.61, 0.03),
    **{f"L_{joint}": xyz for joint, xyz in _SIDED_REST.items()},
    **{f"R_{joint}": (-x, y, z) for joint, (x, y, z) in _SIDED_REST.items()},
}
_REST_J3 = np.array([_REST[joint] for joint in SMPL24.joints])

_End = tuple[str, tuple[float, float, float]]


def _limb_capsules(side: str) -> dict[str, tuple[_End, _End, float]]:
    def between(start: str, end: str, radius_m: float) -> tuple[_End, _End, float]:
        bone = tuple(np.subtract(_REST[f"{side}_{end}"], _REST[f"{side}_{start}"]))
        return (f"{side}_{start}", (0, 0, 0)), (f"{side}_{start}", bone), radius_m

    reach = 0.07 if side == "L" else -0.07
    return {
        f"{side} forearm": between("Elbow", "Wrist", 0.035),
        f"{side} hand": ((f"{side}_Wrist", (0, 0, 0)), (f"{side}_Wrist", (2 * reach, 0, 0)), 0.025),
        f"{side} elbow": ((f"{side}_Shoulder", (2 * reach, 0, 0)), (f"{side}_Elbow", (0, 0, 0)), 0.04),
        f"{side} thigh": between("Hip", "Knee", 0.065),
        f"{side} shank": between("Knee", "Ankle", 0.045),
        f"{side} belly": (("Pelvis", (reach, -0.02, 0.01)), ("Spine", (reach, 0.05, 0.01)), 0.1),
        f"{side} chest": (("Spine", (reach, 0.0, 0.01)), ("Chest", (reach, 0.12, 0.0)), 0.1),
    }


_CAPSULES = {**_limb_capsules("L"), **_limb_capsules("R"), "head": (("Head", (0, 0.03, 0.02)), ("Head", (0, 0.1, 0.03)), 0.09)}


def _pairs() -> list[tuple[str, str]]:
    arm, leg, torso = ("forearm", "hand", "elbow"), ("thigh", "shank"), ("belly", "chest")
    pairs = [(f"{s} {a}", f"{t} {b}") for s in "LR" for t in "LR" for a in arm for b in (*torso, *leg)]
    pairs += [(f"{s} {a}", "head") for s in "LR" for a in arm]
    pairs += [(f"L {a}", f"R {b}") for a in arm for b in arm]
    pairs += [("L thigh", "R shank"), ("R thigh", "L shank"), ("L shank", "R shank")]
    pairs += [(f"{s} shank", f"{t} {b}") for s in "LR" for t in "LR" for b in torso]
    return pairs


_PAIRS = _pairs()


def overlap_m(pose_N63: np.ndarray) -> np.ndarray:
    """(N,) deepest overlap in metres of two body parts of each axis-angle pose; negative: free by that much."""
    rotations, joints = _pose_skeleton(np.asarray(pose_N63, dtype=np.float64))
    share_K1 = np.linspace(0, 1, 6)[:, None]
    points_NK3 = {}
    for name, ((joint_a, offset_a), (joint_b, offset_b), _) in _CAPSULES.items():
        a, b = SMPL24.index(joint_a), SMPL24.index(joint_b)
        start_N13 = (joints[a] + rotations[a].apply(offset_a))[:, None]
        end_N13 = (joints[b] + rotations[b].apply(offset_b))[:, None]
        points_NK3[name] = start_N13 + share_K1 * (end_N13 - start_N13)
    deepest_N = np.full(len(pose_N63), -np.inf)
    for a, b in _PAIRS:
        square_NKK = ((points_NK3[a][:, :, None] - points_NK3[b][:, None]) ** 2).sum(-1)
        deepest_N = np.maximum(deepest_N, _CAPSULES[a][2] + _CAPSULES[b][2] - np.sqrt(square_NKK.min(axis=(1, 2))))
    return deepest_N


def _pose_skeleton(pose_N63: np.ndarray) -> tuple[list[Rotation], list[np.ndarray]]:
    """World rotation and position (N, 3) of every joint of the average adult, pelvis at the origin."""
    rotations, joints = [Rotation.identity(len(pose_N63))], [np.zeros((len(pose_N63), 3))]
    for j, parent in enumerate(SMPL_PARENTS[1:], start=1):
        joints.append(joints[parent] + rotations[parent].apply(_REST_J3[j] - _REST_J3[parent]))
        if j <= len(BODY_JOINTS):
            rotations.append(rotations[parent] * Rotation.from_rotvec(pose_N63[:, 3 * j - 3 : 3 * j]))
        else:
            rotations.append(rotations[parent])
    return rotations, joints
