"""Pose2Pose: a crop of one person -> SMPL pose, shape and camera. f with the prior's latent as pose, g with 6D rotations.

Shapes: B batch, J joints, D H W cells of the heat map. Units: heat-map cells (x in [0, 6), y in [0, 8), z in [0, 8) for +-1 m
about the root), metres, radians. Frames: SMPL's joints before the camera translation are in camera orientation (x right, y down,
z forward) with the rest pose's pelvis offset kept; adding `cam_transl` puts them before the crop's virtual camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from engine.body.cameras import camera_translation, project, virtual_camera
from engine.body.pose_prior import PosePrior
from engine.body.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from engine.body.smpl import Body
from engine.models.estimator import Batch, Estimator, NetworkConfig, Parameters
from engine.models.losses import TERMS, LossConfig, loss_terms
from engine.models.position import PositionNet
from engine.models.rotation import BODY_JOINTS, RotationNet
from schemas.skeletons import POSE2POSE33

HEATMAP_HW = (8, 6)


class Pose2PoseConfig(NetworkConfig):
    """Size, head and losses of a Pose2Pose network. The crop must end in an 8x6 map: 256x192 at stride 32, or 128x96 at stride 16."""

    name: Literal["pose2pose"] = Field(default="pose2pose", description="the kind of network")
    feature_dim: int = Field(default=512, gt=0, description="channels sampled at each joint")
    head: Literal["vposer", "6d"] = Field(default="vposer", description="body pose as the prior's latent (recipe 3) or as 6D rotations")
    rotation_start: Literal["upright", "zero"] = Field(
        default="upright", description="first rotations: 'upright' is a person facing the camera, 'zero' the paper's random ones"
    )
    losses: LossConfig = Field(default_factory=LossConfig, description="weights; latent_l2 and shape_l2 are recipe 3's regularisers")

    @property
    def needs_prior(self) -> bool:
        return self.head == "vposer"

    @model_validator(mode="after")
    def _eight_by_six(self) -> Self:
        wanted = tuple(n * self.output_stride for n in HEATMAP_HW)
        if self.input_hw != wanted:
            raise ValueError(f"input_hw {self.input_hw} with output_stride {self.output_stride}: expected {wanted}, an 8x6 heat map")
        return self


@dataclass(frozen=True)
class Pose2PoseOutput:
    """What the network says of B crops. `latent_B32` is None without the prior's head."""

    joint_img_B253: Tensor
    """PositionNet's joints (pose2pose25), heat-map units."""
    rotmats_B2433: Tensor
    """SMPL rotations, root first, camera frame; both hands are the identity."""
    betas_B10: Tensor
    cam_transl_B3: Tensor
    """Metres, added to the posed vertices."""
    latent_B32: Tensor | None
    joints_B333: Tensor
    """pose2pose33 regressed from the posed mesh, metres, without `cam_transl`."""
    joint_proj_B332: Tensor
    """The same projected by the virtual camera, heat-map units."""

    @property
    def pose_B72(self) -> Tensor:
        """SMPL pose, axis-angle radians. Computed when asked for."""
        return matrix_to_axis_angle(self.rotmats_B2433).flatten(1)


class Pose2Pose(Estimator):
    """The network (Sections 1 and 2 of Pose2Pose, with f's latent head). Batch with uint8 RGB `image` (B, 3, H, W) -> Pose2PoseOutput.

    Raises ConfigError when the head needs a prior and there is none.
    """

    terms = TERMS
    config: Pose2PoseConfig

    def __init__(self, config: Pose2PoseConfig, body: Body, prior: PosePrior | None = None) -> None:
        super().__init__(config, body, prior)
        channels = self.backbone.out_channels
        self.position = PositionNet(channels)
        body_dim = prior.latent_dim if config.needs_prior else BODY_JOINTS * 6
        self.rotation = RotationNet(channels, config.feature_dim, body_dim, config.rotation_start)
        focal, princpt = virtual_camera(config.input_hw)
        self.register_buffer("_focal", torch.as_tensor(focal, dtype=torch.float32), persistent=False)
        self.register_buffer("_princpt", torch.as_tensor(princpt, dtype=torch.float32), persistent=False)
        cells = [HEATMAP_HW[1] / config.input_hw[1], HEATMAP_HW[0] / config.input_hw[0]]
        self.register_buffer("_cells_per_pixel", torch.tensor(cells), persistent=False)

    def forward(self, batch: Batch) -> Pose2PoseOutput:
        features = self.features(batch["image"])
        with torch.autocast(features.device.type, enabled=False):
            return self._heads(features)

    def loss_terms(self, output: Pose2PoseOutput, batch: Batch) -> dict[str, Tensor]:
        return loss_terms(output, batch, self.config.losses)

    def loss_weights(self) -> dict[str, float]:
        return {name: getattr(self.config.losses, name) for name in TERMS}

    def parameters_of(self, output: Pose2PoseOutput) -> Parameters:
        return Parameters(output.pose_B72, output.betas_B10, output.cam_transl_B3, output.latent_B32)

    def _heads(self, features_BCHW: Tensor) -> Pose2PoseOutput:
        joint_img = self.position(features_BCHW)
        root_B6, body_code, betas, camera_B3 = self.rotation(features_BCHW, joint_img)
        B = len(root_B6)
        if self.prior is not None:
            latent, body_rotmats = body_code, self.prior.decode(body_code)
        else:
            latent, body_rotmats = None, rotation_6d_to_matrix(body_code.view(B, BODY_JOINTS, 6))
        hands = torch.eye(3, device=root_B6.device).expand(B, 2, 3, 3)
        rotmats = torch.cat((rotation_6d_to_matrix(root_B6)[:, None], body_rotmats, hands), dim=1)
        transl = camera_translation(camera_B3, self.config.input_hw)
        joints = self.body.joints(rotmats, betas, skeleton=POSE2POSE33.name)
        pixels = project(joints + transl[:, None], self._focal, self._princpt)
        return Pose2PoseOutput(joint_img, rotmats, betas, transl, latent, joints, pixels * self._cells_per_pixel)
