"""Human3.6M protocol 2 in its mesh-recovery meaning (HMR, SPIN, I2L-MeshNet): S9 and S11, the frontal camera, PA-MPJPE.

Truth is the measured 3D skeleton, the prediction what H36M's regressor makes of the predicted mesh. Both have their own pelvis at the
origin, and the 14 joints of the 3DPW protocol are scored. Frames are those the shard set holds: every 64th in Pose2Pose's line of work
(what jobs/ingest.py takes), every 5th in HMR's and SPIN's. The frontal camera is number 4, Human3.6M's 60457274.

Another protocol of this name exists in 3D-pose estimation (all cameras, 17 joints, no alignment): its numbers do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from engine.body.smpl import Body
from engine.evaluation.person_errors import PersonErrors, joint_errors
from engine.evaluation.protocol import Kept, PredictedPeople, Protocol, joints_of, lacks
from engine.evaluation.protocol_3dpw import scored_joints
from schemas.sample import Instance, Sample
from schemas.skeletons import EVAL14

SUBJECTS = (9, 11)
CAMERA = 4
_FOLDER = re.compile(r"s_(\d+)_act_\d+_subact_\d+_ca_(\d+)")
"""How the dataset's image folders are named: subject, action, subaction, camera."""


class Human36mP2(Protocol):
    """MPJPE and PA-MPJPE against measured joints; the paper's field quotes PA-MPJPE."""

    name = "human36m-p2"
    truth = "3D joints of S9 or S11, camera 4"
    details = (
        "S9 and S11, camera 4 (60457274); 14 joints that H36M's regressor makes of the predicted mesh (all 17 but Pelvis, Torso and Head) "
        "against the measured ones, pelvis at the origin; PA-MPJPE is the protocol's figure"
    )
    joints: ClassVar[tuple[str, ...]] = EVAL14

    def unfit(self, sample: Sample, instance: Instance) -> str | None:
        if lacks(instance, "joints_cam", ("Pelvis", *EVAL14)):
            return "no truth"
        named = _FOLDER.search(sample.image_path)
        if named and (int(named[1]) not in SUBJECTS or int(named[2]) != CAMERA):
            return "not S9 or S11 by camera 4"
        return None

    def measure(self, people: PredictedPeople, instances: Sequence[Instance], body: Body) -> Kept:
        pelvis = joints_of(instances, "joints_cam", ("Pelvis",))
        return {"pred": scored_joints(people.vertices_BV3, body), "target": joints_of(instances, "joints_cam", EVAL14) - pelvis}

    def errors(self, kept: Kept, frames: Sequence[str]) -> PersonErrors:
        return joint_errors(kept["pred"], kept["target"], EVAL14)
