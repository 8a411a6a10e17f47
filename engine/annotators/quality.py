"""Quality figures of predictions: how well they explain the 2D ground truth, so that users of a release can choose.

The figures compare the predicted body's joints, projected, with the 2D ground truth of the same names. They are measured in
units of the square root of the annotated box's area, so that small and large people compare.

Shape suffixes: N persons of a batch, J joints of `pose2pose33`, G persons of one skeleton, S joints it shares with `pose2pose33`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.annotators.base import Prediction
from schemas.sample import Instance, Sample
from schemas.skeletons import shared_joints

SKELETON = "pose2pose33"
VISIBLE_THRESHOLD = 0.05
"""A joint counts as met within this share of the square root of the box area."""
SCORE_SCALE = 0.05


def measure(joints_NJ2: np.ndarray, samples: Sequence[Sample], instances: Sequence[Instance], out: Prediction) -> dict[str, np.ndarray]:
    """The quality columns of PSEUDO_GT_SCHEMA by name, each (N,).

    joints_NJ2: the predicted bodies' joints in the photographs, px, float64. Joints are compared by name, where valid.
    """
    reprojection = _reprojection(joints_NJ2, instances)
    error, visible, valid = (reprojection[name] for name in ("reprojection_error", "visible_fraction", "valid_joints"))
    size_N2 = np.array([(sample.width, sample.height) for sample in samples], np.float64)
    return {
        **reprojection,
        "latent_norm": np.linalg.norm(out.latent_N32.astype(np.float64), axis=1),
        "truncation": truncation(joints_NJ2, size_N2),
        "score": np.where(valid > 0, np.exp(-error / SCORE_SCALE) * visible, 0.0),
    }


def truncation(joints_NJ2: np.ndarray, size_N2: np.ndarray) -> np.ndarray:
    """Share (N,) of joints (px) outside photographs of size (width, height), whose pixels reach half a pixel beyond their centres."""
    inside_NJ = ((joints_NJ2 >= -0.5) & (joints_NJ2 < size_N2[:, None] - 0.5)).all(2)
    return 1 - inside_NJ.mean(1)


def _reprojection(joints_NJ2: np.ndarray, instances: Sequence[Instance]) -> dict[str, np.ndarray]:
    n = len(instances)
    error_N, visible_N, valid_N = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.int16)
    skeletons = np.array([instance.skeleton for instance in instances])
    for skeleton in np.unique(skeletons):
        rows_G = np.flatnonzero(skeletons == skeleton)
        group = [instances[i] for i in rows_G]
        truth, predicted = (list(indices) for indices in shared_joints(str(skeleton), SKELETON))
        valid_GS = np.array([instance.joints_valid for instance in group], bool)[:, truth]
        truth_GS2 = np.array([instance.joints_img for instance in group], np.float64)[:, truth]
        box_G4 = np.array([instance.bbox_xywh for instance in group], np.float64)
        size_G1 = np.sqrt(box_G4[:, 2] * box_G4[:, 3])[:, None]
        relative_GS = np.linalg.norm(joints_NJ2[rows_G][:, predicted] - truth_GS2, axis=2) / size_G1
        relative_GS = np.where(valid_GS, relative_GS, 0.0)
        count_G = valid_GS.sum(1)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: nothing is claimed of persons without valid joints
            error_N[rows_G] = relative_GS.sum(1) / count_G
            visible_N[rows_G] = ((relative_GS <= VISIBLE_THRESHOLD) & valid_GS).sum(1) / count_G
        valid_N[rows_G] = count_G
    return {"reprojection_error": error_N, "visible_fraction": visible_N, "valid_joints": valid_N}
