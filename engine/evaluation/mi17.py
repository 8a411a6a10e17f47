"""What the test sets of MPI-INF-3DHP and MuPoTS-3D share: their 17 joints, which 14 of them PCK counts, in which groups, and file names.

The regressor with which others take these joints from SMPL meshes (`J_regressor_mi_smpl`) is not public. Here they are the joints of the
same names that the body's H36M regressor makes, all 17 of which it has: our definition, and a reason for other figures than printed ones.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from engine.body.smpl import Body
from engine.evaluation.meshes import h36m_joints_mm
from schemas.sample import Sample
from schemas.skeletons import H36M17, MI17

COUNTED = MI17.joints[:14]
"""The joints of PCK, AUC and MuPoTS's PA-MPJPE: Head_top to L_Ankle, without Pelvis, Torso and Head."""
PELVIS = MI17.index("Pelvis")
GROUPS: dict[str, tuple[str, ...]] = {"Head": ("Head_top",), "Neck": ("Neck",)} | {
    part: (f"R_{part}", f"L_{part}") for part in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
}
"""The groups of the official tables; their PCK, weighted by joints, is the mean over the 14 joints."""

_FROM_H36M = [H36M17.index(name) for name in MI17.joints]


def mi_joints_mm(vertices_BV3: np.ndarray, body: Body) -> np.ndarray:
    """The joints of `mi17` (B, 17, 3), mm, wherever the mesh (m) is."""
    return h36m_joints_mm(vertices_BV3, body)[:, _FROM_H36M]


def rooted(joints_BJ3: np.ndarray) -> np.ndarray:
    """Joints of `mi17` with their pelvis at the origin."""
    return joints_BJ3 - joints_BJ3[:, PELVIS, None]


def sequence_of(sample: Sample) -> str:
    """TS1, TS2, ... from the image's path, which has it as a folder; else the image's folder."""
    parts = PurePosixPath(sample.image_path).parts[:-1]
    found = [part for part in parts if part.startswith("TS") and part[2:].isdigit()]
    return found[-1] if found else (parts[-1] if parts else sample.dataset)
