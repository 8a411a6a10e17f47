"""RotationNet: features sampled at the joints, and single linear layers from them to root rotation, body pose, shape and camera.

The joints are detached before they are used, so rotation losses reach the backbone but not PositionNet.

Shapes: B batch, C channels, J = 25 joints, H and W cells of the map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.skeletons import POSE2POSE25

BODY_JOINTS = 21
"""SMPL's 24 joints without the root and the two hands."""

UPRIGHT_6D = (1.0, 0.0, 0.0, -1.0, 0.0, 0.0)
"""Rotation by pi about x, which turns SMPL's y-up rest pose into a person upright before a y-down camera (interleaved 3x2)."""

IDENTITY_6D = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def sample_at_joints(features_BCHW: Tensor, xy_BJ2: Tensor) -> Tensor:
    """Bilinear features (B, J, C) at positions in cells: cell centres are the integers (align_corners), zero outside."""
    H, W = features_BCHW.shape[2:]
    last = torch.tensor([W - 1, H - 1], device=xy_BJ2.device, dtype=xy_BJ2.dtype)
    grid_BJ12 = (xy_BJ2 / last * 2 - 1)[:, :, None, :]
    return F.grid_sample(features_BCHW, grid_BJ12, align_corners=True)[..., 0].transpose(1, 2)


class RotationNet(nn.Module):
    """Feature map and detached joints -> root 6D (B, 6), body code (B, body_dim), betas (B, 10), raw camera (B, 3).

    With `start` "upright" the first outputs are a person upright, facing the camera, in the prior's mean pose (or the rest pose): biases
    of the 6D outputs say so and the pose weights are a tenth. With "zero" both are the paper's, and the first rotations are random,
    because thousands of inputs add up.
    """

    def __init__(self, channels: int, feature_dim: int, body_dim: int, start: Literal["upright", "zero"]) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, feature_dim, 1), nn.BatchNorm2d(feature_dim), nn.ReLU(inplace=True))
        nn.init.normal_(self.reduce[0].weight, std=0.001)
        nn.init.zeros_(self.reduce[0].bias)
        joint_dim = len(POSE2POSE25) * (feature_dim + 3)
        self.root = _linear(joint_dim, 6)
        self.body = _linear(joint_dim, body_dim)
        self.shape = _linear(channels, 10)
        self.camera = _linear(channels, 3)
        if start == "upright":
            with torch.no_grad():
                self.root.weight *= 0.1
                self.body.weight *= 0.1
                self.root.bias.copy_(torch.tensor(UPRIGHT_6D))
                if body_dim == BODY_JOINTS * 6:
                    self.body.bias.copy_(torch.tensor(IDENTITY_6D * BODY_JOINTS))

    def forward(self, features_BCHW: Tensor, joint_img_BJ3: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        joints = joint_img_BJ3.detach()
        sampled_BJC = sample_at_joints(self.reduce(features_BCHW), joints[..., :2])
        at_joints = torch.cat((sampled_BJC, joints), dim=2).flatten(1)
        pooled_BC = features_BCHW.mean(dim=(2, 3))
        return self.root(at_joints), self.body(at_joints), self.shape(pooled_BC), self.camera(pooled_BC)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
