"""The baseline: one answer for everybody, made from the training sets, scored by the same protocol.

Two answers are made and the better one counts. The mean pose averages joint rotations (chordal mean) and betas and is a body.
The mean skeleton averages joints after generalised Procrustes alignment; it is closer to what PA-MPJPE rewards but is no body.

Shapes: N training persons, B test persons, V vertices, J = 14 scored joints (mm, pelvis at the origin).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import roma
import torch

from engine.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from engine.body.smpl import Body
from engine.errors import EngineError
from engine.evaluation.metrics import align_similarity
from engine.evaluation.protocol_3dpw import PELVIS, SCORED, mesh, score_joints, score_meshes, scored_joints, truth_meshes, truth_samples
from engine.evaluation.results import BaselineResult, PersonErrors
from engine.shards.reader import ShardSet

_BATCH = 256


@dataclass(frozen=True)
class MeanPerson:
    """Mean pose (72 rad), mean betas (10) and mean skeleton (14, 3) mm of `persons` training persons."""

    pose_72: np.ndarray
    betas_10: np.ndarray
    skeleton_J3: np.ndarray
    persons: int


def mean_person(shard_sets: list[ShardSet], body: Body, max_persons: int = 20_000) -> MeanPerson:
    """The mean of shard sets' SMPL parameters, from evenly spaced shards when they hold more than `max_persons`.

    Raises EngineError if none of them has SMPL parameters.
    """
    pose_N72, betas_N10, genders_N = _training_parameters(shard_sets, max_persons)
    if not len(pose_N72):
        where = ", ".join(s.url for s in shard_sets) or "an empty list of shard sets"
        raise EngineError(f"mean pose: expected SMPL parameters in {where}, found none; name training sets that have them")
    rotations = axis_angle_to_matrix(torch.from_numpy(pose_N72).reshape(-1, 24, 3).double())
    pose = matrix_to_axis_angle(chordal_mean(rotations)).reshape(72).float().numpy()
    neutral = genders_N == "neutral"
    betas = betas_N10[neutral].mean(axis=0) if neutral.any() else np.zeros(10, np.float32)
    reference = scored_joints(mesh(body, pose[None], betas[None]), body)[0]
    joints = []
    for gender in np.unique(genders_N):
        mine = np.flatnonzero(genders_N == gender)
        joints += [_joints(body, pose_N72[part], betas_N10[part], str(gender)) for part in np.split(mine, range(_BATCH, len(mine), _BATCH))]
    joints = np.concatenate(joints)
    return MeanPerson(pose, betas, mean_skeleton(joints, reference), len(pose_N72))


def evaluate_mean_person(mean: MeanPerson, shards: ShardSet, body: Body) -> BaselineResult:
    """Score both answers on every person of the test set that has truth, whether or not its image can be decoded."""
    vertices = mesh(body, mean.pose_72[None], mean.betas_10[None])
    of_pose, of_skeleton = [], []
    for samples in truth_samples(shards, Counter()):
        instances = [instance for sample, _ in samples for instance in sample.instances]
        for i in range(0, len(instances), _BATCH):
            target = truth_meshes(instances[i : i + _BATCH], body)
            of_pose.append(score_meshes(np.repeat(vertices, len(target), axis=0), target, body))
            of_skeleton.append(score_joints(np.repeat(mean.skeleton_J3[None], len(target), axis=0), target, body))
    if not of_pose:
        raise EngineError(f"shard set {shards.url}: expected persons with SMPL truth, found none")
    pose, skeleton = (PersonErrors.joined(parts).summary() for parts in (of_pose, of_skeleton))
    return BaselineResult(
        mean_pose=pose,
        mean_skeleton=skeleton,
        averaged_persons=mean.persons,
        pose=tuple(float(x) for x in mean.pose_72),
        betas=tuple(float(x) for x in mean.betas_10),
    )


def chordal_mean(rotations_NJ33: torch.Tensor) -> torch.Tensor:
    """Rotations (J, 3, 3) nearest in the Frobenius norm to the means over N (the projected arithmetic mean)."""
    return roma.special_procrustes(rotations_NJ33.mean(dim=0))


def mean_skeleton(joints_NJ3: np.ndarray, reference_J3: np.ndarray, rounds: int = 20, tolerance_mm: float = 0.01) -> np.ndarray:
    """Generalised Procrustes mean (J, 3) with the sets' mean size, turned as the reference is, in the reference's place."""
    spread = float(np.linalg.norm(joints_NJ3 - joints_NJ3.mean(axis=1, keepdims=True), axis=(1, 2)).mean())
    mean = reference_J3
    for _ in range(rounds):
        aligned = align_similarity(joints_NJ3, np.broadcast_to(mean, joints_NJ3.shape)).mean(axis=0)
        middle = aligned.mean(axis=0)
        aligned = (aligned - middle) * spread / np.linalg.norm(aligned - middle) + middle
        moved = float(np.abs(aligned - mean).max())
        mean = aligned
        if moved < tolerance_mm:
            break
    turned = align_similarity(mean[None], reference_J3[None])[0]
    middle = turned.mean(axis=0)
    return (turned - middle) * spread / np.linalg.norm(turned - middle) + middle


def _training_parameters(shard_sets: list[ShardSet], max_persons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose (N, 72), betas (N, 10) and gender (N,) of training persons; betas of two genders are numbers of two bodies."""
    total = sum(s.manifest.instances for s in shard_sets)
    share = min(1.0, max_persons / max(total, 1))
    smpls = []
    for shards in shard_sets:
        entries = shards.manifest.shards
        chosen = sorted({round(i) for i in np.linspace(0, len(entries) - 1, max(1, round(share * len(entries))))}) if entries else []
        for samples in truth_samples(shards, Counter(), [entries[i] for i in chosen]):
            smpls += [instance.smpl for sample, _ in samples for instance in sample.instances]
    pose = np.array([s.pose for s in smpls], np.float32).reshape(-1, 72)
    return pose, np.array([s.betas for s in smpls], np.float32).reshape(-1, 10), np.array([s.gender for s in smpls])


def _joints(body: Body, pose_N72: np.ndarray, betas_N10: np.ndarray, gender: str) -> np.ndarray:
    with torch.inference_mode():
        found = body.joints(torch.from_numpy(pose_N72), torch.from_numpy(betas_N10), skeleton="h36m17", gender=gender)
    joints = found.numpy().astype(np.float64)
    return (joints[:, SCORED] - joints[:, PELVIS, None]) * 1000
