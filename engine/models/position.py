"""PositionNet: where the 25 joints are, as the expectation of a 3D heat map.

One 1x1 convolution and a soft-argmax; nothing else is learned (Pose2Pose; facts of the authors' code).

Shapes: B batch, C channels, J = 25 joints, D, H, W cells of the heat map in depth, rows and columns (8, 8, 6).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from schemas.skeletons import POSE2POSE25

DEPTH_CELLS = 8


def soft_argmax_3d(logits_BJDHW: Tensor) -> Tensor:
    """Expected cell (x, y, z) of each joint, (B, J, 3), with **integer** cell indices.

    So x reaches W-1 at most while targets are scaled to [0, W): a quirk of the authors' code, kept because the trained
    offset of half a cell is part of the published networks.
    """
    B, J, D, H, W = logits_BJDHW.shape
    probability = logits_BJDHW.reshape(B, J, -1).softmax(dim=2).reshape(B, J, D, H, W)

    def cells(n: int) -> Tensor:
        return torch.arange(n, device=logits_BJDHW.device, dtype=probability.dtype)

    x = probability.sum(dim=(2, 3)) @ cells(W)
    y = probability.sum(dim=(2, 4)) @ cells(H)
    z = probability.sum(dim=(3, 4)) @ cells(D)
    return torch.stack((x, y, z), dim=2)


class PositionNet(nn.Module):
    """Feature map (B, C, H, W) -> `joint_img` (B, 25, 3) in heat-map units, order x, y, z."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, len(POSE2POSE25) * DEPTH_CELLS, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        logits = self.conv(features_BCHW)
        B, _, H, W = logits.shape
        return soft_argmax_3d(logits.reshape(B, len(POSE2POSE25), DEPTH_CELLS, H, W))
