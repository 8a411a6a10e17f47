"""2D heat maps: what a joint's position looks like as a target, and where the peak of a predicted map is.

A position is in pixels of the heat map, and pixel i's centre is at i, as in Simple Baselines. The Gaussian sits on the position itself
and not on its nearest pixel as theirs does, so the map tells apart what lies between two pixels; their cut at 3 sigma is left out.

Shapes: B batch, J joints, H and W rows and columns of the heat map.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_heatmaps(xy_BJ2: Tensor, hw: tuple[int, int], sigma: float) -> Tensor:
    """Heat maps (B, J, H, W), float32, of value 1 at the joint: exp(-distance^2 / (2 sigma^2)). Everything in heat-map pixels.

    The outer product of two one-dimensional Gaussians: H + W exponentials a joint, where the plain formula needs H x W.
    """
    rows, columns = (torch.arange(n, device=xy_BJ2.device, dtype=torch.float32) for n in hw)
    scale = -0.5 / sigma**2
    xy_BJ2 = xy_BJ2.float()
    across_BJW = (scale * (columns - xy_BJ2[..., 0:1]).square()).exp()
    down_BJH = (scale * (rows - xy_BJ2[..., 1:2]).square()).exp()
    return down_BJH[..., :, None] * across_BJW[..., None, :]


def decode_heatmaps(heatmaps_BJHW: Tensor) -> tuple[Tensor, Tensor]:
    """Peaks (B, J, 2), x and y in heat-map pixels, and their values (B, J).

    The highest pixel, moved a quarter of a pixel along each axis towards the higher of its two neighbours; not at a border, where
    one neighbour is missing (Simple Baselines, Section 2).
    """
    H, W = heatmaps_BJHW.shape[2:]
    value_BJ, flat_BJ = heatmaps_BJHW.flatten(2).max(dim=2)
    x_BJ, y_BJ = flat_BJ % W, flat_BJ // W

    def at(x: Tensor, y: Tensor) -> Tensor:
        cell = y.clamp(0, H - 1) * W + x.clamp(0, W - 1)
        return heatmaps_BJHW.flatten(2).gather(2, cell[..., None])[..., 0]

    dx_BJ = (at(x_BJ + 1, y_BJ) - at(x_BJ - 1, y_BJ)).sign() * ((x_BJ > 0) & (x_BJ < W - 1))
    dy_BJ = (at(x_BJ, y_BJ + 1) - at(x_BJ, y_BJ - 1)).sign() * ((y_BJ > 0) & (y_BJ < H - 1))
    return torch.stack((x_BJ + 0.25 * dx_BJ, y_BJ + 0.25 * dy_BJ), dim=2).float(), value_BJ
