"""Predictions to pseudo-GT rows: the camera carried back to the stored image, and quality figures.

The figures compare the predicted body's joints, projected, with the 2D ground truth of the same names. They are measured in
units of the square root of the annotated box's area, so that small and large people compare.

Shape suffixes: N instances, J joints of `pose2pose33`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from engine.annotators.base import Annotator, Prediction
from engine.annotators.rules import SCORE_SCALE, VISIBLE_THRESHOLD
from engine.body.cameras import camera_to_image, project
from engine.loading.persons import CropBatch
from schemas.manifests import QuarantineRow
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample
from schemas.skeletons import shared_joints

_SKELETON = "pose2pose33"
_MIN_DEPTH_M = 0.01


@dataclass(frozen=True)
class ShardRows:
    """One shard's annotation: rows of PSEUDO_GT_SCHEMA, sorted by (key, annotation_id), and what could not be annotated."""

    table: pa.Table
    quarantine: tuple[QuarantineRow, ...]


@dataclass(frozen=True)
class Quality:
    """Reprojection figures of one instance; the columns of the same names in PSEUDO_GT_SCHEMA."""

    reprojection_error: float
    visible_fraction: float
    valid_joints: int

    @property
    def score(self) -> float:
        if not self.valid_joints:
            return 0.0
        return float(np.exp(-self.reprojection_error / SCORE_SCALE) * self.visible_fraction)


def annotate_batches(batches: Iterable[CropBatch], annotator: Annotator) -> ShardRows:
    """Rows of every crop, and a quarantine row for every rejected crop, non-finite or impossible output, or repeated id."""
    rows: dict[tuple[str, str], dict] = {}
    quarantine: list[QuarantineRow] = []
    for batch in batches:
        quarantine.extend(batch.rejected)
        if not len(batch.instances):
            continue
        for row in _batch_rows(batch, annotator):
            name = (row.key, row.annotation_id) if isinstance(row, QuarantineRow) else (row["key"], row["annotation_id"])
            if isinstance(row, QuarantineRow):
                quarantine.append(row)
            elif name in rows:
                message = "the image has two persons of this annotation id; the first one was kept"
                quarantine.append(
                    QuarantineRow(dataset=row["dataset"], key=name[0], annotation_id=name[1], reason="duplicate_id", message=message)
                )
            else:
                rows[name] = row
    quarantine.sort(key=lambda q: (q.key, q.annotation_id or "", q.reason))
    return ShardRows(to_table([rows[name] for name in sorted(rows)]), tuple(quarantine))


def _batch_rows(batch: CropBatch, annotator: Annotator) -> Iterable[dict | QuarantineRow]:
    out = annotator.predict(batch.crops_NHW3)
    focal_N2, princpt_N2 = camera_to_image(batch.boxes_N4, annotator.crop.hw)
    device = next(annotator.body.buffers()).device
    with torch.no_grad():
        pose_N72, betas_N10 = (torch.from_numpy(x).to(device) for x in (out.pose_N72, out.betas_N10))
        joints_NJ3 = annotator.body.joints(pose_N72, betas_N10, skeleton=_SKELETON)
    joints_NJ3 = joints_NJ3.cpu().double().numpy() + out.cam_transl_N3[:, None].astype(np.float64)
    for i, (sample, instance) in enumerate(zip(batch.samples, batch.instances, strict=True)):
        if problem := _impossible(out, joints_NJ3, i):
            reason, message = problem
            yield QuarantineRow(
                dataset=sample.dataset, key=sample.key, annotation_id=instance.annotation_id, reason=reason, message=message
            )
            continue
        joints_J2 = project(joints_NJ3[i : i + 1], focal_N2[i].astype(np.float64), princpt_N2[i].astype(np.float64))[0]
        quality = measure(joints_J2, instance)
        yield {
            "dataset": sample.dataset,
            "key": sample.key,
            "annotation_id": instance.annotation_id,
            "bbox_xywh": instance.bbox_xywh,
            "pose": out.pose_N72[i],
            "betas": out.betas_N10[i],
            "transl": out.cam_transl_N3[i],
            "focal": focal_N2[i],
            "princpt": princpt_N2[i],
            "latent": out.latent_N32[i],
            "reprojection_error": quality.reprojection_error,
            "visible_fraction": quality.visible_fraction,
            "valid_joints": quality.valid_joints,
            "latent_norm": float(np.linalg.norm(out.latent_N32[i].astype(np.float64))),
            "truncation": truncation(joints_J2, sample),
            "score": quality.score,
        }


def _impossible(out: Prediction, joints_NJ3: np.ndarray, i: int) -> tuple[str, str] | None:
    numbers = {"pose": out.pose_N72[i], "betas": out.betas_N10[i], "translation": out.cam_transl_N3[i]}
    if not np.isnan(out.latent_N32[i]).all():
        numbers["latent"] = out.latent_N32[i]
    bad = [name for name, value in numbers.items() if not np.isfinite(value).all()]
    if bad:
        return "non_finite", f"the annotator's {', '.join(bad)} has NaN or infinite values"
    if joints_NJ3[i, :, 2].min() < _MIN_DEPTH_M:
        return "behind_camera", f"a joint lies {joints_NJ3[i, :, 2].min():.3f} m before the camera; at least {_MIN_DEPTH_M} m is possible"
    return None


def measure(joints_J2: np.ndarray, instance: Instance) -> Quality:
    """Reprojection figures of one instance.

    joints_J2: the predicted body's `pose2pose33` joints in the stored image, px. Joints are compared by name, where valid.
    """
    truth, predicted = (list(indices) for indices in shared_joints(instance.skeleton, _SKELETON))
    valid = np.asarray(instance.joints_valid, bool)[truth]
    if not valid.any():
        return Quality(float("nan"), float("nan"), 0)
    distances = np.linalg.norm(joints_J2[predicted] - np.asarray(instance.joints_img, np.float64)[truth], axis=1)[valid]
    relative = distances / np.sqrt(instance.bbox_xywh[2] * instance.bbox_xywh[3])
    return Quality(float(relative.mean()), float((relative <= VISIBLE_THRESHOLD).mean()), int(valid.sum()))


def truncation(joints_J2: np.ndarray, sample: Sample) -> float:
    """Share of joints (px) outside the stored image, whose pixels reach half a pixel beyond their centres."""
    inside = (joints_J2 >= -0.5).all(1) & (joints_J2[:, 0] < sample.width - 0.5) & (joints_J2[:, 1] < sample.height - 0.5)
    return float(1 - inside.mean())


def to_table(rows: list[dict]) -> pa.Table:
    """Rows as a table of exactly PSEUDO_GT_SCHEMA; zero rows make an empty table."""
    columns = []
    for field in PSEUDO_GT_SCHEMA:
        values = [row[field.name] for row in rows]
        if pa.types.is_fixed_size_list(field.type):
            flat = np.asarray(values, np.float32).reshape(-1)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, field.type.value_type), type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=PSEUDO_GT_SCHEMA)
