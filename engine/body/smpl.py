"""The body model: SMPL from the user's licensed files, or the open body, behind one class.

`Body` gives smplx's result for any body in SMPL's schema (rest shape from betas, joints from the rest shape, pose correctives,
linear blend skinning), and adds what training needs: joints of a named skeleton regressed from the posed mesh at a small part
of the cost of the mesh. Its arrays are non-persistent buffers: no checkpoint ever holds licensed data.
Metres; y up at rest, T-pose facing +z, the body's left is +x. B batch, V vertices, F faces, J joints of a skeleton.
"""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.body.body_files import BodyArrays, arrays_digest, open_arrays, read_body_file
from engine.body.config import BodyConfig
from engine.body.lbs import SkinnedRegressor, bone_transforms, pose_feature, skin
from engine.body.regressors import smpl_regressors
from engine.body.rotations import axis_angle_to_matrix
from engine.errors import ConfigError, LicensedFileMissing
from schemas.skeletons import SMPL_PARENTS

GENDERS = ("neutral", "male", "female")


class BodyOutput(NamedTuple):
    """A posed body, in metres."""

    vertices_BV3: Tensor
    joints_B243: Tensor


class Body(nn.Module):
    """A body in SMPL's schema. Build it with `load_body`.

    Attributes: `name` ('open' or 'smpl'), `digest` (sha256 of its arrays and of its training joints), `num_vertices`,
    `faces` (F, 3) int64 numpy, counter-clockwise seen from outside, `parents` (24,), `skeletons` it can regress.
    """

    def __init__(self, config: BodyConfig, gender: str, arrays: BodyArrays) -> None:
        super().__init__()
        self.config = config
        self.name = config.kind
        self.gender = gender
        self.digest = arrays_digest(arrays)
        self.faces = arrays.f
        self.parents = SMPL_PARENTS
        self.num_vertices = len(arrays.v_template)
        self.skeletons = tuple(sorted(arrays.regressors))
        self._genders: dict[str, Body] = {}

        template, shapedirs, weights = (torch.from_numpy(a) for a in (arrays.v_template, arrays.shapedirs, arrays.weights))
        posedirs = torch.from_numpy(arrays.posedirs).permute(2, 0, 1).contiguous()
        j_regressor = torch.from_numpy(arrays.J_regressor).double()
        buffers = {
            "v_template": template,
            "shapedirs": shapedirs,
            "weights": weights,
            "posedirs": posedirs.flatten(1),
            "rest_joints": (j_regressor @ template.double()).float(),
            "rest_joints_shape": torch.einsum("jv,vcs->jcs", j_regressor, shapedirs.double()).float(),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)
        self.has_pose_correctives = bool((posedirs != 0).any())
        self._skinned = nn.ModuleDict()
        for skeleton, matrix in arrays.regressors.items():
            touched = np.flatnonzero(np.abs(matrix).sum(0))
            self.register_buffer(f"_vertices_{skeleton}", torch.from_numpy(touched), persistent=False)
            self.register_buffer(f"_matrix_{skeleton}", torch.from_numpy(np.ascontiguousarray(matrix[:, touched])), persistent=False)
            self._skinned[skeleton] = SkinnedRegressor(torch.from_numpy(matrix), template, shapedirs, posedirs, weights)

    def forward(self, pose: Tensor, betas: Tensor, transl: Tensor | None = None, gender: str = "neutral") -> BodyOutput:
        """Posed vertices (B, V, 3) and kinematic joints (B, 24, 3).

        `pose` is axis-angle (B, 72) in radians or rotation matrices (B, 24, 3, 3), `betas` (B, 10), `transl` (B, 3) is added last.
        The open body is neutral whatever `gender` says.
        """
        body = self.of_gender(gender)
        with _full_precision(pose):
            rotmats, betas = _rotmats(pose), betas.float()
            posed_BK3, transforms = body._transforms(rotmats, betas)
            vertices = body.v_template + torch.einsum("bs,vcs->bvc", betas, body.shapedirs)
            if body.has_pose_correctives:
                vertices = vertices + (pose_feature(rotmats) @ body.posedirs).unflatten(-1, (-1, 3))
            vertices = skin(vertices, body.weights, transforms)
            if transl is not None:
                vertices, posed_BK3 = vertices + transl[:, None], posed_BK3 + transl[:, None]
        return BodyOutput(vertices, posed_BK3)

    def joints(self, pose: Tensor, betas: Tensor, skeleton: str = "pose2pose33", gender: str = "neutral") -> Tensor:
        """Joints (B, J, 3) of a skeleton, regressed from the posed mesh: `regress(forward(...).vertices_BV3)` without the mesh."""
        body = self.of_gender(gender)
        body._known(skeleton)
        with _full_precision(pose):
            rotmats, betas = _rotmats(pose), betas.float()
            _, transforms = body._transforms(rotmats, betas)
            return body._skinned[skeleton](betas, pose_feature(rotmats), transforms)

    def skinned_regressor(self, skeleton: str = "pose2pose33") -> SkinnedRegressor:
        """The linear map behind `joints`, for whoever needs derivatives of it."""
        self._known(skeleton)
        return self._skinned[skeleton]

    def regress(self, vertices_BV3: Tensor, skeleton: str) -> Tensor:
        """Joints (B, J, 3) of a skeleton from vertices (B, V, 3) of this body, posed or not."""
        self._known(skeleton)
        touched, matrix = getattr(self, f"_vertices_{skeleton}"), getattr(self, f"_matrix_{skeleton}")
        with _full_precision(vertices_BV3):
            return matrix @ vertices_BV3[:, touched].float()

    def of_gender(self, gender: str) -> Body:
        """The body of a gender: itself for the open body, SMPL's file of that gender (read on first use) otherwise."""
        if gender not in GENDERS:
            raise ConfigError(f"gender {gender!r}: expected one of {', '.join(GENDERS)}")
        if self.name == "open" or gender == self.gender:
            return self
        if gender not in self._genders:
            self._genders[gender] = Body(self.config, gender, _smpl_arrays(self.config, gender))
        return self._genders[gender].to(self.v_template.device)

    def _transforms(self, rotmats_B2433: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        rest = self.rest_joints + torch.einsum("bs,jcs->bjc", betas, self.rest_joints_shape)
        return bone_transforms(rotmats_B2433, rest)

    def _known(self, skeleton: str) -> None:
        if skeleton in self.skeletons:
            return
        if skeleton == "h36m17" and self.name == "smpl":
            raise ConfigError("skeleton h36m17 of SMPL needs body.h36m_regressor, the path of J_regressor_h36m_correct.npy; it is not set")
        raise ConfigError(
            f"body {self.name!r} ({self.num_vertices} vertices) has no regressor for skeleton {skeleton!r}; "
            f"it has {', '.join(self.skeletons)}"
        )


def load_body(config: BodyConfig) -> Body:
    """The body of a config, in float32 on the CPU. LicensedFileMissing if SMPL is asked for and not there."""
    return Body(config, "neutral", open_arrays() if config.kind == "open" else _smpl_arrays(config, "neutral"))


@lru_cache(maxsize=3)
def _smpl_arrays(config: BodyConfig, gender: str) -> BodyArrays:
    """SMPL's arrays as smplx holds them after loading, with the named regressors."""
    import smplx
    from smplx.utils import Struct

    raw = read_body_file(_smpl_file(config, gender))
    data = Struct(**{key: value for key, value in vars(raw).items() if key != "regressors"})
    with contextlib.redirect_stdout(io.StringIO()):  # smplx prints a warning about 10 components
        layer = smplx.SMPLLayer(model_path="", data_struct=data, gender=gender)
    j_regressor = layer.J_regressor.numpy()
    return BodyArrays(
        v_template=layer.v_template.numpy(),
        shapedirs=layer.shapedirs.numpy(),
        posedirs=np.ascontiguousarray(layer.posedirs.numpy().reshape(207, len(raw.v_template), 3).transpose(1, 2, 0)),
        J_regressor=j_regressor,
        weights=layer.lbs_weights.numpy(),
        f=layer.faces_tensor.numpy(),
        kintree_table=raw.kintree_table,
        regressors=smpl_regressors(j_regressor, layer.v_template.numpy(), config.h36m_regressor) | raw.regressors,
    )


def _smpl_file(config: BodyConfig, gender: str) -> Path:
    if config.smpl_dir is None:
        raise ConfigError("body.kind=smpl needs body.smpl_dir, the folder that holds smpl/SMPL_NEUTRAL.pkl; or use body.kind=open")
    stem = Path(config.smpl_dir) / "smpl" / f"SMPL_{gender.upper()}"
    for suffix in (".pkl", ".npz"):
        if stem.with_suffix(suffix).is_file():
            return stem.with_suffix(suffix)
    raise LicensedFileMissing(
        f"{stem}.pkl: no such file (nor .npz). Expected SMPL's {gender} model, which only you can download, from "
        "https://smpl.is.tue.mpg.de; put it there, or use body.kind=open, the bundled free body"
    )


def _rotmats(pose: Tensor) -> Tensor:
    if pose.shape[1:] == (24, 3, 3):
        return pose.float()
    if pose.dim() == 2 and pose.shape[1] == 72:
        return axis_angle_to_matrix(pose.float().unflatten(-1, (24, 3)))
    raise ValueError(f"pose: expected axis-angle (B, 72) or rotation matrices (B, 24, 3, 3), found {tuple(pose.shape)}")


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Mixed precision off: bfloat16 would move vertices by centimetres."""
    return torch.autocast(tensor.device.type, enabled=False)
