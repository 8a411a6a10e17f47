"""First derivatives of a fit's residuals in closed form, through the body's joints and the pose prior's decoder.

Rotations are turned on their right, R <- R exp([d]): a turn d of bone k moves joint j by G_k d x sum_{m at or below k} G_m X_jm, with
model.py's G and X. The decoder is three linear layers with leaky ReLUs between; its Jacobian is their product with the ReLUs' slopes in
between, and Gram-Schmidt's turn per change of the 6D numbers is written out. Bodies with pose correctives are exact too: X moves with
the pose.

Shapes: B rows, K = 24 bones, J joints, I = 2 J pixels, Z latent numbers, S betas, A = 4 angles, U = Z + 3 + S + 3 unknowns in the order
latent, turn of the root, betas, translation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.annotators.fitting.camera import projection_rows
from engine.annotators.fitting.energy import ANGLE_JOINTS, ANGLES, Terms, Weights, terms_of_joints
from engine.annotators.fitting.model import HANDS, FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.body.rotations import matrix_to_axis_angle, rotation_6d_to_matrix

BODY = slice(1, 24 - len(HANDS))
"""Bones whose rotations the prior decodes."""


@dataclass(frozen=True)
class Linearised:
    """Terms at a point and their derivatives by the unknowns: pixels_BIU (unweighted), angle_BAU."""

    terms: Terms
    pixels_BIU: Tensor
    angle_BAU: Tensor


def linearise(model: FitModel, parameters: Parameters, target: Target, decoder_BNZ: Tensor, fresh: slice = slice(None)) -> Linearised:
    """Terms and their derivatives.

    decoder_BNZ (B, 126, Z) is the decoder's Jacobian: that of the rows `fresh` is computed and written into it, the others' is taken
    from it.
    """
    numbers_6d, first, second = model.decode_6d(parameters.latent_BZ)
    decoder_BNZ[fresh] = decoder_jacobian(model, first[fresh], second[fresh])
    body_BK33 = rotation_6d_to_matrix(numbers_6d.unflatten(1, (21, 6)))
    turns_BK3Z = turn_by_6d(numbers_6d.unflatten(1, (21, 3, 2)), body_BK33) @ decoder_BNZ.unflatten(1, (21, 6))
    rotmats = model.rotations(parameters.root_B33, body_BK33)
    world = model.world_rotations(rotmats)
    arms = model.arms(rotmats, parameters.betas_BS)
    moved_BK3J = (model.below_KK @ (world @ arms).flatten(2)).unflatten(2, (3, -1))
    joints_BJ3 = moved_BK3J[:, 0].transpose(1, 2) + model.root_offsets(parameters.betas_BS)
    rays_BJ23 = projection_rows(joints_BJ3 + parameters.transl_B3[:, None], target.aspect)

    pixels_BKI3 = _pixels_by_turns(moved_BK3J, rays_BJ23, world)
    if model.correctives_PX is not None:
        pixels_BKI3 = pixels_BKI3 + _by_correctives(model, rotmats, world, rays_BJ23)
    by_latent = pixels_BKI3[:, BODY].transpose(1, 2).flatten(2) @ turns_BK3Z.flatten(1, 2)
    shape_BJ3S = (world.transpose(1, 2).flatten(2) @ model.arms_KSJ).unflatten(2, (10, -1)).permute(0, 3, 1, 2)
    by_betas = (rays_BJ23 @ (shape_BJ3S + model.root_SJ3.permute(1, 2, 0))).flatten(1, 2)
    pixels = torch.cat((by_latent, pixels_BKI3[:, 0], by_betas, rays_BJ23.flatten(1, 2)), 2)

    angle = torch.zeros(len(first), len(ANGLES), pixels.shape[2], dtype=model.dtype, device=model.device)
    by_turn = _angles_by_turns(rotmats[:, ANGLE_JOINTS])
    angle[:, :, : model.latent_dim] = (by_turn[:, :, None] @ turns_BK3Z[:, [joint - 1 for joint in ANGLE_JOINTS]])[:, :, 0]
    return Linearised(terms_of_joints(model, joints_BJ3, rotmats, parameters, target), pixels, angle)


def normal_equations(found: Linearised, parameters: Parameters, confidence_BJ: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Gauss-Newton's matrix (B, U, U) and the energy's half gradient (B, U), robust weights held (IRLS)."""
    square, limit = found.terms.residual_BJ2.square(), weights.robust_px.square()[:, None, None]
    factor = (confidence_BJ[..., None] * (limit / (limit + square))).flatten(1)
    bend = weights.angle.sqrt()[:, None] * found.terms.angle_BA.exp()
    jacobian = torch.cat((found.pixels_BIU * factor[..., None], found.angle_BAU * bend[..., None]), 1)
    residual = torch.cat((found.terms.residual_BJ2.flatten(1) * factor, bend), 1)
    hessian = jacobian.transpose(1, 2) @ jacobian
    gradient = (jacobian.transpose(1, 2) @ residual[..., None])[..., 0]
    latent, betas, depth = parameters.latent_BZ, parameters.betas_BS, parameters.transl_B3[:, 2:]
    z, s = latent.shape[1], betas.shape[1]
    nothing = torch.zeros_like(parameters.transl_B3)
    pose_B1, shape_B1, depth_B1 = weights.pose[:, None], weights.shape[:, None], weights.depth[:, None]
    diagonal = torch.cat((pose_B1.expand(-1, z), nothing, shape_B1.expand(-1, s), nothing[:, :2], depth_B1 / depth.square()), 1)
    pull = depth_B1 * found.terms.log_depth_B[:, None] / depth
    return hessian + torch.diag_embed(diagonal), gradient + torch.cat(
        (pose_B1 * latent, nothing, shape_B1 * betas, nothing[:, :2], pull), 1
    )


def decoder_jacobian(model: FitModel, first_BH: Tensor, second_BH: Tensor) -> Tensor:
    """(B, 126, Z) derivatives of the 6D numbers, given the hidden layers before their ReLUs. The costliest part of a step."""
    rows = len(first_BH)
    slopes = [(hidden > 0).to(model.dtype) * (1 - model.slope) + model.slope for hidden in (first_BH, second_BH)]
    hidden_HX = (slopes[0].T[:, :, None] * model.weights[0][:, None]).flatten(1)  # one product for all rows: B x Z columns
    hidden_HX = (model.weights[1] @ hidden_HX).view(-1, rows, model.latent_dim) * slopes[1].T[:, :, None]
    return (model.weights[2] @ hidden_HX.flatten(1)).view(-1, rows, model.latent_dim).transpose(0, 1)


def turn_by_6d(numbers_BK32: Tensor, rotmats_BK33: Tensor) -> Tensor:
    """(B, K, 3, 6) right turn of Gram-Schmidt's rotation per change of its six numbers, which are rows of (first, second) column."""
    a, b = numbers_BK32.unbind(-1)
    x, y, z = rotmats_BK33.unbind(-1)
    along = (x * b).sum(-1, keepdim=True)
    length = a.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    height = (b - along * x).norm(dim=-1, keepdim=True).clamp(min=1e-8)
    about_x = torch.stack((-(along / (length * height)) * z, z / height), -1)
    about_y = torch.stack((-z / length, torch.zeros_like(z)), -1)
    about_z = torch.stack((y / length, torch.zeros_like(y)), -1)
    return torch.stack((about_x, about_y, about_z), -3).flatten(-2)


def _pixels_by_turns(moved_BK3J: Tensor, rays_BJ23: Tensor, world_BK33: Tensor) -> Tensor:
    """(B, K, I, 3): a ray's dot with (G d) x v is d's with G^T (v x ray)."""
    arm_BKJ13, rays_B1J23 = moved_BK3J.transpose(2, 3)[:, :, :, None], rays_BJ23[:, None]
    return torch.linalg.cross(arm_BKJ13, rays_B1J23, dim=-1).flatten(2, 3) @ world_BK33


def _by_correctives(model: FitModel, rotmats_BK33: Tensor, world_BK33: Tensor, rays_BJ23: Tensor) -> Tensor:
    """(B, K, I, 3) what a bone's turn does to the pixels through the pose correctives alone; the root has none."""
    rows, joints = len(rotmats_BK33), rays_BJ23.shape[1]
    effect = world_BK33.transpose(1, 2).flatten(2) @ model.correctives_PX.view(-1, 72, joints).transpose(0, 1).flatten(1)
    effect_BJ3P = effect.view(rows, 3, -1, joints).permute(0, 3, 1, 2)
    by_entry_BIKE = (rays_BJ23 @ effect_BJ3P).flatten(1, 2).unflatten(2, (23, 9))
    entries_BKE3 = (rotmats_BK33[:, 1:, None] @ _generators(model)).flatten(3).transpose(2, 3)
    by_turn = by_entry_BIKE.transpose(1, 2) @ entries_BKE3
    return torch.cat((torch.zeros_like(by_turn[:, :1]), by_turn), 1)


def _generators(model: FitModel) -> Tensor:
    """(3, 3, 3): the skew matrices of the unit vectors."""
    return torch.linalg.cross(model.eye_33[:, None].expand(3, 3, 3), model.eye_33[None].expand(3, 3, 3), dim=-1).transpose(1, 2)


def _angles_by_turns(rotmats_BA33: Tensor) -> Tensor:
    """(B, A, 3): row of the inverse right Jacobian of SO(3) for each angle of the energy, with its sign."""
    vectors = matrix_to_axis_angle(rotmats_BA33)
    square = vectors.square().sum(-1, keepdim=True)
    half = square.clamp(min=1e-12).sqrt() / 2
    share = torch.where(square < 1e-4, 1 / 12, (1 - half * half.cos() / half.sin()) / square.clamp(min=1e-12))
    rows = []
    for a, (_, axis, sign) in enumerate(ANGLES):
        vector = vectors[:, a]
        unit = torch.zeros_like(vector)
        unit[:, axis] = 1
        cross = torch.linalg.cross(unit, vector, dim=-1)  # row of [v] is e x v, row of [v]^2 is (e x v) x v
        rows.append(sign * (unit + cross / 2 + share[:, a] * torch.linalg.cross(cross, vector, dim=-1)))
    return torch.stack(rows, 1)
