"""The seven L1 terms that train f and g, and the two L2 regularisers of recipe 3.

A dataset's supervision reaches the losses as masks alone (those of a fit may hold a weight from its quality in place of 1): a term is
|prediction - target| x mask, then a plain mean over the whole tensor, so masked entries stay in the denominator, as in the authors' code
(their L2 weights rest on this). MoCap and ITW samples run the same code. A photograph with 2D truth alone is left with joint_img's x and
y, joint_proj and the regularisers: f's supervision in the wild.

Shapes: B batch, 33 and 25 joints of pose2pose33 and pose2pose25. Units: heat-map cells for image terms, metres, radians.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from engine.body.rotations import axis_angle_to_matrix
from engine.config import Config
from schemas.skeletons import POSE2POSE25, POSE2POSE33, shared_joints

if TYPE_CHECKING:
    from engine.models.estimators.pose2pose import Pose2PoseOutput

TERMS = ("joint_img", "smpl_joint_img", "smpl_pose", "smpl_shape", "joint_proj", "joint_cam", "smpl_joint_cam", "latent_l2", "shape_l2")
"""Names of the terms, in the order of LossConfig's weights."""

_FROM_33 = shared_joints(POSE2POSE33.name, POSE2POSE25.name)[0]
_PELVIS = POSE2POSE33.index("Pelvis")


class LossConfig(Config):
    """Weight of each term; all L1 terms weigh 1 in the paper. Cells are those of the 8x8x6 heat map."""

    joint_img: float = Field(default=1.0, ge=0, description="PositionNet's joints against the dataset's (z with 3D truth only), cells")
    smpl_joint_img: float = Field(default=1.0, ge=0, description="PositionNet's joints against the SMPL target's, cells")
    smpl_pose: float = Field(default=1.0, ge=0, description="SMPL pose against the target's")
    smpl_shape: float = Field(default=1.0, ge=0, description="betas against the target's")
    joint_proj: float = Field(default=1.0, ge=0, description="projected mesh joints against the dataset's 2D joints, cells")
    joint_cam: float = Field(default=1.0, ge=0, description="root-relative mesh joints against the dataset's 3D joints, m")
    smpl_joint_cam: float = Field(default=1.0, ge=0, description="root-relative mesh joints against the SMPL target's, m")
    latent_l2: float = Field(default=0.01, ge=0, description="L2 of the prior's latent (recipe 3); without prior of the body's pose, rad^2")
    shape_l2: float = Field(default=0.01, ge=0, description="L2 of the betas (recipe 3)")
    l2_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="L2 is the mean over a sample's numbers, as all the authors' losses are, or their sum, 32 (latent), 10 (betas) or "
        "63 (pose) times as strong; the mean over samples either way; the paper does not say which",
    )
    l2_on: Literal["all", "2d_only"] = Field(
        default="all",
        description="L2 of every sample, or of those with 2D truth alone, the others counting as 0; the paper: 'during the training'",
    )
    pose_target: Literal["axis_angle", "matrix"] = Field(
        default="axis_angle",
        description="what the pose term compares: axis-angle (the paper's), which jumps for people facing the camera, whose root is turned "
        "by pi, or rotation matrices, which do not",
    )


def loss_terms(output: Pose2PoseOutput, batch: dict[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    """Every term of TERMS as a scalar, without its weight. `batch` holds targets and masks as engine.loading makes them."""
    is_3d_B1 = batch["is_3d"][:, None]
    trunc_B25 = batch["joint_trunc"][:, _FROM_33]
    trunc_B253 = torch.stack((trunc_B25, trunc_B25, trunc_B25 * is_3d_B1), dim=2)
    relative_B333 = output.joints_B333 - output.joints_B333[:, _PELVIS : _PELVIS + 1]
    return {
        "joint_img": _l1(output.joint_img_B253, batch["joint_img"][:, _FROM_33], trunc_B253),
        "smpl_joint_img": _l1(output.joint_img_B253, batch["smpl_joint_img"][:, _FROM_33], batch["smpl_joint_trunc"][:, _FROM_33, None]),
        "smpl_pose": _pose_l1(output, batch, config.pose_target),
        "smpl_shape": _l1(output.betas_B10, batch["smpl_shape"], batch["smpl_shape_valid"][:, None]),
        "joint_proj": _l1(output.joint_proj_B332, batch["joint_img"][..., :2], batch["joint_trunc"][..., None]),
        "joint_cam": _l1(relative_B333, batch["joint_cam"], (batch["joint_cam_valid"] * is_3d_B1)[..., None]),
        "smpl_joint_cam": _l1(relative_B333, batch["smpl_joint_cam"], batch["smpl_joint_valid"][..., None]),
        "latent_l2": _l2(_squared_angles(output) if output.latent_B32 is None else output.latent_B32.square(), batch, config),
        "shape_l2": _l2(output.betas_B10.square(), batch, config),
    }


def _l2(squares_BK: Tensor, batch: dict[str, Tensor], config: LossConfig) -> Tensor:
    if config.l2_on == "2d_only":
        has_3d_B = torch.maximum(batch["is_3d"], (batch["smpl_pose_valid"].amax(dim=1) > 0).float())
        squares_BK = squares_BK * (1 - has_3d_B)[:, None]
    return squares_BK.mean() if config.l2_reduction == "mean" else squares_BK.sum(dim=1).mean()


def _squared_angles(output: Pose2PoseOutput) -> Tensor:
    """Squares (B, 63) of the body's axis-angle pose (hands and root left out), rad^2, as their smooth equal for small angles.

    A joint's three share its square equally, since only their sum counts.

    |R - I|^2 = 4 (1 - cos a), which is 2 a^2 for small a, has a gradient at the rest pose, where the axis-angle has none.
    """
    body_B2133 = output.rotmats_B2433[:, 1:22]
    identity = torch.eye(3, device=body_B2133.device)
    return ((body_B2133 - identity).square().sum(dim=(2, 3)) / 6).repeat_interleave(3, dim=1)


def _l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return ((prediction - target).abs() * mask).mean()


def _pose_l1(output: Pose2PoseOutput, batch: dict[str, Tensor], pose_target: str) -> Tensor:
    target_B243, valid_B243 = batch["smpl_pose"].unflatten(1, (24, 3)), batch["smpl_pose_valid"].unflatten(1, (24, 3))
    if pose_target == "matrix":
        return _l1(output.rotmats_B2433, axis_angle_to_matrix(target_B243), valid_B243.amin(dim=2)[..., None, None])
    return _l1(output.pose_B72, batch["smpl_pose"], batch["smpl_pose_valid"])
