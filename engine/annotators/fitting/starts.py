"""Where fits start: the prior's mean pose, upright, at a depth by the size of the torso, facing several ways; or where the caller says.

Shapes: B rows, J joints, C = 4 torso corners.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.annotators.fitting.energy import box_depth_m
from engine.annotators.fitting.model import SKELETON, FitModel, Parameters
from engine.annotators.fitting.problem import Start, Target
from engine.body.cameras import FOCAL_AT_256
from engine.body.pose_prior import PosePrior
from engine.body.rotations import axis_angle_to_matrix

TORSO = [SKELETON.index(name) for name in ("L_Shoulder", "R_Shoulder", "L_Hip", "R_Hip")]
EDGES = [SKELETON.index(name) for name in ("L_Shoulder", "R_Shoulder")], [SKELETON.index(name) for name in ("L_Hip", "R_Hip")]
DEPTHS_M = (1.0, 1000.0)
"""Fits start between these."""


def mean_start(model: FitModel, target: Target, yaw_deg_B: Tensor) -> Parameters:
    """The mean pose turned by `yaw_deg_B` about the vertical (0: facing the camera), where the joints that were seen put it."""
    rows, device, dtype = len(target), model.device, model.dtype
    upright = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0], dtype=dtype, device=device))
    yaw_B3 = torch.zeros(rows, 3, dtype=dtype, device=device)
    yaw_B3[:, 1] = torch.deg2rad(yaw_deg_B.to(device, dtype))
    root = upright @ axis_angle_to_matrix(yaw_B3)
    latent = torch.zeros(rows, model.latent_dim, dtype=dtype, device=device)
    betas = torch.zeros(rows, 10, dtype=dtype, device=device)
    rotmats = model.rotations(root, model.decode(latent))
    joints_BJ3 = model.joints(model.world_rotations(rotmats), model.arms(rotmats, betas), betas)
    return Parameters(latent, root, betas, placed(model, joints_BJ3, target))


def placed(model: FitModel, joints_BJ3: Tensor, target: Target) -> Tensor:
    """Translation (B, 3) that puts joints where they were seen: depth by similar triangles, then the middle of the seen joints.

    The triangles are the torso's sides (shoulder to hip, as in SMPLify) where one was seen, whose length hardly depends on the way the
    person faces; else the depth is the box's.
    """
    confidence, seen = target.confidence_BJ, target.joints_BJ2
    depth = torch.full((len(target),), box_depth_m(model), dtype=model.dtype, device=model.device)
    length_m, length_px = torch.zeros_like(depth), torch.zeros_like(depth)
    for a, b in zip(*EDGES, strict=True):
        both = ((confidence[:, a] > 0) & (confidence[:, b] > 0)).to(model.dtype)
        length_m += both * (joints_BJ3[:, a] - joints_BJ3[:, b]).norm(dim=-1)
        length_px += both * (seen[:, a] - seen[:, b]).norm(dim=-1)
    by_torso = (FOCAL_AT_256 * length_m / length_px.clamp(min=1e-3)).clamp(*DEPTHS_M)
    depth = torch.where(length_px > 4, by_torso, depth)
    share = confidence / confidence.sum(1, keepdim=True).clamp(min=1e-6)
    scale = torch.stack((depth, depth / target.aspect), -1) / FOCAL_AT_256
    where_m = (share[..., None] * seen).sum(1) * scale
    body = (share[..., None] * joints_BJ3[..., :2]).sum(1)
    centre = joints_BJ3[..., :2].mean(1)
    anything = confidence.sum(1, keepdim=True) > 0
    return torch.cat((torch.where(anything, where_m - body, -centre), depth[:, None]), 1)


def given_start(model: FitModel, prior: PosePrior, start: Start, target: Target) -> Parameters:
    """The caller's start. A latent that is not finite is the encoder's; with anything else so, or behind the camera, it is the mean's."""
    mean = mean_start(model, target, torch.zeros(len(target)))
    pose = start.pose_N72.to(model.device, torch.float32)
    rotmats = axis_angle_to_matrix(pose.nan_to_num(0, 0, 0).clamp(-100, 100).unflatten(1, (24, 3)))
    held = next(prior.buffers()).device
    latent = prior.encode(rotmats[:, 1:22].to(held))[0].to(model.device)
    if start.latent_N32 is not None:
        said = start.latent_N32.to(model.device, latent.dtype)
        latent = torch.where(said.isfinite().all(1, keepdim=True), said, latent)
    values = Parameters(
        latent.to(model.dtype),
        rotmats[:, 0].to(model.dtype),
        start.betas_N10.to(model.device, model.dtype),
        start.transl_N3.to(model.device, model.dtype),
    )
    sound = pose.isfinite().all(1) & (values.latent_BZ.abs().amax(1) < 100) & (values.betas_BS.abs().amax(1) < 100)
    sound &= values.transl_B3.isfinite().all(1) & (values.transl_B3.abs().amax(1) < 1e5) & (values.transl_B3[:, 2] >= DEPTHS_M[0])
    return values.where(sound, mean)
