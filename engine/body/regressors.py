"""Named joint regressors of bodies in SMPL's vertex order: which vertices make which joint of which skeleton.

The open body brings its own regressors in its file. For SMPL itself, Pose2Pose's 33 joints are the rows of SMPL's J_regressor
for the joints it names plus one vertex each for face, fingers and feet; COCO's 17 are a subset of them by name; H36M's 17 come
from the community's `J_regressor_h36m_correct.npy`, which the user supplies.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.errors import ConfigError, MissingInput
from schemas.skeletons import COCO17, H36M17, POSE2POSE33, SMPL24

SMPL_VERTICES = 6890

_SURFACE_VERTICES = {
    "L_Index_1": 2274,
    "L_Middle_1": 2270,
    "L_Ring_1": 2293,
    "L_Pinky_1": 2173,
    "R_Index_1": 5595,
    "R_Middle_1": 5675,
    "R_Ring_1": 5636,
    "R_Pinky_1": 5655,
    "Nose": 331,
    "L_Eye": 2802,
    "R_Eye": 6262,
    "L_Ear": 3489,
    "R_Ear": 3990,
    "L_Big_toe": 3292,
    "L_Small_toe": 3313,
    "L_Heel": 3468,
    "R_Big_toe": 6691,
    "R_Small_toe": 6713,
    "R_Heel": 6858,
}
"""SMPL vertex of each of Pose2Pose's joints that SMPL has no joint for (Pose2Pose's choice, not smplx's)."""


def smpl_regressors(j_regressor_24V: np.ndarray, template_V3: np.ndarray, h36m_file: str | None) -> dict[str, np.ndarray]:
    """Regressors (J, V) by skeleton for a body in SMPL's vertex order; without `h36m_file` there is no 'h36m17'.

    `template_V3` is the rest mesh, the left of the body at +x. Only 'smpl24' exists for a body that does not have SMPL's 6890 vertices.
    """
    regressors = {"smpl24": j_regressor_24V}
    count = j_regressor_24V.shape[1]
    if count == SMPL_VERTICES:
        rows = dict(zip(SMPL24.joints, j_regressor_24V, strict=True))
        for name, vertex in _SURFACE_VERTICES.items():
            rows[name] = np.zeros(count, np.float32)
            rows[name][vertex] = 1.0
        for skeleton in (POSE2POSE33, COCO17):
            regressors[skeleton.name] = np.stack([rows[joint] for joint in skeleton.joints])
    if h36m_file is not None:
        regressors[H36M17.name] = _read_h36m(h36m_file, template_V3)
    return regressors


def _read_h36m(path: str, template_V3: np.ndarray) -> np.ndarray:
    vertices = len(template_V3)
    if not Path(path).is_file():
        raise MissingInput(f"h36m_regressor {path}: no such file; expected J_regressor_h36m_correct.npy, (17, {vertices})")
    try:
        matrix = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ConfigError(f"h36m_regressor {path}: not a plain .npy array: {error}") from None
    if matrix.shape != (len(H36M17), vertices):
        raise ConfigError(f"h36m_regressor {path}: expected shape ({len(H36M17)}, {vertices}), found {matrix.shape}")
    sums = matrix.sum(1)
    if np.abs(sums - 1).max() > 0.05:
        raise ConfigError(f"h36m_regressor {path}: rows must sum to 1, found sums from {sums.min():.3f} to {sums.max():.3f}")
    if (matrix @ template_V3)[H36M17.index("R_Hip"), 0] > 0:
        raise ConfigError(
            f"h36m_regressor {path}: its row {H36M17.index('R_Hip')} lies on the body's left; expected H36M's order, right leg first: "
            "J_regressor_h36m_correct.npy, not SPIN's J_regressor_h36m.npy"
        )
    return matrix.astype(np.float32)
