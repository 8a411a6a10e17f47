"""Simple Baselines: the 2D-pose network whose ResNet recipe 2 starts from (Xiao et al., ECCV 2018).

ResNet, a few deconvolutions, one 1x1 convolution to a heat map a joint; trained on 2D joints alone. The heads' parameters carry the
names of the published files (`deconv_layers.N`, `final_layer`).

The published networks saw BGR, as cv2 reads it, normalised with ImageNet's mean and deviation for RGB. Here every network sees RGB/255,
because f and g do: a backbone trained here needs no change of statistics, and with a published file f's training absorbs the difference
(as it does in Pose2Pose's own code).

Shapes: B batch, J joints of the skeleton the heat maps are of, H and W of the heat map, 33 joints of POSE2POSE33.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.config import Config
from engine.models.estimator import Batch, Network, NetworkConfig
from engine.models.heatmaps import decode_heatmaps, gaussian_heatmaps
from schemas.skeletons import POSE2POSE33, SKELETONS, shared_joints

CELLS_XY = (6, 8)
"""Columns and rows of the grid whose cells a batch's `joint_img` counts in."""
_DECONV_PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}
"""Padding and output padding with which a deconvolution of that kernel doubles the resolution exactly."""


class HeatmapLossConfig(Config):
    """Weight of the one term."""

    heatmap: float = Field(default=1.0, ge=0, description="half the mean squared error of the heat maps of visible joints")


class SimpleBaselinesConfig(NetworkConfig):
    """The published network is the default: ResNet-50, 256x192, three deconvolutions of 256 channels, a map of stride 4."""

    name: Literal["simple_baselines"] = "simple_baselines"
    joints: Literal["coco17", "pose2pose33"] = Field(default="coco17", description="skeleton whose joints have a heat map each")
    deconv_layers: int = Field(default=3, ge=1, le=4, description="deconvolutions; each doubles the resolution")
    deconv_channels: int = Field(default=256, ge=8, description="channels of each deconvolution")
    deconv_kernel: Literal[2, 3, 4] = Field(default=4, description="kernel of each deconvolution, pixels")
    sigma: float = Field(default=2.0, gt=0, description="deviation of the targets' Gaussian, heat-map pixels")
    losses: HeatmapLossConfig = HeatmapLossConfig()


class SimpleBaselines(Network):
    """uint8 RGB crops -> heat maps (B, J, H, W), float32. H and W are the crop's by output_stride / 2^deconv_layers.

    Under autocast the deconvolutions run in low precision with the backbone; the loss is float32. `pck` is told beside the
    loss and weighs nothing.
    """

    terms = ("heatmap", "pck")
    config: SimpleBaselinesConfig

    def __init__(self, config: SimpleBaselinesConfig, body: Body, prior: PosePrior | None = None) -> None:
        super().__init__(config, body, prior)
        padding, output_padding = _DECONV_PADDING[config.deconv_kernel]
        layers: list[nn.Module] = []
        for before, after in pairwise([self.backbone.out_channels] + [config.deconv_channels] * config.deconv_layers):
            deconv = nn.ConvTranspose2d(before, after, config.deconv_kernel, 2, padding, output_padding, bias=False)
            layers += [deconv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(config.deconv_channels, len(SKELETONS[config.joints]), 1)
        for module in [*layers, self.final_layer]:
            if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)
        source, _ = shared_joints(POSE2POSE33.name, config.joints)
        self.register_buffer("_from_33", torch.tensor(source), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Heat maps of `batch["image"]`."""
        return self.final_layer(self.deconv_layers(self.features(batch["image"]))).float()

    def loss_terms(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Half the squared error, weighted by visibility; a plain mean over crops, joints and pixels, hidden joints in the denominator."""
        xy_BJ2, visible_BJ = self.targets(batch, output.shape[2:])
        with torch.autocast(output.device.type, enabled=False):
            truth_BJHW = gaussian_heatmaps(xy_BJ2, output.shape[2:], self.config.sigma)
            error_BJ = (output.float() - truth_BJHW).square().mean(dim=(2, 3))
            with torch.no_grad():
                correct_J, seen_J = self.pck(output, batch)
        return {"heatmap": 0.5 * (error_BJ * visible_BJ).mean(), "pck": correct_J.sum() / seen_J.sum().clamp(min=1)}

    def loss_weights(self) -> dict[str, float]:
        return {"heatmap": self.config.losses.heatmap, "pck": 0.0}

    def targets(self, batch: Batch, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Positions (B, J, 2) in pixels of a heat map of `hw`, and which joints have one and lie in the crop (B, J)."""
        pixels_per_cell = batch["joint_img"].new_tensor([hw[1] / CELLS_XY[0], hw[0] / CELLS_XY[1]])
        return batch["joint_img"][:, self._from_33, :2] * pixels_per_cell, batch["joint_trunc"][:, self._from_33]

    def pck(self, heatmaps_BJHW: Tensor, batch: Batch, threshold: float = 0.05) -> tuple[Tensor, Tensor]:
        """Percentage of correct keypoints, as counts to add up over batches: correct (J,) and visible (J,).

        Correct is a peak nearer to the truth than `threshold` of the crop's height. The crop is a person's box, somewhat enlarged,
        so 0.05 is about half a head, the customary PCKh at 0.5 for somebody who stands.
        """
        H = heatmaps_BJHW.shape[2]
        xy_BJ2, visible_BJ = self.targets(batch, heatmaps_BJHW.shape[2:])
        near_BJ = (decode_heatmaps(heatmaps_BJHW)[0] - xy_BJ2).norm(dim=2) < threshold * H
        return (near_BJ * visible_BJ).sum(dim=0), visible_BJ.sum(dim=0)
