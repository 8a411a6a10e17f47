"""The body as a fit sees it: 2D joints from latent, root rotation, shape and translation, without a mesh.

A joint regressed from the posed mesh is linear in the world rotations of the bones. With M_jk and W_jk as in `engine.body.lbs`, rest
joints r_k, and D_jk the sum of W_jm over bone k and all below it,

    joint_j = D_j0 r_0 + sum_k G_k X_jk,    X_jk = M_jk - W_jk r_k + sum_{children c of k} D_jc (r_c - r_k),

and X is linear in betas (and in the pose feature, for bodies with pose correctives). So are all derivatives one product away (jacobian.py).
Everything here is in the dtype the model was built for: float32 to fit, float64 to test.

Shapes: B rows, K = 24 bones, J joints, Z latent numbers, S = 10 betas.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear

from engine.body.lbs import pose_feature
from engine.body.pose_prior import PosePrior
from engine.body.rotations import rotation_6d_to_matrix
from engine.body.smpl import Body
from schemas.skeletons import POSE2POSE33, SMPL24, SMPL_PARENTS

SKELETON = POSE2POSE33
HANDS = ("L_Hand", "R_Hand")
LEVELS: list[list[int]] = []
"""Bones by depth below the root."""
for _bone, _parent in enumerate(SMPL_PARENTS):
    _depth = next((d + 1 for d, level in enumerate(LEVELS) if _parent in level), 0)
    if _depth == len(LEVELS):
        LEVELS.append([])
    LEVELS[_depth].append(_bone)
_PARENT_SLOTS = [[LEVELS[d - 1].index(SMPL_PARENTS[k]) for k in level] if d else [] for d, level in enumerate(LEVELS)]
_ORDER = torch.tensor([bone for level in LEVELS for bone in level]).argsort()
assert SMPL24.joints[-2:] == HANDS


@dataclass(frozen=True)
class Parameters:
    """Unknowns of B rows: latent_BZ, root_B33 (rotation matrix), betas_BS, transl_B3 (m)."""

    latent_BZ: Tensor
    root_B33: Tensor
    betas_BS: Tensor
    transl_B3: Tensor

    def __len__(self) -> int:
        return len(self.latent_BZ)

    def rows(self, index: Tensor) -> Parameters:
        """These rows, in this order."""
        return Parameters(*(getattr(self, f.name)[index] for f in fields(self)))

    def put(self, index: Tensor, rows: Parameters) -> None:
        """Overwrite rows in place."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(rows, f.name)

    def where(self, chosen_B: Tensor, other: Parameters) -> Parameters:
        """These rows where chosen, the other's elsewhere."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Parameters(*(torch.where(chosen_B.view(-1, *(1,) * (a.dim() - 1)), a, b) for a, b in pairs))


class FitModel:
    """Body and prior as plain arrays. Attributes: `dtype`, `device`, `latent_dim`, `height_m` of the mean body."""

    def __init__(self, body: Body, prior: PosePrior, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        self.dtype, self.device, self.latent_dim = dtype, torch.device(device), prior.latent_dim

        def held(tensor: Tensor) -> Tensor:
            return tensor.detach().to(self.device, dtype).contiguous()

        layers = prior.decoder_layers
        self.weights, self.biases, self.slope = [held(w) for w in layers.weights], [held(b) for b in layers.biases], layers.slope
        self.below_KK = torch.zeros(24, 24)
        for bone in range(24):
            above = bone
            while above >= 0:
                self.below_KK[above, bone] = 1
                above = SMPL_PARENTS[above]
        self.below_KK = held(self.below_KK)
        regressor = body.skinned_regressor(SKELETON.name)
        constant_K4J = regressor.constant.detach().double().cpu().view(24, 4, -1)
        mass_KJ, joints = constant_K4J[:, 3], constant_K4J.shape[-1]
        below = self.below_KK.cpu().double() @ mass_KJ
        rest = torch.cat((body.rest_joints[..., None], body.rest_joints_shape), -1).detach().double().cpu()
        moments = torch.cat((constant_K4J[None], regressor.shape.detach().double().cpu().view(-1, 24, 4, joints)))[:, :, :3]
        arms_XK3J = moments - mass_KJ[:, None] * rest.permute(2, 0, 1)[..., None]
        for bone, parent in enumerate(SMPL_PARENTS):
            if parent >= 0:
                arms_XK3J[:, parent] += below[bone] * (rest[bone] - rest[parent]).T[..., None]
        self.arms_1X, self.arms_SX = held(arms_XK3J[:1].flatten(1)), held(arms_XK3J[1:].flatten(1))
        self.arms_KSJ = held(arms_XK3J[1:].flatten(1, 2).transpose(0, 1).flatten(1))
        root_XJ3 = below[0][:, None] * rest[0].T[:, None]
        self.root_J3, self.root_SJ3 = held(root_XJ3[0]), held(root_XJ3[1:])
        self.correctives_PX = None
        if regressor.pose is not None:
            self.correctives_PX = held(regressor.pose.detach().double().cpu().view(-1, 24, 4, joints)[:, :, :3].flatten(1))
        self.eye_33 = torch.eye(3, dtype=dtype, device=self.device)
        self.pivot_3, self.pivot_S3 = held(rest[0, :, 0]), held(rest[0, :, 1:].T)
        template = body.v_template.detach()
        self.height_m = float(template[:, 1].max() - template[:, 1].min())
        self._order = _ORDER.to(self.device)
        levels = zip(LEVELS[1:], _PARENT_SLOTS[1:], strict=True)
        self._levels = [tuple(torch.tensor(index, device=self.device) for index in pair) for pair in levels]

    def decode(self, latent_BZ: Tensor) -> Tensor:
        """Rotation matrices (B, 21, 3, 3): the prior's `decode`."""
        return rotation_6d_to_matrix(self.decode_6d(latent_BZ)[0].unflatten(1, (21, 6)))

    def decode_6d(self, latent_BZ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(6D rotations (B, 126), and both hidden layers before their leaky ReLU)."""
        first = linear(latent_BZ, self.weights[0], self.biases[0])
        second = linear(leaky_relu(first, self.slope), self.weights[1], self.biases[1])
        return linear(leaky_relu(second, self.slope), self.weights[2], self.biases[2]), first, second

    def rotations(self, root_B33: Tensor, body_B2133: Tensor) -> Tensor:
        """All rotations (B, 24, 3, 3) relative to parents; the hands do not turn."""
        hands = self.eye_33.expand(len(root_B33), len(HANDS), 3, 3)
        return torch.cat((root_B33[:, None], body_B2133, hands), 1)

    def world_rotations(self, rotmats_BK33: Tensor) -> Tensor:
        """Rotations (B, K, 3, 3) of the bones in the camera frame."""
        found = [rotmats_BK33[:, :1]]
        for level, slots in self._levels:
            found.append(found[-1][:, slots] @ rotmats_BK33[:, level])
        return torch.cat(found, 1)[:, self._order]

    def arms(self, rotmats_BK33: Tensor, betas_BS: Tensor) -> Tensor:
        """X (B, K, 3, J) of the module's docstring."""
        arms = self.arms_1X + betas_BS @ self.arms_SX
        if self.correctives_PX is not None:
            arms = arms + pose_feature(rotmats_BK33) @ self.correctives_PX
        return arms.unflatten(1, (24, 3, -1))

    def pivot(self, betas_BS: Tensor) -> Tensor:
        """The root joint (B, 3), which no rotation moves, m, before the translation."""
        return self.pivot_3 + betas_BS @ self.pivot_S3

    def joints(self, world_BK33: Tensor, arms_BK3J: Tensor, betas_BS: Tensor) -> Tensor:
        """Joints (B, J, 3) of the skeleton, m, before the translation."""
        moved_B3J = (world_BK33 @ arms_BK3J).sum(1)  # one product of (3, 72) and (72, J) rounds by the row's place in memory
        return moved_B3J.transpose(1, 2) + self.root_offsets(betas_BS)

    def root_offsets(self, betas_BS: Tensor) -> Tensor:
        """(B, J, 3) D_j0 r_0 of the module's docstring: what of a joint is the root's place."""
        return self.root_J3 + (betas_BS @ self.root_SJ3.flatten(1)).unflatten(1, self.root_J3.shape)
