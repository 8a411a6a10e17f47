"""Quality figures of predictions: how well they explain the 2D ground truth and how sure of themselves they are, so that users can choose.

The 2D figures compare the predicted body's joints, projected, with the 2D ground truth of the same names, in units of the square root
of the annotated box's area, so that small and large people compare. `score` multiplies what the figures say; it is a function of the row's
other columns alone, and docs/FORMAT.md gives it as a program.

Why a similarity and not exp(-mean error): a keypoint that is wrong costs its own share and no more. On the synthetic world's pseudo-GT the
rank correlation with PA-MPJPE is -0.57 for the similarity and -0.63 for the mean error; with one keypoint of 30 % of the persons wrong
it is -0.56 and -0.52, with three -0.54 and -0.38.

Shape suffixes: N persons of a batch, J joints of `pose2pose33`, G persons of one skeleton, S joints it shares with `pose2pose33`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.annotators.base import Prediction
from schemas.sample import Instance, Sample
from schemas.skeletons import shared_joints

SKELETON = "pose2pose33"
VISIBLE_THRESHOLD = 0.05
"""A joint counts as met within this share of the square root of the box area."""
HALF_SIMILARITY = 0.1
"""A joint missed by this much, in the same unit, counts half; COCO's constants do so at 0.11 on average, if half the box is person."""
ENOUGH_JOINTS = 6
"""Fewer joints than this say little of a body: the score falls in proportion."""
USUAL_LATENT_NORM = 6.0
"""Samples of a 32-dimensional standard normal prior have a norm of 5.6 +- 0.7; twice this counts half."""
HALF_DISAGREEMENT_M = 0.2
"""A person whose mirror image is predicted this far from them counts half."""


def measure(joints_NJ2: np.ndarray, samples: Sequence[Sample], instances: Sequence[Instance], out: Prediction) -> dict[str, np.ndarray]:
    """The quality columns of PSEUDO_GT_SCHEMA by name, each (N,).

    joints_NJ2: the predicted bodies' joints in the photographs, px, float64. Joints are compared by name, where valid.
    """
    n = len(instances)
    size_N2 = np.array([(sample.width, sample.height) for sample in samples], np.float64).reshape(n, 2)
    figures = {
        **_reprojection(joints_NJ2, instances),
        "latent_norm": np.linalg.norm(out.latent_N32.astype(np.float64), axis=1),
        "flip_disagreement": np.full(n, np.nan) if out.flip_disagreement_N is None else out.flip_disagreement_N,
        "truncation": truncation(joints_NJ2, size_N2),
    }
    figures = {name: np.asarray(values, np.float32) for name, values in figures.items()}  # as stored: the score follows from the row
    return {**figures, "score": score(figures)}


def score(figures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Quality (N,) in [0, 1] from the other quality columns: a product of what each of them says, 1 where one is NaN; 0 without joints."""
    similarity, joints, truncated, norm, apart = (
        np.asarray(figures[name], np.float64)
        for name in ("keypoint_similarity", "valid_joints", "truncation", "latent_norm", "flip_disagreement")
    )
    excess = np.nan_to_num(np.maximum(norm - USUAL_LATENT_NORM, 0) / USUAL_LATENT_NORM)
    apart = np.nan_to_num(apart / HALF_DISAGREEMENT_M)
    enough = np.minimum(joints / ENOUGH_JOINTS, 1)
    return np.nan_to_num(similarity) * enough * (1 - truncated) * np.exp2(-(excess**2)) * np.exp2(-(apart**2))


def truncation(joints_NJ2: np.ndarray, size_N2: np.ndarray) -> np.ndarray:
    """Share (N,) of joints (px) outside photographs of size (width, height), whose pixels reach half a pixel beyond their centres."""
    inside_NJ = ((joints_NJ2 >= -0.5) & (joints_NJ2 < size_N2[:, None] - 0.5)).all(2)
    return 1 - inside_NJ.mean(1)


def _reprojection(joints_NJ2: np.ndarray, instances: Sequence[Instance]) -> dict[str, np.ndarray]:
    n = len(instances)
    figures = {name: np.full(n, np.nan) for name in ("reprojection_error", "visible_fraction", "keypoint_similarity")}
    figures["valid_joints"] = np.zeros(n)
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
        count_G = valid_GS.sum(1)
        said = {
            "reprojection_error": relative_GS,
            "visible_fraction": relative_GS <= VISIBLE_THRESHOLD,
            "keypoint_similarity": np.exp2(-((relative_GS / HALF_SIMILARITY) ** 2)),
        }
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: nothing is claimed of persons without valid joints
            for name, values_GS in said.items():
                figures[name][rows_G] = np.where(valid_GS, values_GS, 0).sum(1) / count_G
        figures["valid_joints"][rows_G] = count_G
    return figures
