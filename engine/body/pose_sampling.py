"""Poses a person can hold, out of nothing but anatomy: joint limits, postures, and joints that move together.

The open pose prior is trained on these, and the synthetic world dresses its people with them. No captured data is used.

A pose is drawn in anatomical angles: a mode is chosen ("sitting"), then a posture for legs, trunk and arms, then how deep
each goes (hip, knee, ankle and spine share a depth), then noise that the two sides share in part; angles are folded
back at the joint limits. A pose that puts a hand through the belly is drawn again (self_contact.py).

Shapes: N poses, J = 21 body joints, 3 angles in degrees.
"""

from __future__ import annotations

import numpy as np

from engine.body.joint_angles import BODY_JOINTS, angles_to_pose, kind, limits_deg
from engine.body.postures import ARMS, LEGS, MODES, NEUTRAL, NOISE, TRUNK, Limb, Mode, Moves
from engine.body.self_contact import TOLERANCE_M, overlap_m

_LEG, _ARM = ("Hip", "Knee", "Ankle", "Foot"), ("Collar", "Shoulder", "Elbow", "Wrist")
_TRUNK = ("Torso", "Spine", "Chest", "Neck", "Head")


def sample_poses(n: int, rng: np.random.Generator, modes: tuple[str, ...] | None = None) -> np.ndarray:
    """(n, 63) float32 axis-angle in radians: SMPL's 21 body joints without root and hands, each pose one a person can hold.

    modes: names out of postures.MODES, each as likely as it is listed often; None: all of them. The same generator state
    gives the same poses. ValueError names an unknown mode.
    """
    names = tuple(MODES) if modes is None else tuple(modes)
    unknown = sorted(set(names) - set(MODES))
    if unknown or not names:
        raise ValueError(f"pose modes {unknown or names}: expected some of {', '.join(MODES)}")
    chosen_N = rng.integers(len(names), size=n)
    pose_N63 = np.empty((n, 3 * len(BODY_JOINTS)))
    for m, name in enumerate(names):
        rows = np.flatnonzero(chosen_N == m)
        while len(rows):  # every posture is free of contact more often than not, so this ends soon
            pose_N63[rows] = angles_to_pose(_fold(_draw(MODES[name], len(rows), rng)))
            rows = rows[overlap_m(pose_N63[rows]) > TOLERANCE_M]
    return pose_N63.astype(np.float32)


def _draw(mode: Mode, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 21, 3) angles of a mode before limits and contact are looked at."""
    angles_NJ3 = np.empty((n, len(BODY_JOINTS), 3))
    for i in range(n):
        depth = rng.random()
        lead_left = rng.random() < 0.5
        arms = (rng.choice(mode.arms),) * 2 if rng.random() >= mode.mixed_arms else rng.choice(mode.arms, size=2)
        _set_trunk(angles_NJ3[i], str(rng.choice(mode.trunk)), depth, rng)
        _set_limb(angles_NJ3[i], _LEG, (LEGS[rng.choice(mode.legs)],) * 2, depth, lead_left, rng)
        _set_limb(angles_NJ3[i], _ARM, (ARMS[arms[0]], ARMS[arms[1]]), rng.random(), rng.random() < 0.5, rng)
        if mode.gait is not None:
            _set_gait(angles_NJ3[i], rng.uniform(*mode.gait), swing_arms=rng.random() < 0.5, rng=rng)
    return angles_NJ3


def _set_trunk(angles_J3: np.ndarray, name: str, depth: float, rng: np.random.Generator) -> None:
    trunk = TRUNK[name]
    chain_3 = rng.standard_normal(3)  # the spine bends as a chain: its joints share most of their noise
    for joint in _TRUNK:
        noise_3 = 0.7 * chain_3 + 0.7 * rng.standard_normal(3)
        angles_J3[BODY_JOINTS.index(joint)] = _at(trunk.moves, joint, depth) + trunk.spread * noise_3 * NOISE[joint]


def _set_limb(
    angles_J3: np.ndarray, joints: tuple[str, ...], limbs: tuple[Limb, Limb], depth: float, lead_left: bool, rng: np.random.Generator
) -> None:
    shared_K3 = rng.standard_normal((len(joints), 3))
    for side, limb, leads in (("L", limbs[0], lead_left), ("R", limbs[1], not lead_left)):
        moves = limb.lead if leads or limb.trail is None else limb.trail
        side_depth = limb.symmetry * depth + (1 - limb.symmetry) * rng.random()
        for k, joint in enumerate(joints):
            noise_3 = np.sqrt(limb.symmetry) * shared_K3[k] + np.sqrt(1 - limb.symmetry) * rng.standard_normal(3)
            angles_J3[BODY_JOINTS.index(f"{side}_{joint}")] = _at(moves, joint, side_depth) + limb.spread * noise_3 * NOISE[joint]


def _set_gait(angles_J3: np.ndarray, stride: float, swing_arms: bool, rng: np.random.Generator) -> None:
    """A moment of a walking cycle: heel strike at phase 0, arms against legs. Amplitudes in degrees for a stride of 1."""
    phase = rng.uniform(0, 2 * np.pi)
    for side, turn in (("L", 0.0), ("R", np.pi)):
        swing = np.cos(phase + turn)
        angles_J3[BODY_JOINTS.index(f"{side}_Hip"), 0] = 7 + 21 * stride * swing + 3 * rng.standard_normal()
        angles_J3[BODY_JOINTS.index(f"{side}_Knee"), 0] = 12 + 22 * stride * (1 + np.cos(phase + turn + 1.7)) + 4 * rng.standard_normal()
        angles_J3[BODY_JOINTS.index(f"{side}_Ankle"), 0] = 3 - 12 * stride * np.cos(phase + turn + 0.9) + 3 * rng.standard_normal()
        if swing_arms:
            forward, sideward = np.radians(4 - 22 * stride * swing), np.radians(rng.uniform(9, 18))
            x, z = np.sin(sideward), np.sin(forward)
            shoulder = np.degrees([np.arctan2(z, x), np.arcsin(min(1.0, np.hypot(x, z)))])
            angles_J3[BODY_JOINTS.index(f"{side}_Shoulder"), :2] = shoulder
            angles_J3[BODY_JOINTS.index(f"{side}_Elbow"), 0] = 22 - 12 * stride * swing + 6 * rng.standard_normal()


def _at(moves: Moves, joint: str, depth: float) -> np.ndarray:
    move = np.asarray(moves.get(joint, NEUTRAL[kind(joint)]), dtype=np.float64)
    return move if move.ndim == 1 else move[0] + depth * (move[1] - move[0])


def _fold(angles_NJ3: np.ndarray) -> np.ndarray:
    """Angles reflected back into the joint limits, so that they do not pile up on them."""
    low_J3, high_J3 = np.moveaxis(limits_deg(), -1, 0)
    folded = low_J3 + np.abs(angles_NJ3 - low_J3)
    folded = high_J3 - np.abs(high_J3 - folded)
    return np.clip(folded, low_J3, high_J3)
