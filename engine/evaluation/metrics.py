"""Distances between predicted and true joints and meshes, batched over persons, in numpy float64.

Every function takes and gives millimetres and returns figures of persons or of their joints, so that means over persons, sequences
or data sets are the caller's. Root alignment is the caller's too: `mpjpe` measures what it is given.

Shapes: B persons, J points (joints or vertices), 3 = x right, y down, z forward.
"""

from __future__ import annotations

import numpy as np

PCK_THRESHOLD_MM = 150.0
AUC_THRESHOLDS_MM = np.arange(0.0, PCK_THRESHOLD_MM + 1, 5.0)
"""0, 5, ..., 150 mm: 31 thresholds of which the first never holds a joint, since a joint counts only below its threshold."""


def distances(pred_BJ3: np.ndarray, target_BJ3: np.ndarray) -> np.ndarray:
    """Distance of every pair of corresponding points, (B, J) mm. ValueError for shapes that differ or values that are not finite."""
    pred, target = _checked(pred_BJ3, target_BJ3)
    return np.linalg.norm(pred - target, axis=2)


def mpjpe(pred_BJ3: np.ndarray, target_BJ3: np.ndarray) -> np.ndarray:
    """Mean distance of corresponding points, (B,) mm; raises as `distances` does."""
    return distances(pred_BJ3, target_BJ3).mean(axis=1)


def pck(distances_BJ: np.ndarray, threshold_mm: float = PCK_THRESHOLD_MM) -> np.ndarray:
    """Which joints are less than the threshold away, 1.0 or 0.0 each, (B, J). An infinite distance is a miss; ValueError for NaN."""
    return (_known(distances_BJ) < threshold_mm).astype(np.float64)


def auc(distances_BJ: np.ndarray) -> np.ndarray:
    """Share of AUC_THRESHOLDS_MM that each joint is below, (B, J): its mean is the area under the PCK curve as MPI-INF computes it."""
    return (_known(distances_BJ)[..., None] < AUC_THRESHOLDS_MM).mean(axis=-1)


def pa_mpjpe(pred_BJ3: np.ndarray, target_BJ3: np.ndarray) -> np.ndarray:
    """Mean distance after the best similarity transform of each prediction onto its target, (B,) mm."""
    return mpjpe(align_similarity(pred_BJ3, target_BJ3), target_BJ3)


def per_axis_errors(pred_BJ3: np.ndarray, target_BJ3: np.ndarray) -> np.ndarray:
    """Mean absolute difference along x, y and z after the best similarity transform, (B, 3) mm.

    This reading of the paper's "(x/y/z)" is the one its numbers allow: root mean squares would not combine to its totals.
    """
    _, target = _checked(pred_BJ3, target_BJ3)
    return np.abs(align_similarity(pred_BJ3, target_BJ3) - target).mean(axis=1)


def mpvpe(pred_BV3: np.ndarray, target_BV3: np.ndarray) -> np.ndarray:
    """`mpjpe` of mesh vertices, (B,) mm; both meshes in the frame of the caller's choice (3DPW: own H36M pelvis at the origin)."""
    return mpjpe(pred_BV3, target_BV3)


def pa_mpvpe(pred_BV3: np.ndarray, target_BV3: np.ndarray) -> np.ndarray:
    """`pa_mpjpe` of mesh vertices, (B,) mm; the transform is fitted to the vertices themselves."""
    return pa_mpjpe(pred_BV3, target_BV3)


def align_similarity(pred_BJ3: np.ndarray, target_BJ3: np.ndarray) -> np.ndarray:
    """Predictions moved onto their targets by the rotation, uniform scale and translation of least squares (Umeyama 1991).

    Never a reflection. A prediction whose points coincide has no scale or rotation; it lands on its target's centroid.
    """
    pred, target = _checked(pred_BJ3, target_BJ3)
    pred_mean, target_mean = pred.mean(axis=1, keepdims=True), target.mean(axis=1, keepdims=True)
    pred, target = pred - pred_mean, target - target_mean
    spread = (pred**2).sum(axis=(1, 2))
    u, singular, vt = np.linalg.svd(pred.transpose(0, 2, 1) @ target)
    handed = np.ones_like(singular)
    handed[:, 2] = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * handed[:, None, :]) @ vt
    trace = (singular * handed).sum(axis=1)
    scale = np.divide(trace, spread, out=np.zeros_like(trace), where=spread > 0)
    return scale[:, None, None] * (pred @ rotation) + target_mean


def _known(distances_BJ: np.ndarray) -> np.ndarray:
    found = np.asarray(distances_BJ, np.float64)
    if np.isnan(found).any():
        raise ValueError(f"{int(np.isnan(found).sum())} of {found.size} distances are NaN; expected millimetres, infinite for a miss")
    return found


def _checked(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.shape != target.shape or pred.ndim != 3 or pred.shape[2] != 3 or pred.shape[1] == 0:
        raise ValueError(f"expected two arrays of one shape (persons, points, 3), found {pred.shape} and {target.shape}")
    for name, value in (("prediction", pred), ("target", target)):
        if not np.isfinite(value).all():
            bad = np.flatnonzero(~np.isfinite(value).all(axis=(1, 2)))
            raise ValueError(f"the {name} of {len(bad)} of {len(value)} persons is not finite (first: person {bad[0]})")
    return pred, target
