"""The one energy all solvers lower, a person a row.

    E = sum_j c_j^2 (rho(dx_j) + rho(dy_j)) + pose |z|^2 + shape |betas|^2 + angle sum_a exp(2 s_a theta_a) + depth log(t_z / t_box)^2

rho(r) = s^2 r^2 / (s^2 + r^2) is Geman-McClure's, per coordinate (SMPLify, and SPIN's version of it); theta_a are the components of the
elbows' and knees' axis-angles that must not change sign, as in SMPLify; z is the pose prior's latent (SMPLify-X). The last term decides the
depth where one or two joints do not: t_box is where a standing person fills a processed box. Residuals are in pixels of a crop 256 high.

Shapes: B rows, J joints, Z latent numbers, S betas, A = 4 angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.annotators.fitting.config import Stage
from engine.annotators.fitting.model import FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.body.cameras import FOCAL_AT_256
from engine.body.rotations import matrix_to_axis_angle
from schemas.skeletons import SMPL24

ANGLES = (("L_Elbow", 1, 1.0), ("R_Elbow", 1, -1.0), ("L_Knee", 0, -1.0), ("R_Knee", 0, -1.0))
"""(joint, component of its axis-angle, sign of the unnatural direction)."""
ANGLE_JOINTS = [SMPL24.index(joint) for joint, _, _ in ANGLES]
BOX_MARGIN = 1.25
"""A processed box is this much larger than the person (Pose2Pose's rule)."""
NEAREST_M = 0.5
"""No joint counts as nearer to the camera than this: what lies behind it would project upside down."""
WEIGHTS = ("robust_px", "pose", "shape", "angle", "depth")


@dataclass(frozen=True)
class Weights:
    """The numbers of a stage, one row a person (B,), so that every person can be in a stage of its own."""

    robust_px: Tensor
    pose: Tensor
    shape: Tensor
    angle: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Terms:
    """What the energy is made of: residual_BJ2 (px), latent_BZ, betas_BS, angle_BA (signed, rad), log_depth_B."""

    residual_BJ2: Tensor
    latent_BZ: Tensor
    betas_BS: Tensor
    angle_BA: Tensor
    log_depth_B: Tensor


def stage_table(stages: Sequence[Stage], model: FitModel) -> Tensor:
    """(stages, 5) what `stage_weights` looks up, made once: it comes from the host."""
    return torch.tensor([[getattr(stage, name) for name in WEIGHTS] for stage in stages], dtype=model.dtype, device=model.device)


def stage_weights(table: Tensor, stage_B: Tensor) -> Weights:
    """Weights of rows that are in these stages of a table."""
    return Weights(*table[stage_B].unbind(1))


def box_depth_m(model: FitModel) -> float:
    """Depth at which the standing mean body fills a crop as boxes are made."""
    return FOCAL_AT_256 * model.height_m * BOX_MARGIN / 256


def terms(model: FitModel, parameters: Parameters, target: Target) -> Terms:
    """Terms of the energy, differentiable, from the body's joints."""
    rotmats_BK33 = model.rotations(parameters.root_B33, model.decode(parameters.latent_BZ))
    arms = model.arms(rotmats_BK33, parameters.betas_BS)
    joints_BJ3 = model.joints(model.world_rotations(rotmats_BK33), arms, parameters.betas_BS)
    return terms_of_joints(model, joints_BJ3, rotmats_BK33, parameters, target)


def terms_of_joints(model: FitModel, joints_BJ3: Tensor, rotmats_BK33: Tensor, parameters: Parameters, target: Target) -> Terms:
    """The same where joints (B, J, 3), before the translation, and rotations (B, K, 3, 3) are known, however they were computed."""
    angles = matrix_to_axis_angle(rotmats_BK33[:, ANGLE_JOINTS])
    angle_BA = torch.stack([sign * angles[:, a, axis] for a, (_, axis, sign) in enumerate(ANGLES)], 1)
    return Terms(
        project(joints_BJ3 + parameters.transl_B3[:, None], target.aspect) - target.joints_BJ2,
        parameters.latent_BZ,
        parameters.betas_BS,
        angle_BA,
        (parameters.transl_B3[:, 2].clamp(min=NEAREST_M) / box_depth_m(model)).log(),
    )


def project(points_BJ3: Tensor, aspect: float) -> Tensor:
    """Pixels (B, J, 2) about the principal point, of a crop 256 high: `engine.body.cameras.project`, kept in front of the camera."""
    x, y, z = points_BJ3.unbind(-1)
    scale = FOCAL_AT_256 / (z.clamp(min=NEAREST_M) + 1e-4)
    return torch.stack((x * scale, y * scale * aspect), -1)


def energy(found: Terms, confidence_BJ: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """(energy (B,), its 2D part (B,))."""
    square, limit = found.residual_BJ2.square(), weights.robust_px.square()[:, None, None]
    data = (confidence_BJ.square()[..., None] * (limit * square / (limit + square))).sum((1, 2))
    total = data + weights.pose * found.latent_BZ.square().sum(1) + weights.shape * found.betas_BS.square().sum(1)
    return total + weights.angle * (2 * found.angle_BA).exp().sum(1) + weights.depth * found.log_depth_B.square(), data
