"""A body, a random prior, a small network and a batch whose targets a person could have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from human_body_prior.train.vposer_smpl import VPoser
from torch import Tensor

from engine.body.pose_prior import PosePrior
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import Body, BodyConfig, load_body
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig

SMALL = {"backbone": "resnet18", "width": 0.125, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 16}


@pytest.fixture(scope="session")
def body() -> Body:
    return load_body(BodyConfig())


@pytest.fixture(scope="session")
def prior() -> PosePrior:
    """VPoser's architecture with random weights: real dropout, real batch statistics, no file."""
    torch.manual_seed(0)
    return PosePrior(VPoser(num_neurons=512, latentD=32, data_shape=[1, 21, 3]), "open")


@pytest.fixture
def network(body: Body, prior: PosePrior) -> Callable[..., Pose2Pose]:
    def make(**fields: object) -> Pose2Pose:
        torch.manual_seed(0)
        return Pose2Pose(Pose2PoseConfig.model_validate(SMALL | fields), body, prior)

    return make


@pytest.fixture
def make_batch(body: Body) -> Callable[..., dict[str, Tensor]]:
    """Random images with consistent targets: the SMPL joints are those of the SMPL pose; all masks 1, or 2D alone."""

    def make(size: int = 3, only_2d: bool = False, seed: int = 0) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(seed)
        pose = torch.randn(size, 72, generator=g) * 0.2
        pose[:, 0] += torch.pi - 0.5
        pose[:, -6:] = 0
        betas = torch.randn(size, 10, generator=g) * 0.5
        joints = body.joints(axis_angle_to_matrix(pose.unflatten(1, (24, 3))), betas)
        joints = joints - joints[:, :1]
        img = torch.cat((joints[..., :2] * 2.5 + torch.tensor([2.5, 4.0]), (joints[..., 2:] + 1) * 4), dim=2)
        full = torch.full((size,), 0.0 if only_2d else 1.0)
        ones = torch.ones(size, 33)
        return {
            "image": torch.randint(0, 256, (size, 3, 128, 96), generator=g, dtype=torch.uint8),
            "joint_img": img,
            "joint_trunc": ones,
            "joint_valid": ones,
            "joint_cam": joints,
            "joint_cam_valid": ones,
            "is_3d": full,
            "smpl_joint_img": img,
            "smpl_joint_trunc": ones * full[:, None],
            "smpl_joint_cam": joints,
            "smpl_joint_valid": ones * full[:, None],
            "smpl_pose": pose,
            "smpl_pose_valid": full[:, None].expand(size, 72),
            "smpl_shape": betas,
            "smpl_shape_valid": full,
        }

    return make
