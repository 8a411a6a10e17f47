"""The 3DPW protocol as Pose2Pose and the paper use it.

Truth is the mesh of the person's gender, the prediction a neutral mesh. Both are regressed to H36M's 17 joints, each is moved
to its own H36M pelvis, and 14 of the joints are scored (Pelvis, Torso and Head are not). Boxes are the annotated ones.
Numbers of protocols that use neutral truth or 24 joints do not compare with these.

Shapes: B and N persons, V vertices, J = 14 joints. Meshes come in metres, errors leave in millimetres.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import torch

from engine.annotators.base import Annotator
from engine.body.cameras import camera_to_image
from engine.body.smpl import Body
from engine.errors import EngineError
from engine.evaluation.metrics import align_similarity, mpjpe, pa_mpjpe
from engine.evaluation.results import PersonErrors
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, person_batches
from engine.shards.reader import ShardSet, read_samples
from schemas.sample import Instance, Sample
from schemas.skeletons import EVAL14, H36M17

SCORED = [H36M17.index(name) for name in EVAL14]
PELVIS = H36M17.index("Pelvis")

PREDICTIONS_SCHEMA = pa.schema(
    [("key", pa.string()), ("annotation_id", pa.string())]
    + [(name, pa.list_(pa.float32(), size)) for name, size in (("pose", 72), ("betas", 10), ("transl", 3), ("focal", 2), ("princpt", 2))]
    + [("mpjpe_mm", pa.float32()), ("pa_mpjpe_mm", pa.float32())],
)
"""One row a person; parameters, camera and units as in schemas/pseudo_gt.py."""


@dataclass(frozen=True)
class Evaluation:
    """A network's errors, predictions and sequence names, person by person in the order of the shard set."""

    errors: PersonErrors
    sequences: list[str]
    predictions: pa.Table
    left_out: dict[str, int]


def evaluate_annotator(annotator: Annotator, shards: ShardSet, body: Body, decoder: Decoder, batch_size: int = 64) -> Evaluation:
    """Predict and score every person of a shard set who has SMPL truth; nothing but parameters is kept beyond a batch.

    `body`, on the CPU, is that of the annotator and of the truth.

    `left_out` counts persons by reason: "no truth", and the reasons of quarantine (a broken image, a box without area).
    Raises EngineError if nobody could be scored or a prediction is not finite.
    """
    errors, sequences, rows, left_out = [], [], [], Counter()
    for samples in truth_samples(shards, left_out):
        for batch in person_batches(samples, decoder, annotator.crop, batch_size):
            for row in batch.rejected:
                left_out[row.reason] += row.instances
            if len(batch.instances):
                scores, table = _evaluate_batch(annotator, batch, body)
                errors.append(scores)
                rows.append(table)
                sequences += [sequence_of(sample) for sample in batch.samples]
    if not rows:
        reasons = dict(left_out) or "nothing"
        raise EngineError(f"shard set {shards.url}: expected persons with SMPL truth, found none to score; left out: {reasons}")
    return Evaluation(PersonErrors.joined(errors), sequences, pa.concat_tables(rows), dict(left_out))


def truth_samples(shards: ShardSet, left_out: Counter, entries: Iterable | None = None) -> Iterator[list[tuple[Sample, bytes]]]:
    """Samples with their images, a list a shard, holding only the persons with valid SMPL parameters."""
    for entry in shards.manifest.shards if entries is None else entries:
        kept = []
        for sample, image in read_samples(shards.fetch(entry), entry):
            persons = tuple(i for i in sample.instances if i.smpl is not None and i.smpl.pose_valid and i.smpl.betas_valid)
            if len(persons) < len(sample.instances):
                left_out["no truth"] += len(sample.instances) - len(persons)
            if persons:
                kept.append((sample.model_copy(update={"instances": persons}), image))
        yield kept


def truth_meshes(instances: list[Instance], body: Body) -> np.ndarray:
    """True meshes (B, V, 3) in metres, camera frame without translation, each of the person's own gender."""
    pose, betas = (torch.tensor([getattr(i.smpl, name) for i in instances], dtype=torch.float32) for name in ("pose", "betas"))
    meshes = np.empty((len(instances), body.num_vertices, 3), np.float32)
    genders = np.array([i.smpl.gender for i in instances])
    for gender in sorted(set(genders)):
        meshes[genders == gender] = mesh(body, pose[genders == gender], betas[genders == gender], gender)
    return meshes


def mesh(body: Body, pose_B72: np.ndarray | torch.Tensor, betas_B10: np.ndarray | torch.Tensor, gender: str = "neutral") -> np.ndarray:
    """Posed vertices (B, V, 3), metres, without translation."""
    with torch.inference_mode():
        return body(torch.as_tensor(pose_B72).float(), torch.as_tensor(betas_B10).float(), gender=gender).vertices_BV3.numpy()


def score_meshes(pred_BV3: np.ndarray, target_BV3: np.ndarray, body: Body) -> PersonErrors:
    """Errors (mm) of predicted meshes (m) by the protocol; both may be anywhere, each is moved to its own pelvis."""
    (pred_joints, pred_mesh), (target_joints, target_mesh) = (_rooted_mm(m, body) for m in (pred_BV3, target_BV3))
    vertex_errors = (mpjpe(pred_mesh, target_mesh), pa_mpjpe(pred_mesh, target_mesh))
    return PersonErrors(np.column_stack([_joint_errors(pred_joints, target_joints), *vertex_errors]))


def score_joints(pred_BJ3: np.ndarray, target_BV3: np.ndarray, body: Body) -> PersonErrors:
    """Errors (mm) of 14 joints that come without a mesh (mm, their pelvis at the origin) against true meshes (m)."""
    target_joints, _ = _rooted_mm(target_BV3, body)
    return PersonErrors(np.column_stack([_joint_errors(pred_BJ3, target_joints), np.full((len(target_joints), 2), np.nan)]))


def scored_joints(vertices_BV3: np.ndarray, body: Body) -> np.ndarray:
    """The 14 scored joints (B, 14, 3), mm, relative to the H36M pelvis."""
    return _rooted_mm(vertices_BV3, body)[0]


def sequence_of(sample: Sample) -> str:
    """The folder of the sample's image: 3DPW's sequence."""
    return PurePosixPath(sample.image_path).parent.name or sample.dataset


def _joint_errors(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    aligned = align_similarity(pred, target)
    return np.column_stack([mpjpe(pred, target), mpjpe(aligned, target), np.abs(aligned - target).mean(axis=1)])


def _rooted_mm(vertices_BV3: np.ndarray, body: Body) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        joints = body.regress(torch.as_tensor(vertices_BV3).float(), "h36m17").numpy().astype(np.float64)
    pelvis = joints[:, PELVIS, None]
    return (joints[:, SCORED] - pelvis) * 1000, (vertices_BV3 - pelvis) * 1000


def _evaluate_batch(annotator: Annotator, batch: CropBatch, body: Body) -> tuple[PersonErrors, pa.Table]:
    prediction = annotator.predict(batch.crops_NHW3)
    parameters = {"pose": prediction.pose_N72, "betas": prediction.betas_N10, "transl": prediction.cam_transl_N3}
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            key = batch.samples[int(np.argwhere(~np.isfinite(values))[0, 0])].key
            raise EngineError(f"network {annotator.digest[:12]}: its {name} is not finite, first for sample {key}; its training diverged")
    pred = mesh(body, prediction.pose_N72, prediction.betas_N10)
    errors = score_meshes(pred, truth_meshes(list(batch.instances), body), body)
    focal, princpt = camera_to_image(batch.boxes_N4, annotator.crop.hw)
    columns = parameters | {"focal": focal, "princpt": princpt}
    scores = {"mpjpe_mm": errors.column("mpjpe"), "pa_mpjpe_mm": errors.column("pa_mpjpe")}
    names = {"key": [s.key for s in batch.samples], "annotation_id": [i.annotation_id for i in batch.instances]}
    arrays = {name: _fixed_list(values) for name, values in columns.items()}
    figures = {name: pa.array(values.astype(np.float32)) for name, values in scores.items()}
    return errors, pa.table(names | arrays | figures, schema=PREDICTIONS_SCHEMA)


def _fixed_list(values_NK: np.ndarray) -> pa.Array:
    values = np.ascontiguousarray(values_NK, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
