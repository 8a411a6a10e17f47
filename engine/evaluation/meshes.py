"""Meshes of predictions and of truth, and the joints that H36M's regressor makes of them.

Shapes: B persons, V vertices. Meshes are in metres, joints leave in millimetres, float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine.body.smpl import Body
from schemas.sample import Instance


def mesh(body: Body, pose_B72: np.ndarray | torch.Tensor, betas_B10: np.ndarray | torch.Tensor, gender: str = "neutral") -> np.ndarray:
    """Posed vertices (B, V, 3), metres, without translation."""
    with torch.inference_mode():
        return body(torch.as_tensor(pose_B72).float(), torch.as_tensor(betas_B10).float(), gender=gender).vertices_BV3.numpy()


def truth_meshes(instances: Sequence[Instance], body: Body) -> np.ndarray:
    """True meshes (B, V, 3) in metres, camera frame without translation, each of the person's own gender."""
    pose, betas = (torch.tensor([getattr(i.smpl, name) for i in instances], dtype=torch.float32) for name in ("pose", "betas"))
    meshes = np.empty((len(instances), body.num_vertices, 3), np.float32)
    genders = np.array([i.smpl.gender for i in instances])
    for gender in sorted(set(genders)):
        meshes[genders == gender] = mesh(body, pose[genders == gender], betas[genders == gender], gender)
    return meshes


def h36m_joints_mm(vertices_BV3: np.ndarray, body: Body) -> np.ndarray:
    """The joints of `h36m17` (B, 17, 3), mm, wherever the mesh (m) is."""
    with torch.inference_mode():
        return body.regress(torch.as_tensor(vertices_BV3).float(), "h36m17").numpy().astype(np.float64) * 1000
