"""The skinning against smplx's own functions, and the skinned regressor against regression from the mesh."""

from __future__ import annotations

import pytest
import torch
from smplx.lbs import batch_rigid_transform, batch_rodrigues

from engine.body.lbs import SkinnedRegressor, bone_transforms, pose_feature, skin
from schemas.skeletons import SMPL_PARENTS


@pytest.fixture()
def rotmats() -> torch.Tensor:
    torch.manual_seed(0)
    return batch_rodrigues(torch.randn(4 * 24, 3)).view(4, 24, 3, 3)


def test_bone_transforms_agree_with_smplx(rotmats: torch.Tensor) -> None:
    rest = torch.randn(4, 24, 3)
    posed, transforms = bone_transforms(rotmats, rest)
    expected_posed, expected = batch_rigid_transform(rotmats, rest, torch.tensor(SMPL_PARENTS))
    torch.testing.assert_close(posed, expected_posed, atol=1e-5, rtol=0)
    torch.testing.assert_close(transforms, expected[:, :, :3], atol=1e-5, rtol=0)


def test_identity_pose_moves_nothing() -> None:
    rest = torch.randn(2, 24, 3)
    posed, transforms = bone_transforms(torch.eye(3).expand(2, 24, 3, 3), rest)
    vertices, weights = torch.randn(2, 7, 3), torch.rand(7, 24).softmax(-1)
    torch.testing.assert_close(posed, rest)
    torch.testing.assert_close(skin(vertices, weights, transforms), vertices, atol=1e-5, rtol=0)


@pytest.mark.parametrize("with_pose_correctives", [False, True])
def test_skinned_regressor_equals_regression_from_the_mesh(rotmats: torch.Tensor, with_pose_correctives: bool) -> None:
    v, j = 40, 6
    template, shapedirs = torch.randn(v, 3), 0.1 * torch.randn(v, 3, 10)
    posedirs = 0.05 * torch.randn(207, v, 3) * with_pose_correctives
    weights = torch.randn(v, 24).softmax(-1)
    regressor = torch.rand(j, v) * (torch.rand(j, v) > 0.7)
    betas = torch.randn(4, 10)
    _, transforms = bone_transforms(rotmats, torch.randn(4, 24, 3))
    vertices = template + torch.einsum("bs,vcs->bvc", betas, shapedirs) + torch.einsum("bp,pvc->bvc", pose_feature(rotmats), posedirs)
    expected = regressor @ skin(vertices, weights, transforms)
    found = SkinnedRegressor(regressor, template, shapedirs, posedirs, weights)(betas, pose_feature(rotmats), transforms)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
