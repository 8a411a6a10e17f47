"""A pose in the words of anatomy: flexion, abduction, rotation, in degrees, and how far a person can go in each.

SMPL's axis-angle numbers mean something else at every joint and have opposite signs left and right. Here every joint has
three named angles, written as if it were a left joint, so that one table of limits and one table of postures serve both
sides. The open pose prior's sampler draws in these angles; the tests judge poses by them.

The rest pose is SMPL's: T-pose, facing +z, up +y, left +x. All angles are 0 there except the shoulder's elevation,
which is measured from the hanging arm (T-pose: 90).

Shapes: N poses, J = 21 body joints (SMPL without root and hands), 3 angles or axes.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from schemas.skeletons import SMPL24

BODY_JOINTS = SMPL24.joints[1:22]
"""The 21 joints of a body pose, in SMPL's order."""

ANGLES: dict[str, tuple[str, str, str]] = {
    "Hip": ("flexion", "abduction", "external rotation"),
    "Knee": ("flexion", "valgus", "external rotation"),
    "Ankle": ("dorsiflexion", "tilt", "toe-out"),
    "Foot": ("toe extension", "tilt", "toe-out"),
    "Torso": ("flexion", "left bend", "left turn"),
    "Spine": ("flexion", "left bend", "left turn"),
    "Chest": ("flexion", "left bend", "left turn"),
    "Neck": ("flexion", "left bend", "left turn"),
    "Head": ("flexion", "left bend", "left turn"),
    "Collar": ("elevation", "protraction", "roll"),
    "Shoulder": ("azimuth (0 sideward, 90 forward)", "elevation (0 hanging, 180 up)", "internal rotation"),
    "Elbow": ("flexion", "carrying", "pronation"),
    "Wrist": ("flexion to the palm", "deviation to the thumb", "pronation"),
}
"""What the three angles of a joint mean."""

LIMITS_DEG: dict[str, tuple[tuple[float, float], ...]] = {
    "Hip": ((-25, 130), (-25, 65), (-40, 55)),
    "Knee": ((0, 150), (-6, 6), (-15, 15)),
    "Ankle": ((-50, 35), (-22, 22), (-25, 35)),
    "Foot": ((-25, 45), (-5, 5), (-10, 10)),
    "Torso": ((-12, 40), (-18, 18), (-20, 20)),
    "Spine": ((-12, 32), (-15, 15), (-20, 20)),
    "Chest": ((-12, 25), (-12, 12), (-20, 20)),
    "Neck": ((-32, 38), (-25, 25), (-40, 40)),
    "Head": ((-28, 45), (-28, 28), (-40, 40)),
    "Collar": ((-8, 30), (-18, 25), (-8, 8)),
    "Shoulder": ((-55, 130), (3, 172), (-80, 80)),
    "Elbow": ((0, 148), (-20, 28), (-70, 70)),
    "Wrist": ((-58, 65), (-32, 32), (-45, 45)),
}
"""Range of every angle of ANGLES: common goniometry of healthy adults, the spine's shared out over three joints."""

_ORDER = {"Collar": "ZYX", "Elbow": "YZX", "Wrist": "ZYX"}
_SIGNS = {"Hip": (-1, 1, 1), "Ankle": (-1, 1, 1), "Foot": (-1, 1, 1), "Collar": (1, -1, 1), "Elbow": (-1, 1, 1), "Wrist": (-1, -1, 1)}
_MIRROR = np.array([1.0, -1.0, -1.0])
_TO_HANGING = Rotation.from_euler("z", -90, degrees=True)


def kind(joint: str) -> str:
    """Joint name without its side: "L_Knee" -> "Knee"."""
    return joint[2:] if joint[:2] in ("L_", "R_") else joint


def limits_deg() -> np.ndarray:
    """(21, 3, 2) lowest and highest angle of every body joint, degrees."""
    return np.array([LIMITS_DEG[kind(j)] for j in BODY_JOINTS], dtype=np.float64)


def angles_to_pose(angles_NJ3: np.ndarray) -> np.ndarray:
    """(N, 63) axis-angle in radians of (N, 21, 3) anatomical angles in degrees."""
    pose_NJ3 = np.empty(angles_NJ3.shape)
    for j, joint in enumerate(BODY_JOINTS):
        pose_NJ3[:, j] = _rotation(kind(joint), angles_NJ3[:, j]).as_rotvec()
        if joint.startswith("R_"):
            pose_NJ3[:, j] *= _MIRROR
    return pose_NJ3.reshape(len(angles_NJ3), -1)


def pose_to_angles(pose_N63: np.ndarray) -> np.ndarray:
    """(N, 21, 3) anatomical angles in degrees of (N, 63) axis-angle poses; the inverse of angles_to_pose.

    Azimuth and twist of a shoulder are arbitrary (their sum is not) where the arm hangs straight down or points straight up.
    """
    pose_NJ3 = np.asarray(pose_N63, dtype=np.float64).reshape(len(pose_N63), len(BODY_JOINTS), 3)
    angles_NJ3 = np.empty(pose_NJ3.shape)
    for j, joint in enumerate(BODY_JOINTS):
        rotvec_N3 = pose_NJ3[:, j] * _MIRROR if joint.startswith("R_") else pose_NJ3[:, j]
        angles_NJ3[:, j] = _angles(kind(joint), Rotation.from_rotvec(rotvec_N3))
    return angles_NJ3


def within_limits(pose_N63: np.ndarray, slack_deg: float = 0.0) -> np.ndarray:
    """(N, 21) bool: every angle of a joint lies in LIMITS_DEG widened by slack_deg.

    A shoulder's azimuth and twist are left out within 20 degrees of straight down or up, where they are arbitrary.
    """
    angles_NJ3, limits_J32 = pose_to_angles(pose_N63), limits_deg()
    inside_NJ3 = (angles_NJ3 >= limits_J32[..., 0] - slack_deg) & (angles_NJ3 <= limits_J32[..., 1] + slack_deg)
    for j in (BODY_JOINTS.index("L_Shoulder"), BODY_JOINTS.index("R_Shoulder")):
        arbitrary_N = np.abs(angles_NJ3[:, j, 1] - 90) > 70
        inside_NJ3[arbitrary_N, j, 0] = inside_NJ3[arbitrary_N, j, 2] = True
    return inside_NJ3.all(axis=-1)


def _rotation(joint: str, angles_N3: np.ndarray) -> Rotation:
    if joint == "Shoulder":
        azimuth_N, elevation_N, twist_N = np.radians(angles_N3).T
        axis_N3 = np.stack([-np.sin(azimuth_N), np.zeros_like(azimuth_N), np.cos(azimuth_N)], axis=-1)
        return Rotation.from_rotvec(axis_N3 * elevation_N[:, None]) * _TO_HANGING * Rotation.from_euler("x", twist_N[:, None])
    return Rotation.from_euler(_ORDER.get(joint, "XZY"), angles_N3 * _SIGNS.get(joint, (1, 1, 1)), degrees=True)


def _angles(joint: str, rotation: Rotation) -> np.ndarray:
    if joint == "Shoulder":
        arm_N3 = rotation.apply([1.0, 0.0, 0.0])
        azimuth_N = np.arctan2(arm_N3[:, 2], arm_N3[:, 0])
        elevation_N = np.arccos(np.clip(-arm_N3[:, 1], -1, 1))
        untwisted = _rotation("Shoulder", np.degrees(np.stack([azimuth_N, elevation_N, np.zeros_like(azimuth_N)], axis=-1)))
        twist_N = (untwisted.inv() * rotation).as_rotvec()[:, 0]
        return np.degrees(np.stack([azimuth_N, elevation_N, twist_N], axis=-1))
    return rotation.as_euler(_ORDER.get(joint, "XZY"), degrees=True) * np.array(_SIGNS.get(joint, (1, 1, 1)))
