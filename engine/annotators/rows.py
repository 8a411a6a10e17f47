"""Predictions to pseudo-GT rows: the camera carried back to the stored image, and quality figures with every row.

`batch_rows` is pure and whole batches at a time, so that it can run in a thread of its own while the network does the next
batch; `assemble` makes the rows of a shard of its batches.

Shape suffixes: N persons of a batch, J joints of `pose2pose33`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.annotators.base import Annotator, Prediction, predict_padded
from engine.annotators.quality import SKELETON, measure
from engine.body.cameras import camera_to_image, project
from engine.body.smpl import Body
from engine.loading.persons import CropBatch
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample

_MIN_DEPTH_M = 0.01
_ORDER = [("key", "ascending"), ("annotation_id", "ascending")]


@dataclass(frozen=True)
class BatchRows:
    """One batch's annotation: rows of PSEUDO_GT_SCHEMA in the batch's order, and whose output was impossible."""

    rows: pa.RecordBatch
    quarantine: tuple[QuarantineRow, ...]


@dataclass(frozen=True)
class ShardRows:
    """One shard's annotation: rows of PSEUDO_GT_SCHEMA, sorted by (key, annotation_id), and what could not be annotated."""

    table: pa.Table
    quarantine: tuple[QuarantineRow, ...]


def annotate_batches(batches: Iterable[CropBatch], annotator: Annotator, batch_size: int | None = None) -> ShardRows:
    """Rows of every crop, and a quarantine row for every rejected crop, non-finite or impossible output, or repeated id.

    `batch_size`: fill batches up to it, as the fan-out does; None: predict them as they come.
    """
    parts, rejected = [], []
    for batch in batches:
        rejected.extend(batch.rejected)
        if len(batch):
            out = predict_padded(annotator, batch, batch_size or len(batch))
            parts.append(batch_rows(batch, out, annotator.body, annotator.crop))
    return assemble(parts, rejected)


def batch_rows(batch: CropBatch, out: Prediction, body: Body, crop: CropSpec, places: Sequence[int] | None = None) -> BatchRows:
    """Rows of the N persons of a batch; those whose output is not finite or not before the camera are quarantined.

    `out` is the annotator's prediction for the batch's crops, `body` its body, on the CPU, and `crop` its crop. What the batch could
    not crop (`batch.rejected`) is not looked at: hand it to `assemble`. `places`: of the persons that are wanted, None for all; the
    others are computed with them, so that a person's row never depends, not in its last bit, on who else is wanted.
    """
    focal_N2, princpt_N2 = camera_to_image(batch.boxes_N4, crop.hw)
    return person_rows(batch.samples, batch.instances, focal_N2, princpt_N2, out, body, places)


def person_rows(
    samples: Sequence[Sample],
    instances: Sequence[Instance],
    focal_N2: np.ndarray,
    princpt_N2: np.ndarray,
    out: Prediction,
    body: Body,
    places: Sequence[int] | None = None,
) -> BatchRows:
    """As `batch_rows`, of N persons who are seen by cameras (photograph px, float32) that somebody else chose: those of another's file."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # what is impossible is quarantined below
        joints_NJ3 = _joints(out, body)
        problems = _impossible(out, joints_NJ3)
        joints_NJ2 = project(joints_NJ3, focal_N2.astype(np.float64), princpt_N2.astype(np.float64))
        figures = measure(joints_NJ2, samples, instances, out)
    columns = {
        "dataset": [sample.dataset for sample in samples],
        "key": [sample.key for sample in samples],
        "annotation_id": [instance.annotation_id for instance in instances],
        "bbox_xywh": np.array([instance.bbox_xywh for instance in instances]),
        "pose": out.pose_N72,
        "betas": out.betas_N10,
        "transl": out.cam_transl_N3,
        "focal": focal_N2,
        "princpt": princpt_N2,
        "latent": out.latent_N32,
        **figures,
    }
    rows = pa.RecordBatch.from_arrays(to_arrays(columns), schema=PSEUDO_GT_SCHEMA)
    wanted = range(len(instances)) if places is None else places
    if problems or len(wanted) < len(instances):
        rows = rows.take(pa.array([i for i in wanted if i not in problems], pa.int64()))
    return BatchRows(rows, tuple(_quarantined(columns, i, *problems[i]) for i in wanted if i in problems))


def assemble(parts: Iterable[BatchRows], rejected: Iterable[QuarantineRow] = ()) -> ShardRows:
    """The rows of a shard, sorted, and its quarantine; `parts` in the order of the batches, `rejected` in any.

    Of two persons of one image with the same annotation id the first is kept, and the other quarantined: a repeated name would
    make the pair (key, annotation_id) join with the wrong person.
    """
    parts = list(parts)
    table = pa.Table.from_batches([part.rows for part in parts], schema=PSEUDO_GT_SCHEMA)
    table = table.take(pc.sort_indices(table, sort_keys=_ORDER)).combine_chunks()  # a stable sort
    repeated = np.zeros(len(table), bool)
    if len(table) > 1:
        same = [pc.equal(column.slice(1), column.slice(0, len(table) - 1)) for column in (table["key"], table["annotation_id"])]
        repeated[1:] = pc.and_(*same).to_numpy()
    quarantine = [row for part in parts for row in part.quarantine] + list(rejected)
    if repeated.any():
        names = {name: table[name].to_pylist() for name in ("dataset", "key", "annotation_id")}
        message = "the image has two persons of this annotation id; the first one was kept"
        quarantine += [_quarantined(names, int(i), "duplicate_id", message) for i in np.flatnonzero(repeated)]
        table = table.filter(pa.array(~repeated)).combine_chunks()
    quarantine.sort(key=lambda q: (q.key, q.annotation_id or "", q.reason, q.message))
    return ShardRows(table, tuple(quarantine))


def to_arrays(columns: Mapping[str, Sequence | np.ndarray]) -> list[pa.Array]:
    """Columns as Arrow arrays of exactly PSEUDO_GT_SCHEMA's types, in its order; vectors are (N, size)."""
    arrays = []
    for field in PSEUDO_GT_SCHEMA:
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = np.ascontiguousarray(values, np.float32).reshape(-1)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, field.type.value_type), type=field.type))
        elif pa.types.is_string(field.type):
            arrays.append(pa.array(values, field.type))
        else:
            arrays.append(pa.array(np.asarray(values, field.type.to_pandas_dtype()), field.type))
    return arrays


def _joints(out: Prediction, body: Body) -> np.ndarray:
    """Joints (N,J,3) before the virtual camera, m, float64: a projection in float32 would be off by hundredths of a pixel."""
    with torch.inference_mode():
        joints_NJ3 = body.joints(torch.from_numpy(out.pose_N72), torch.from_numpy(out.betas_N10), skeleton=SKELETON)
    return joints_NJ3.double().numpy() + out.cam_transl_N3[:, None].astype(np.float64)


def _impossible(out: Prediction, joints_NJ3: np.ndarray) -> dict[int, tuple[str, str]]:
    """Reason and message of every person whose output cannot be a row, by their place in the batch."""
    has_latent_N = ~np.isnan(out.latent_N32).all(1)
    bad = {
        "pose": ~np.isfinite(out.pose_N72).all(1),
        "betas": ~np.isfinite(out.betas_N10).all(1),
        "translation": ~np.isfinite(out.cam_transl_N3).all(1),
        "latent": has_latent_N & ~np.isfinite(out.latent_N32).all(1),
    }
    finite_N = ~np.any(list(bad.values()), axis=0)
    bad["body"] = finite_N & ~np.isfinite(joints_NJ3).all((1, 2))
    nearest_N = joints_NJ3[..., 2].min(1)
    problems = {}
    for i in np.flatnonzero(~finite_N | bad["body"] | (nearest_N < _MIN_DEPTH_M)).tolist():
        if names := [name for name, values in bad.items() if values[i]]:
            problems[i] = "non_finite", f"the annotator's {', '.join(names)} has NaN or infinite values"
        else:
            problems[i] = "behind_camera", f"a joint lies {nearest_N[i]:.3f} m before the camera; at least {_MIN_DEPTH_M} m is possible"
    return problems


def _quarantined(columns: Mapping[str, Sequence[str]], i: int, reason: str, message: str) -> QuarantineRow:
    names = {name: columns[name][i] for name in ("dataset", "key", "annotation_id")}
    return QuarantineRow(**names, reason=reason, message=message)
