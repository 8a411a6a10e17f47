"""The networks by name. `model.name` of a config says which one; without it, Pose2Pose."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.models.estimator import Estimator, EstimatorConfig
from engine.models.pose2pose import Pose2Pose, Pose2PoseConfig

NETWORKS: dict[str, tuple[type[EstimatorConfig], type[Estimator]]] = {
    "pose2pose": (Pose2PoseConfig, Pose2Pose),
}
