"""The first stage: where the camera is, the body a rigid thing. Levenberg-Marquardt over the root's rotation and the translation.

All rows take the same number of steps, so a row's numbers do not depend on the others'. As in SMPLify the torso decides; the other joints,
whose places the mean pose does not know, help a little: they tell front from back.

Shapes: B rows, J joints, R = 2 J + 4 residuals, 6 unknowns: turn of the root (rad), translation (m).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.annotators.fitting.energy import NEAREST_M, box_depth_m, project
from engine.annotators.fitting.model import FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.annotators.fitting.starts import DEPTHS_M, TORSO
from engine.body.cameras import FOCAL_AT_256
from engine.body.rotations import axis_angle_to_matrix

ROBUST_PX = 100.0
OTHERS = 0.3
"""Confidence of joints that are not of the torso, where one of the torso was seen."""
DEPTH_PX = 4.0
"""Residual of a depth e times the box's."""
LEAN_PX = 10.0
"""Residual of a spine that leans a radian away from the start's: else a bent limb is explained by a body that lies."""
MAX_TURN = 0.7


@dataclass(frozen=True)
class _Rigid:
    """body_BJ3: joints in the root's frame about `pivot_B13`; confidence_BJ as this stage weighs them; up_B3: the start's spine."""

    body_BJ3: Tensor
    pivot_B13: Tensor
    target: Target
    confidence_BJ: Tensor
    up_B3: Tensor
    box_depth: float

    def residuals(self, root_B33: Tensor, transl_B3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(residuals as least squares sees them (B, R), the factor of each on its derivative (B, R), cost (B,))."""
        points = self.body_BJ3 @ root_B33.transpose(1, 2) + self.pivot_B13 + transl_B3[:, None]
        pixels = project(points, self.target.aspect) - self.target.joints_BJ2
        limit = ROBUST_PX**2 / (ROBUST_PX**2 + pixels.square())
        confidence = self.confidence_BJ[..., None]
        depth = DEPTH_PX * (transl_B3[:, 2:].clamp(min=NEAREST_M) / self.box_depth).log()
        lean = LEAN_PX * (root_B33[:, :, 1] - self.up_B3)
        factor = (confidence * limit).flatten(1)
        cost = (confidence.square() * limit * pixels.square()).sum((1, 2)) + depth.square().sum(1) + lean.square().sum(1)
        return torch.cat((factor * pixels.flatten(1), depth, lean), 1), factor, cost

    def jacobian(self, root_B33: Tensor, transl_B3: Tensor, factor: Tensor) -> Tensor:
        """(B, R, 6) derivatives of the residuals, their robust weights held."""
        arm = self.body_BJ3 @ root_B33.transpose(1, 2)
        rays = projection_rows(arm + self.pivot_B13 + transl_B3[:, None], self.target.aspect)
        turn = torch.linalg.cross(arm[:, :, None].expand_as(rays), rays, dim=-1) @ root_B33[:, None]
        data = torch.cat((turn, rays), -1).flatten(1, 2) * factor[..., None]
        rest = torch.zeros(len(arm), 4, 6, dtype=arm.dtype, device=arm.device)
        rest[:, 0, 5] = DEPTH_PX / transl_B3[:, 2].clamp(min=NEAREST_M)
        rest[:, 1:, 0], rest[:, 1:, 2] = LEAN_PX * root_B33[:, :, 2], -LEAN_PX * root_B33[:, :, 0]
        return torch.cat((data, rest), 1)


def projection_rows(points_BJ3: Tensor, aspect: float) -> Tensor:
    """(B, J, 2, 3) derivatives of `project` by the point."""
    x, y, z = points_BJ3.unbind(-1)
    depth = z.clamp(min=NEAREST_M) + 1e-4
    scale, zero = FOCAL_AT_256 / depth, torch.zeros_like(z)
    in_front = (z > NEAREST_M).to(z.dtype)
    to_x = torch.stack((scale, zero, -scale * x / depth * in_front), -1)
    to_y = torch.stack((zero, aspect * scale, -aspect * scale * y / depth * in_front), -1)
    return torch.stack((to_x, to_y), 2)


def place_camera(model: FitModel, start: Parameters, target: Target, iterations: int) -> Parameters:
    """The start with the root's rotation and the translation that fit the joints best as they are."""
    rotmats = model.rotations(start.root_B33, model.decode(start.latent_BZ))
    joints = model.joints(model.world_rotations(rotmats), model.arms(rotmats, start.betas_BS), start.betas_BS)
    pivot = model.pivot(start.betas_BS)[:, None]
    weight = torch.full_like(target.confidence_BJ, OTHERS)
    weight[:, TORSO] = 1
    torso_seen = (target.confidence_BJ[:, TORSO] > 0).any(1, keepdim=True)
    confidence = target.confidence_BJ * torch.where(torso_seen, weight, 1.0)
    body = (joints - pivot) @ start.root_B33
    problem = _Rigid(body, pivot, target, confidence, start.root_B33[:, :, 1], box_depth_m(model))
    root, transl = start.root_B33, start.transl_B3
    damping = torch.full_like(transl[:, 0], 1e-2)
    residual, factor, cost = problem.residuals(root, transl)
    for _ in range(iterations):
        jacobian = problem.jacobian(root, transl, factor)
        gradient = (jacobian.transpose(1, 2) @ residual[..., None])[..., 0]
        step = solved(jacobian.transpose(1, 2) @ jacobian, gradient, damping)
        turn, move = step[:, :3], step[:, 3:]
        tried_root = root @ axis_angle_to_matrix(turn * (MAX_TURN / turn.norm(dim=1, keepdim=True).clamp(min=MAX_TURN)))
        tried_transl = moved_transl(transl, move)
        tried = problem.residuals(tried_root, tried_transl)
        better = tried[2] < cost
        root = torch.where(better[:, None, None], tried_root, root)
        transl = torch.where(better[:, None], tried_transl, transl)
        residual, factor = (torch.where(better[:, None], new, old) for new, old in zip(tried[:2], (residual, factor), strict=True))
        cost = torch.where(better, tried[2], cost)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-7, 1e9)
    return replace(start, root_B33=root, transl_B3=transl)


def solved(hessian_BUU: Tensor, gradient_BU: Tensor, damping_B: Tensor) -> Tensor:
    """Levenberg-Marquardt's step (B, U), Marquardt's scaling; 0 for a row whose system cannot be solved."""
    diagonal = hessian_BUU.diagonal(dim1=1, dim2=2)
    damped = hessian_BUU + torch.diag_embed(damping_B[:, None] * diagonal + 1e-7 * diagonal.amax(1, keepdim=True) + 1e-12)
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = -torch.cholesky_solve(gradient_BU[..., None], factor)[..., 0]
    return torch.where(((failed == 0) & step.isfinite().all(1))[:, None], step, 0.0)


def moved_transl(transl_B3: Tensor, move_B3: Tensor) -> Tensor:
    """The translation moved, its depth at most halved or doubled and within what fits start from."""
    tried = transl_B3 + move_B3
    depth = transl_B3[:, 2]
    return torch.cat((tried[:, :2], torch.clamp(tried[:, 2], 0.5 * depth, 2 * depth).clamp(*DEPTHS_M)[:, None]), 1)
