"""The baseline: one answer for everybody, made from the training sets, scored by the same protocol's distances.

Two answers are made and the better one counts. The mean pose averages joint rotations (chordal mean) and betas and is a body.
The mean skeleton averages joints after generalised Procrustes alignment; it is closer to what PA-MPJPE rewards but is no body.
Neither knows where in the image anybody is, so the baseline has no PCK.

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
from engine.evaluation.meshes import mesh
from engine.evaluation.metrics import align_similarity
from engine.evaluation.person_errors import PersonErrors, joint_errors
from engine.evaluation.predict import scored_samples
from engine.evaluation.protocol import PredictedPeople, Protocol
from engine.evaluation.protocol_3dpw import PELVIS, SCORED, scored_joints, without_smpl
from engine.evaluation.results import BaselineResult
from engine.shards.reader import ShardSet
from schemas.sample import Instance
from schemas.skeletons import EVAL14

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


def evaluate_mean_person(mean: MeanPerson, shards: ShardSet, protocol: Protocol, body: Body) -> BaselineResult:
    """Score both answers on every person whom the protocol scores, whether or not its image can be decoded.

    The mean skeleton is scored where the protocol's joints are its own 14.
    """
    vertices = mesh(body, mean.pose_72[None], mean.betas_10[None])
    of_pose, of_skeleton = [], []
    for samples in scored_samples(shards, protocol.unfit, Counter()):
        instances = [instance for sample, _ in samples for instance in sample.instances]
        for part in (instances[i : i + _BATCH] for i in range(0, len(instances), _BATCH)):
            pose, skeleton = _score(mean, vertices, part, protocol, body)
            of_pose.append(pose)
            of_skeleton += [skeleton] if skeleton else []
    if not of_pose:
        raise EngineError(f"shard set {shards.url}: expected persons with {protocol.truth}, found none")
    return BaselineResult(
        mean_pose=PersonErrors.joined(of_pose).summary(),
        mean_skeleton=PersonErrors.joined(of_skeleton).summary() if of_skeleton else None,
        averaged_persons=mean.persons,
        pose=tuple(float(x) for x in mean.pose_72),
        betas=tuple(float(x) for x in mean.betas_10),
    )


def _score(
    mean: MeanPerson, vertices_1V3: np.ndarray, instances: list[Instance], protocol: Protocol, body: Body
) -> tuple[PersonErrors, PersonErrors | None]:
    """Errors of the mean pose and, where the joints are its own, of the mean skeleton."""
    n = len(instances)
    far, camera = np.tile(np.float32([0, 0, 10]), (n, 1)), np.ones((n, 2), np.float32)  # anywhere: no figure used here depends on it
    kept = protocol.measure(PredictedPeople(np.repeat(vertices_1V3, n, axis=0), far, camera, camera), instances, body)
    pose = joint_errors(kept["pred"], kept["target"], protocol.joints)
    pose = pose.with_columns(**{name: kept[name] for name in ("mpvpe", "pa_mpvpe") if name in kept})
    if set(protocol.joints) != set(EVAL14):
        return pose, None
    skeleton = mean.skeleton_J3[[EVAL14.index(name) for name in protocol.joints]]
    return pose, joint_errors(np.repeat(skeleton[None], n, axis=0), kept["target"], protocol.joints)


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
        for samples in scored_samples(shards, without_smpl, Counter(), [entries[i] for i in chosen]):
            smpls += [instance.smpl for sample, _ in samples for instance in sample.instances]
    pose = np.array([s.pose for s in smpls], np.float32).reshape(-1, 72)
    return pose, np.array([s.betas for s in smpls], np.float32).reshape(-1, 10), np.array([s.gender for s in smpls])


def _joints(body: Body, pose_N72: np.ndarray, betas_N10: np.ndarray, gender: str) -> np.ndarray:
    with torch.inference_mode():
        found = body.joints(torch.from_numpy(pose_N72), torch.from_numpy(betas_N10), skeleton="h36m17", gender=gender)
    joints = found.numpy().astype(np.float64)
    return (joints[:, SCORED] - joints[:, PELVIS, None]) * 1000
