"""The 3DPW protocol as Pose2Pose and the paper use it.

Truth is the mesh of the person's gender, the prediction a neutral mesh. Both are regressed to H36M's 17 joints, each is moved
to its own H36M pelvis, and 14 of the joints are scored (Pelvis, Torso and Head are not). Boxes are the annotated ones.
Numbers of protocols that use neutral truth or 24 joints do not compare with these.

Shapes: B persons, V vertices, J = 14 joints. Meshes come in metres, errors leave in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from engine.body.smpl import Body
from engine.evaluation.meshes import h36m_joints_mm, truth_meshes
from engine.evaluation.metrics import mpvpe, pa_mpvpe
from engine.evaluation.person_errors import PersonErrors, joint_errors
from engine.evaluation.protocol import Kept, PredictedPeople, Protocol
from schemas.sample import Instance, Sample
from schemas.skeletons import EVAL14, H36M17

SCORED = [H36M17.index(name) for name in EVAL14]
PELVIS = H36M17.index("Pelvis")


class ThreeDpw(Protocol):
    """MPJPE, PA-MPJPE with its x, y and z, and vertex errors against SMPL of the person's gender."""

    name = "3dpw"
    truth = "SMPL parameters"
    details = (
        "14 joints that H36M's regressor makes of the meshes (all 17 but Pelvis, Torso and Head), each mesh's own H36M pelvis at the "
        "origin; truth: the mesh of the person's gender; prediction: a neutral mesh"
    )
    joints: ClassVar[tuple[str, ...]] = EVAL14

    def unfit(self, sample: Sample, instance: Instance) -> str | None:
        return without_smpl(sample, instance)

    def measure(self, people: PredictedPeople, instances: Sequence[Instance], body: Body) -> Kept:
        return measure_meshes(people.vertices_BV3, truth_meshes(instances, body), body)

    def errors(self, kept: Kept, frames: Sequence[str]) -> PersonErrors:
        return mesh_errors(kept)


def without_smpl(sample: Sample, instance: Instance) -> str | None:
    """The reason of a person without valid SMPL parameters; None for all others."""
    smpl = instance.smpl
    return None if smpl is not None and smpl.pose_valid and smpl.betas_valid else "no truth"


def measure_meshes(pred_BV3: np.ndarray, target_BV3: np.ndarray, body: Body) -> Kept:
    """Scored joints, and vertex errors, of predicted and true meshes (m); each may be anywhere and is moved to its own pelvis."""
    (pred, pred_mesh), (target, target_mesh) = (_rooted_mm(m, body) for m in (pred_BV3, target_BV3))
    return {"pred": pred, "target": target, "mpvpe": mpvpe(pred_mesh, target_mesh), "pa_mpvpe": pa_mpvpe(pred_mesh, target_mesh)}


def mesh_errors(kept: Kept) -> PersonErrors:
    """Errors of what `measure_meshes` kept."""
    return joint_errors(kept["pred"], kept["target"], EVAL14).with_columns(mpvpe=kept["mpvpe"], pa_mpvpe=kept["pa_mpvpe"])


def score_meshes(pred_BV3: np.ndarray, target_BV3: np.ndarray, body: Body) -> PersonErrors:
    """Errors (mm) of predicted meshes (m) by the protocol."""
    return mesh_errors(measure_meshes(pred_BV3, target_BV3, body))


def scored_joints(vertices_BV3: np.ndarray, body: Body) -> np.ndarray:
    """The 14 scored joints (B, 14, 3), mm, relative to the H36M pelvis."""
    joints = h36m_joints_mm(vertices_BV3, body)
    return joints[:, SCORED] - joints[:, PELVIS, None]


def _rooted_mm(vertices_BV3: np.ndarray, body: Body) -> tuple[np.ndarray, np.ndarray]:
    joints = h36m_joints_mm(vertices_BV3, body)
    pelvis = joints[:, PELVIS, None]
    return joints[:, SCORED] - pelvis, vertices_BV3 * 1000.0 - pelvis
