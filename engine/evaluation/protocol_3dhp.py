"""MPI-INF-3DHP's test set: PCK below 150 mm, AUC and MPJPE, without any alignment but the pelvis.

Truth is `univ_annot3`, the skeleton scaled to a universal height, so a network that says a person's true size is not rewarded for it.
MPJPE is over all 17 joints (the pelvis itself included), PCK and AUC over 14 (engine/evaluation/mi17.py). All are means over
frames; only frames the dataset calls valid belong in the shard set. PA-MPJPE is over the 17 joints. PCK after rigid alignment, which some
papers quote, is another figure.

Shapes: B persons, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from engine.body.smpl import Body
from engine.evaluation.metrics import auc, pck
from engine.evaluation.mi17 import COUNTED, mi_joints_mm, rooted, sequence_of
from engine.evaluation.person_errors import PersonErrors, joint_errors
from engine.evaluation.protocol import Kept, PredictedPeople, Protocol, joints_of, lacks
from schemas.sample import Instance, Sample
from schemas.skeletons import MI17


def mi_errors(pred_B173: np.ndarray, target_B173: np.ndarray) -> PersonErrors:
    """The protocol's errors of joints of `mi17` (mm), pelvis at the origin. ValueError for other shapes and for what is not finite."""
    errors = joint_errors(pred_B173, target_B173, MI17.joints)
    counted = np.array([name in COUNTED for name in MI17.joints])
    apart = errors.joints["mpjpe"]
    return errors.with_pck(np.where(counted, pck(apart), np.nan), np.where(counted, auc(apart), np.nan))


class MpiInf3dhp(Protocol):
    """3DPCK and AUC over 14 joints, MPJPE over 17."""

    name = "3dhp"
    truth = "17 joints of the universal skeleton (joints_univ)"
    details = (
        "joints of the H36M regressor by name against univ_annot3, pelvis at the origin; MPJPE and PA-MPJPE over 17 joints, 3DPCK "
        "(below 150 mm, strictly) and AUC (0 to 150 mm in steps of 5) over 14, without alignment"
    )
    joints: ClassVar[tuple[str, ...]] = MI17.joints

    def unfit(self, sample: Sample, instance: Instance) -> str | None:
        return "no truth" if lacks(instance, "joints_univ", MI17.joints) else None

    def measure(self, people: PredictedPeople, instances: Sequence[Instance], body: Body) -> Kept:
        target = joints_of(instances, "joints_univ", MI17.joints)
        return {"pred": rooted(mi_joints_mm(people.vertices_BV3, body)), "target": rooted(target)}

    def errors(self, kept: Kept, frames: Sequence[str]) -> PersonErrors:
        return mi_errors(kept["pred"], kept["target"])

    def sequence(self, sample: Sample) -> str:
        return sequence_of(sample)
