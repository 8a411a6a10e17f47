"""Linear blend skinning of SMPL-schema bodies, and the same for regressed joints without computing the mesh.

A joint regressed from the posed mesh is a fixed sum over its vertices of sums over the bones, and both sums commute:

    joint_j = sum_v r_jv sum_k w_vk (R_k x_v + t_k) = sum_k (R_k M_jk + W_jk t_k),  M_jk = sum_v r_jv w_vk x_v,  W_jk = sum_v r_jv w_vk

where x_v is linear in betas and in the pose feature. `SkinnedRegressor` holds M's linear map, so a training step needs no
vertices at all. B batch, V vertices, J regressed joints, K = 24 bones, P = 207 pose features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from schemas.skeletons import SMPL_PARENTS

_LEVELS: list[list[int]] = []
for _joint, _parent in enumerate(SMPL_PARENTS):
    _depth = next((d + 1 for d, level in enumerate(_LEVELS) if _parent in level), 0)
    if _depth == len(_LEVELS):
        _LEVELS.append([])
    _LEVELS[_depth].append(_joint)
_ORDER = torch.tensor([joint for level in _LEVELS for joint in level]).argsort()
_PARENT_SLOTS = [[_LEVELS[d - 1].index(SMPL_PARENTS[j]) for j in level] if d else [] for d, level in enumerate(_LEVELS)]


def pose_feature(rotmats_BK33: Tensor) -> Tensor:
    """(B, 207): the 23 non-root rotations minus the identity, what SMPL's pose correctives are linear in."""
    eye = torch.eye(3, dtype=rotmats_BK33.dtype, device=rotmats_BK33.device)
    return (rotmats_BK33[:, 1:] - eye).flatten(1)


def bone_transforms(rotmats_BK33: Tensor, joints_BK3: Tensor) -> tuple[Tensor, Tensor]:
    """(posed joints (B, K, 3), transforms (B, K, 3, 4)): x_posed = transform[:, :3] @ x_rest + transform[:, 3] for each bone.

    `joints_BK3` are the joints at rest. Goes down the tree level by level, eight products instead of 23.
    """
    parents = [max(p, 0) for p in SMPL_PARENTS]
    offsets = joints_BK3 - joints_BK3[:, parents]
    rotations, positions = [rotmats_BK33[:, _LEVELS[0]]], [joints_BK3[:, _LEVELS[0]]]
    for level, slots in zip(_LEVELS[1:], _PARENT_SLOTS[1:], strict=True):
        parent_rotations = rotations[-1][:, slots]
        positions.append(positions[-1][:, slots] + (parent_rotations @ offsets[:, level].unsqueeze(-1)).squeeze(-1))
        rotations.append(parent_rotations @ rotmats_BK33[:, level])
    order = _ORDER.to(rotmats_BK33.device)
    world_BK33, posed_BK3 = torch.cat(rotations, 1)[:, order], torch.cat(positions, 1)[:, order]
    shift = posed_BK3 - (world_BK33 @ joints_BK3.unsqueeze(-1)).squeeze(-1)
    return posed_BK3, torch.cat((world_BK33, shift.unsqueeze(-1)), dim=-1)


def skin(vertices_BV3: Tensor, weights_VK: Tensor, transforms_BK34: Tensor) -> Tensor:
    """Posed vertices (B, V, 3): each vertex moved by the weighted mean of the bones' transforms."""
    blend = torch.matmul(weights_VK, transforms_BK34.flatten(2)).unflatten(-1, (3, 4))
    return (blend[..., :3] @ vertices_BV3.unsqueeze(-1)).squeeze(-1) + blend[..., 3]


class SkinnedRegressor(nn.Module):
    """Joints regressed from the posed mesh, from pose and betas directly (see the module's docstring)."""

    def __init__(self, regressor_JV: Tensor, template_V3: Tensor, shapedirs_V3S: Tensor, posedirs_PV3: Tensor, weights_VK: Tensor) -> None:
        super().__init__()
        touched = regressor_JV.abs().sum(0) > 0
        r, w = regressor_JV[:, touched].double(), weights_VK[touched].double()

        def gather(values_VX: Tensor) -> Tensor:
            return torch.einsum("jv,vk,vx->jkx", r, w, values_VX.double())

        joints, bones = len(regressor_JV), weights_VK.shape[1]
        constant = torch.cat((gather(template_V3[touched]), (r @ w).unsqueeze(-1)), dim=-1)
        shape = gather(shapedirs_V3S[touched].flatten(1)).unflatten(-1, (3, -1)).permute(3, 1, 2, 0)
        pose = gather(posedirs_PV3[:, touched].permute(1, 2, 0).flatten(1)).unflatten(-1, (3, -1)).permute(3, 1, 2, 0)
        pad = (0, 0, 0, 1)
        self.size = (bones * 4, joints)
        self.register_buffer("constant", constant.permute(1, 2, 0).reshape(1, -1).float(), persistent=False)
        self.register_buffer("shape", nn.functional.pad(shape, pad).flatten(1).float(), persistent=False)
        has_pose = bool((posedirs_PV3 != 0).any())
        self.register_buffer("pose", nn.functional.pad(pose, pad).flatten(1).float() if has_pose else None, persistent=False)

    def forward(self, betas_BS: Tensor, feature_BP: Tensor, transforms_BK34: Tensor) -> Tensor:
        """(B, J, 3) in the frame and unit of the transforms."""
        moments = self.constant + betas_BS @ self.shape
        if self.pose is not None:
            moments = moments + feature_BP @ self.pose
        rows_B3K = transforms_BK34.permute(0, 2, 1, 3).flatten(2)
        return (rows_B3K @ moments.unflatten(-1, self.size)).transpose(1, 2)
