"""The body as a dressmaker sees it: where on the rest pose a surface point lies, and normals of any pose.

Clothes are painted by a point's place on the rest pose, so they need neither textures nor skinning weights, follow every
pose and are sharp at any resolution.

Shapes: V vertices, F faces. Rest pose: SMPL's T-pose, +y up, +z to the front, +x to the person's left, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

from engine.body.smpl import BodyConfig, load_body
from schemas.skeletons import POSE2POSE33, SMPL24


@dataclass(frozen=True)
class Atlas:
    """Rest pose of the mean body with its landmarks (joint name -> place)."""

    rest_V3: np.ndarray
    faces_F3: np.ndarray
    landmarks: dict[str, np.ndarray]
    faces_of_vertex_VF: csr_matrix

    def normals(self, vertices_V3: np.ndarray) -> np.ndarray:
        """Unit vertex normals of a posed mesh, area-weighted, (V, 3)."""
        corners_F33 = vertices_V3[self.faces_F3]
        normals_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
        normals_V3 = self.faces_of_vertex_VF @ normals_F3
        return normals_V3 / np.maximum(np.linalg.norm(normals_V3, axis=1, keepdims=True), 1e-12)


class Mannequin:
    """The open body and its atlas; one a process."""

    def __init__(self) -> None:
        self.body = load_body(BodyConfig())
        with torch.inference_mode():
            rest = self.body(torch.zeros(1, 72), torch.zeros(1, 10))
            named = self.body.regress(rest.vertices_BV3, POSE2POSE33.name)[0].numpy()
        joints = dict(zip(SMPL24.joints, rest.joints_B243[0].numpy(), strict=True)) | dict(zip(POSE2POSE33.joints, named, strict=True))
        faces = np.asarray(self.body.faces, np.int64)
        count = len(rest.vertices_BV3[0])
        ones = np.ones(faces.size, np.float32)
        incidence = csr_matrix((ones, (faces.ravel(), np.repeat(np.arange(len(faces)), 3))), shape=(count, len(faces)))
        self.atlas = Atlas(rest.vertices_BV3[0].numpy(), faces, joints, incidence)

    def pose(self, pose_P72: np.ndarray, betas_P10: np.ndarray) -> PosedBodies:
        """Meshes of P persons without translation, and what is measured on them."""
        with torch.inference_mode():
            pose, betas = torch.as_tensor(pose_P72, dtype=torch.float32), torch.as_tensor(betas_P10, dtype=torch.float32)
            posed = self.body(pose, betas)
            rest = self.body(torch.zeros_like(pose), betas)
            named = {
                name: self.body.regress(posed.vertices_BV3, name).numpy().astype(np.float64)
                for name in ("h36m17", "coco17", POSE2POSE33.name)
            }
            named[SMPL24.name] = posed.joints_B243.numpy().astype(np.float64)
        return PosedBodies(posed.vertices_BV3.numpy().astype(np.float64), rest.joints_B243[:, 0].numpy().astype(np.float64), named)


@dataclass(frozen=True)
class PosedBodies:
    """P meshes and their joints by skeleton, all without translation; `root_P3` is the point the root rotation turns about."""

    vertices_PV3: np.ndarray
    root_P3: np.ndarray
    joints: dict[str, np.ndarray]
