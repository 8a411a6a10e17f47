"""From SMPL rotations, betas and a weak-perspective camera to joints in space and on the crop: what SPIN, PARE and PyMAF share.

A weak-perspective camera (s, tx, ty) puts a point X at s (X + t) in units in which the crop spans [-1, 1]. It becomes a translation
before the crop's virtual camera (`engine.body.cameras`), (tx, ty, 2 f / (H s)), so a prediction means the same here as in any other
network. f there is 5000 px at a height of 256 and follows the height; SPIN's own is 5000 px at 224, so for the same s our bodies
stand 12 % nearer (39 m instead of 45 m at s = 1): a point half a metre before the root moves by 0.2 % of its distance from the middle.

Shapes: B batch. Frames: camera, x right, y down, z forward, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.body.cameras import project, virtual_camera
from engine.body.rotations import matrix_to_axis_angle
from engine.body.smpl import Body
from engine.models.estimator import Parameters
from schemas.skeletons import POSE2POSE33


@dataclass(frozen=True)
class SpinOutput:
    """What a network of the SPIN family says of B crops."""

    rotmats_B2433: Tensor
    """SMPL rotations, root first, camera frame."""
    betas_B10: Tensor
    camera_B3: Tensor
    """(s, tx, ty), see above."""
    cam_transl_B3: Tensor
    """Metres, added to the posed body."""
    joints_B333: Tensor
    """pose2pose33 regressed from the posed mesh, metres, without `cam_transl`."""
    joint_proj_B332: Tensor
    """The same on the crop, which spans [-1, 1] both ways."""

    def parameters(self) -> Parameters:
        """SMPL parameters, without a latent."""
        pose = matrix_to_axis_angle(self.rotmats_B2433).flatten(1)
        return Parameters(pose, self.betas_B10, self.cam_transl_B3, None)


class WeakPerspective(nn.Module):
    """The weak-perspective camera of square crops of one size. Nothing is learnt or saved."""

    def __init__(self, crop_hw: tuple[int, int]) -> None:
        super().__init__()
        focal, princpt = virtual_camera(crop_hw)
        self.register_buffer("_focal", torch.as_tensor(focal), persistent=False)
        self.register_buffer("_princpt", torch.as_tensor(princpt), persistent=False)
        self._depth = 2 * float(focal[1]) / crop_hw[0]

    def translation(self, camera_B3: Tensor) -> Tensor:
        """(B, 3) metres before the virtual camera. A scale of 0 or less puts the body behind it, which SPIN's camera loss keeps it from."""
        return torch.cat((camera_B3[:, 1:], self._depth / (camera_B3[:, :1] + 1e-9)), dim=1)

    def forward(self, body: Body, rotmats_B2433: Tensor, betas_B10: Tensor, camera_B3: Tensor) -> SpinOutput:
        transl = self.translation(camera_B3)
        joints = body.joints(rotmats_B2433, betas_B10, skeleton=POSE2POSE33.name)
        pixels = project(joints + transl[:, None], self._focal, self._princpt)
        return SpinOutput(rotmats_B2433, betas_B10, camera_B3, transl, joints, pixels / self._princpt - 1)
