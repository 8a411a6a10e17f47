"""A network on a test set: every person predicted once from its annotated box, and scored by a protocol.

Of the predictions nothing but parameters and joints is kept beyond a batch. Shapes: B persons of a batch, N of the test set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.annotators.base import Annotator, predict_padded
from engine.body.cameras import camera_to_image
from engine.body.smpl import Body
from engine.errors import EngineError
from engine.evaluation.meshes import mesh
from engine.evaluation.person_errors import PersonErrors
from engine.evaluation.protocol import Kept, PredictedPeople, Protocol, joined
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, StoredSample, person_batches
from engine.shards.reader import ShardSet, read_samples
from schemas.sample import Instance, Sample

PREDICTIONS_SCHEMA = pa.schema(
    [("key", pa.string()), ("annotation_id", pa.string())]
    + [(name, pa.list_(pa.float32(), size)) for name, size in (("pose", 72), ("betas", 10), ("transl", 3), ("focal", 2), ("princpt", 2))]
    + [("mpjpe_mm", pa.float32()), ("pa_mpjpe_mm", pa.float32())],
)
"""One row a person; parameters, camera and units as in schemas/pseudo_gt.py."""


@dataclass(frozen=True)
class Evaluation:
    """A network's errors and sequence names, person by person: first the predicted ones, in the order of the shard set and of
    `predictions`, then those a protocol counts though nobody could predict them."""

    errors: PersonErrors
    sequences: np.ndarray
    predictions: pa.Table
    left_out: dict[str, int]


def evaluate_annotator(
    annotator: Annotator, shards: ShardSet, protocol: Protocol, body: Body, decoder: Decoder, batch_size: int = 64
) -> Evaluation:
    """Predict and score every person of a shard set whom the protocol scores; `body`, on the CPU, is the annotator's and the truth's.

    `left_out` counts persons by reason: the protocol's own ("no truth"), and those of quarantine (a broken image, a box without area).
    Raises EngineError if nobody could be scored or a prediction is not finite.
    """
    rows, kept, kept_of_missed, left_out = [], [], [], Counter()
    people: list[tuple[str, str]] = []  # sequence and frame of each predicted person
    missed: list[tuple[str, str]] = []
    for samples in scored_samples(shards, protocol.unfit, left_out):
        seen = set()
        for batch in person_batches(samples, decoder, annotator.crop, batch_size):
            for row in batch.rejected:
                left_out[row.reason] += row.instances
            if len(batch):
                predicted, parameters = _predict(annotator, batch, body)
                kept.append(protocol.measure(predicted, batch.instances, body))
                rows.append(parameters)
                people += [(protocol.sequence(s), s.image_path) for s in batch.samples]
                seen |= {(s.key, i.annotation_id) for s, i in zip(batch.samples, batch.instances, strict=True)}
        lost = [(s, i) for s, _ in samples for i in s.instances if (s.key, i.annotation_id) not in seen]
        if lost and (found := protocol.missed([i for _, i in lost])) is not None:
            kept_of_missed.append(found)
            missed += [(protocol.sequence(s), s.image_path) for s, _ in lost]
    if not rows:
        reasons = dict(left_out) or "nothing"
        raise EngineError(f"shard set {shards.url}: expected persons with {protocol.truth}, found none to score; left out: {reasons}")
    sequences, frames = (np.array(names) for names in zip(*people, *missed, strict=True))
    errors = protocol.errors(joined([*kept, *kept_of_missed]), frames)
    return Evaluation(errors, sequences, _table(rows, errors), dict(left_out))


def scored_samples(
    shards: ShardSet, unfit: Callable[[Sample, Instance], str | None], left_out: Counter, entries: Iterable | None = None
) -> Iterator[list[StoredSample]]:
    """Samples with their images, a list a shard, holding only the persons for whom `unfit` has no reason; reasons are counted."""
    for entry in shards.manifest.shards if entries is None else entries:
        kept = []
        for sample, image in read_samples(shards.fetch(entry), entry):
            reasons = [unfit(sample, instance) for instance in sample.instances]
            left_out.update(reason for reason in reasons if reason is not None)
            persons = tuple(i for i, reason in zip(sample.instances, reasons, strict=True) if reason is None)
            if persons:
                kept.append((sample.model_copy(update={"instances": persons}), image))
        yield kept


def _predict(annotator: Annotator, batch: CropBatch, body: Body) -> tuple[PredictedPeople, Kept]:
    """The persons of a batch as meshes, and everything of them but errors as columns of PREDICTIONS_SCHEMA."""
    prediction = predict_padded(annotator, batch, len(batch))
    parameters = {"pose": prediction.pose_N72, "betas": prediction.betas_N10, "transl": prediction.cam_transl_N3}
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            key = batch.samples[int(np.argwhere(~np.isfinite(values))[0, 0])].key
            raise EngineError(f"network {annotator.digest[:12]}: its {name} is not finite, first for sample {key}; its training diverged")
    focal, princpt = camera_to_image(batch.boxes_N4, annotator.crop.hw)
    vertices = mesh(body, prediction.pose_N72, prediction.betas_N10)
    names = {"key": [s.key for s in batch.samples], "annotation_id": [i.annotation_id for i in batch.instances]}
    return PredictedPeople(vertices, prediction.cam_transl_N3, focal, princpt), names | parameters | {"focal": focal, "princpt": princpt}


def _table(batches: list[Kept], errors: PersonErrors) -> pa.Table:
    columns = {}
    for name in batches[0]:
        values = np.concatenate([batch[name] for batch in batches])
        columns[name] = pa.array(values.tolist(), pa.string()) if values.ndim == 1 else _fixed_list(values)
    for name in ("mpjpe", "pa_mpjpe"):
        columns[f"{name}_mm"] = pa.array(errors.column(name)[: len(columns["key"])].astype(np.float32))
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def _fixed_list(values_NK: np.ndarray) -> pa.Array:
    values = np.ascontiguousarray(values_NK, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
