"""SPIN's losses: squared errors averaged over the persons who have the target, and a prior that keeps the camera before the person.

They differ from Pose2Pose's in kind: a mean runs over valid persons only (of a rank, and of a micro-batch where batches are cut), so
its size does not depend on how many are valid, and joints are compared in crops that span [-1, 1]. SPIN compares 49 joints on the
crop, of which the 25 of OpenPose never have weight but stay in the mean (24 of 49 count), and 24 in space. Ours are pose2pose33;
so that every joint weighs what it weighs in SPIN, sums over joints are divided by SPIN's 49 and 24, whatever the number of ours.
COCO has one more here than in SPIN, the pelvis between its annotated hips.

Shapes: B batch, 33 joints of pose2pose33. Keys of a batch are those of `engine.loading.targets.build_targets`.
Source: Kolotouros et al., SPIN (Section 3), and the weights of its public code.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import Body
from engine.config import Config
from engine.models.weak_perspective import SpinOutput
from schemas.skeletons import POSE2POSE33

TERMS = ("joints_2d", "joints_3d", "pose", "betas", "camera", "vertices")
"""Names of the terms, in the order of the config's weights. `vertices` is computed where it has a weight, and 0 elsewhere."""

TARGET_CELLS_WH = (6, 8)
"""Cells across and down the crop in which the targets' image joints come."""

_HIPS = [POSE2POSE33.index("L_Hip"), POSE2POSE33.index("R_Hip")]


class SpinLossConfig(Config):
    """Weights of SPIN's terms. PyMAF's are 300, 300, 60, 0.06, 1 with overall 1."""

    joints_2d: float = Field(default=5.0, ge=0, description="projected joints against the dataset's, crop in [-1, 1], squared")
    joints_3d: float = Field(default=5.0, ge=0, description="joints relative to the middle of the hips against the dataset's, m^2")
    pose: float = Field(default=1.0, ge=0, description="rotation matrices against the SMPL target's, squared")
    betas: float = Field(default=0.001, ge=0, description="betas against the SMPL target's, squared")
    camera: float = Field(default=1.0, ge=0, description="exp(-10 s)^2 of the camera's scale s, which keeps s positive")
    vertices: float = Field(default=0.0, ge=0, description="vertices, not translated, against the SMPL target's, m; costs two meshes")
    overall: float = Field(default=60.0, gt=0, description="factor on all of them")
    joints_2d_count: int = Field(default=49, ge=1, description="joints a 2D mean is taken over; of SPIN's 49, 25 never have weight")
    joints_3d_count: int = Field(default=24, ge=1, description="joints a 3D mean is taken over")

    def weights(self) -> dict[str, float]:
        """Weight of each term, the overall factor included."""
        return {name: self.overall * getattr(self, name) for name in TERMS}


def spin_loss_terms(output: SpinOutput, batch: dict[str, Tensor], config: SpinLossConfig, body: Body) -> dict[str, Tensor]:
    """Every term as a scalar, without its weight; a term without a valid person is 0.

    A person has 3D joints to compare where the dataset has them and both hips are among them. Pose is valid joint by joint.
    """
    rotmats_B2433 = axis_angle_to_matrix(batch["smpl_pose"].unflatten(1, (24, 3)))
    pose_valid_B24 = batch["smpl_pose_valid"].unflatten(1, (24, 3)).amin(dim=2)
    terms = {
        "joints_2d": joints_2d(output.joint_proj_B332, batch, config.joints_2d_count),
        "joints_3d": joints_3d(output.joints_B333, batch, config.joints_3d_count),
        "pose": _subset_mean((output.rotmats_B2433 - rotmats_B2433).square().mean(dim=(2, 3)), pose_valid_B24),
        "betas": _subset_mean((output.betas_B10 - batch["smpl_shape"]).square().mean(dim=1), batch["smpl_shape_valid"]),
        "camera": torch.exp(-20 * output.camera_B3[:, 0]).mean(),
        "vertices": output.betas_B10.new_zeros(()),
    }
    if config.vertices:
        valid_B = batch["smpl_shape_valid"] * (pose_valid_B24.amin(dim=1) > 0)  # both hold the fit's weight: once is enough
        with torch.no_grad():
            target_BV3 = body(rotmats_B2433, batch["smpl_shape"]).vertices_BV3
        distance_B = (body(output.rotmats_B2433, output.betas_B10).vertices_BV3 - target_BV3).abs().mean(dim=(1, 2))
        terms["vertices"] = _subset_mean(distance_B, valid_B)
    return terms


def joints_2d(joint_proj_B332: Tensor, batch: dict[str, Tensor], count: int) -> Tensor:
    """Mean over all persons of the squared error of annotated joints, those outside the crop included, over `count` joints."""
    cells = batch["joint_img"].new_tensor(TARGET_CELLS_WH)
    target_B332 = batch["joint_img"][..., :2] / (cells / 2) - 1
    error_B33 = (joint_proj_B332 - target_B332).square().mean(dim=2)
    return (error_B33 * batch["joint_valid"]).sum(dim=1).mean() / count


def joints_3d(joints_B333: Tensor, batch: dict[str, Tensor], count: int) -> Tensor:
    """Mean over persons with 3D joints of the squared error about the middle of the hips, over `count` joints."""
    target_B333, valid_B33 = batch["joint_cam"], batch["joint_cam_valid"]
    predicted, target = (j - j[:, _HIPS].mean(dim=1, keepdim=True) for j in (joints_B333, target_B333))
    error_B = ((predicted - target).square().mean(dim=2) * valid_B33).sum(dim=1) / count
    return _subset_mean(error_B, batch["is_3d"] * valid_B33[:, _HIPS].amin(dim=1))


def _subset_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` weighted by `mask` (same shape; 0 or 1, or a fit's weight); 0 where it is 0 everywhere.

    The divisor is at least 1, as with a mask alone: one person of weight 0.1 counts a tenth, not in full.
    """
    return (values * mask).sum() / mask.sum().clamp(min=1)
