"""Every person of a list of samples as crops, in order, for annotation and evaluation: no augmentation, nothing dropped silently.

An image is decoded once for all its persons, and batches have one constant size across images (the last is shorter), which is
what networks like and what makes a shard done twice give the same bytes.

Shapes: N crops of a batch, H x W crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.errors import SampleRejected
from engine.loading.boxes import person_box
from engine.loading.crops import crop_affine, onto_stored, warp, window_record
from engine.loading.decode import Decoder, size_problem
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.sample import Instance, Sample


@dataclass
class CropBatch:
    """N persons: crops uint8 RGB, processed boxes (xywh, photograph px), affines (photograph -> crop px), and who they are.

    `rejected` says what was met since the batch before and could not be cropped. A batch may have N = 0 and only that.
    """

    crops_NHW3: np.ndarray
    boxes_N4: np.ndarray
    affines_N23: np.ndarray
    samples: list[Sample] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    rejected: list[QuarantineRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.instances)


def person_batches(samples: list[tuple[Sample, bytes]], decoder: Decoder, crop: CropSpec, batch_size: int) -> Iterator[CropBatch]:
    """Crops of every instance, `batch_size` at a time. Instances in all batches plus `rejected` ones are all there were.

    Reasons of rejection: 'undecodable', 'too_large', 'size_mismatch' (a whole image), 'degenerate_box' (one person).
    """
    batch = _empty(batch_size, crop.hw)
    for start in range(0, len(samples), decoder.max_batch):
        chunk = samples[start : start + decoder.max_batch]
        full = []
        for (sample, _), pixels in zip(chunk, decoder.decode([image for _, image in chunk], copy=False), strict=True):
            problem = pixels if isinstance(pixels, SampleRejected) else size_problem(pixels.shape[1::-1], sample.stored_wh)
            if problem is not None:
                batch.rejected.append(_row(sample, None, problem))
                continue
            window_1 = window_record(sample)[None]
            for instance in sample.instances:
                try:
                    box_4 = person_box(instance.bbox_xywh, (sample.width, sample.height), crop)
                except SampleRejected as rejected:
                    batch.rejected.append(_row(sample, instance, rejected))
                    continue
                n = len(batch)
                batch.boxes_N4[n], batch.affines_N23[n] = box_4, crop_affine(box_4, crop.hw)
                warp(pixels, onto_stored(batch.affines_N23[n : n + 1], window_1)[0], crop.hw, out=batch.crops_NHW3[n])
                batch.samples.append(sample)
                batch.instances.append(instance)
                if len(batch) == batch_size:
                    full.append(batch)
                    batch = _empty(batch_size, crop.hw)
        yield from full  # pixels are lent by the decoder, so nothing is handed out before they are cropped
    if len(batch) or batch.rejected:
        n = len(batch)
        batch.crops_NHW3, batch.boxes_N4, batch.affines_N23 = batch.crops_NHW3[:n], batch.boxes_N4[:n], batch.affines_N23[:n]
        yield batch


def _empty(batch_size: int, crop_hw: tuple[int, int]) -> CropBatch:
    return CropBatch(np.zeros((batch_size, *crop_hw, 3), np.uint8), np.zeros((batch_size, 4)), np.zeros((batch_size, 2, 3)))


def _row(sample: Sample, instance: Instance | None, rejected: SampleRejected) -> QuarantineRow:
    """One image (all its persons) or one person that cannot be used."""
    annotation_id, instances = (None, len(sample.instances)) if instance is None else (instance.annotation_id, 1)
    return QuarantineRow(
        dataset=sample.dataset,
        key=sample.key,
        annotation_id=annotation_id,
        reason=rejected.reason,
        message=str(rejected),
        instances=instances,
    )
