"""Every person of a list of samples as crops, in order, for annotation and evaluation: no augmentation, nothing dropped silently.

An image is decoded once for all its persons, and only the part of it that their crops look at. Batches have one constant size across
images (the last is shorter), which is what networks like and what makes a shard done twice give the same bytes.

Shapes: N crops of a batch, H x W crop.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

from engine import faults
from engine.errors import SampleRejected
from engine.loading.augmentation import Augmentation
from engine.loading.boxes import person_box
from engine.loading.canvas import Canvas
from engine.loading.crops import crop_affines, looked_at, onto_stored, window_record
from engine.loading.decode import Box, Decoder, Part, size_problem
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.sample import Instance, Sample

IMAGE_ERROR = "image_error"
"""Reason of an image over which decoding or cropping raised something nobody had thought of; the message says what."""
_CHUNK_PERSONS = 64
"""Crops of a chunk, at most, but for the persons of its last image: it bounds memory where photographs hold crowds."""

StoredSample = tuple[Sample, bytes]
"""A sample and the bytes of its image."""


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


class PersonCutter:
    """Cuts the persons of some samples. Not for concurrent use: one a thread."""

    def __init__(self, decoder: Decoder, crop: CropSpec) -> None:
        self.decoder, self.crop = decoder, crop
        self._canvas = Canvas()

    def cut(self, samples: Sequence[StoredSample], known: Sequence[QuarantineRow] = ()) -> CropBatch:
        """Crops of every instance. Instances in the batch plus `rejected` ones are all there were.

        Reasons of rejection: 'undecodable', 'too_large', 'size_mismatch', IMAGE_ERROR (a whole image), 'degenerate_box' (one person), and
        those of `known`: images and persons that are not to be touched, each by its own row.
        """
        try:
            return self._cut(samples, known)
        except Exception as error:
            if len(samples) == 1:
                self._require_health(error)
                row = _row(samples[0][0], None, SampleRejected(IMAGE_ERROR, f"{type(error).__name__}: {error}"))
                return nobody(self.crop, [row])
        return merge([self.cut([sample], known) for sample in samples])

    def _cut(self, samples: Sequence[StoredSample], known: Sequence[QuarantineRow]) -> CropBatch:
        shunned = {(row.key, row.annotation_id): row for row in known}
        people: list[tuple[int, Instance, np.ndarray]] = []
        rejected: list[list[QuarantineRow]] = [[] for _ in samples]
        for i, (sample, _) in enumerate(samples):
            if (row := shunned.get((sample.key, None))) is not None:
                rejected[i].append(row)
                continue
            for instance in sample.instances:
                try:
                    if (row := shunned.get((sample.key, instance.annotation_id))) is not None:
                        rejected[i].append(row)
                    else:
                        people.append((i, instance, person_box(instance.bbox_xywh, (sample.width, sample.height), self.crop)))
                except SampleRejected as problem:
                    rejected[i].append(_row(sample, instance, problem))
        if not people:
            return nobody(self.crop, [row for rows in rejected for row in rows])
        image_N = np.array([i for i, _, _ in people])
        boxes_N4 = np.stack([box for _, _, box in people])
        affines_N23 = crop_affines(boxes_N4, self.crop.hw, Augmentation.identity(len(people)))
        stored_N23 = onto_stored(affines_N23, np.stack([window_record(sample) for sample, _ in samples])[image_N])
        crops_NHW3 = np.empty((len(people), *self.crop.hw, 3), np.uint8)
        kept_N = np.ones(len(people), bool)
        of_image = {i: np.flatnonzero(image_N == i).tolist() for i in dict.fromkeys(image_N.tolist())}
        for i, part in self._decoded(samples, of_image, looked_at(stored_N23, self.crop.hw)):
            sample = samples[i][0]
            problem = part if isinstance(part, SampleRejected) else size_problem(part.image_wh, sample.stored_wh)
            if problem is not None:
                kept_N[of_image[i]] = False
                instances = len(sample.instances) - sum(row.instances for row in rejected[i])
                rejected[i].append(_row(sample, None, problem).model_copy(update={"instances": instances}))
                continue
            self._canvas.lay(part)
            for n in of_image[i]:
                self._canvas.cut(stored_N23[n], crops_NHW3[n])
        if not kept_N.all():
            people = [person for person, kept in zip(people, kept_N, strict=True) if kept]
            crops_NHW3, boxes_N4, affines_N23 = crops_NHW3[kept_N], boxes_N4[kept_N], affines_N23[kept_N]
        batch = CropBatch(crops_NHW3, boxes_N4, affines_N23, [samples[i][0] for i, _, _ in people], [p for _, p, _ in people])
        batch.rejected = [row for rows in rejected for row in rows]
        return batch

    def _decoded(
        self, samples: Sequence[StoredSample], of_image: dict[int, list[int]], looked_N4: np.ndarray
    ) -> Iterator[tuple[int, Part | SampleRejected]]:
        """Every wanted sample with as many of its pixels as are looked at, valid until the next one is asked for."""
        wanted = list(of_image)
        for start in range(0, len(wanted), self.decoder.max_batch):
            chunk = wanted[start : start + self.decoder.max_batch]
            for i in chunk:
                faults.hit("decode", samples[i][0].key)
            boxes: list[Box] = []
            for i in chunk:
                looked_K4 = looked_N4[of_image[i]]
                boxes.append((*looked_K4[:, :2].min(0).tolist(), *looked_K4[:, 2:].max(0).tolist()))
            yield from zip(chunk, self.decoder.decode_parts([samples[i][1] for i in chunk], boxes, copy=False), strict=True)

    def _require_health(self, error: Exception) -> None:
        """Nothing when a sound photograph can be cut, so that `error` is of the image; else raises `error`, which is of the machine."""
        try:
            self._cut([_sound_photograph()], ())
        except Exception:
            raise error from None


def person_batches(samples: Sequence[StoredSample], decoder: Decoder, crop: CropSpec, batch_size: int) -> Iterator[CropBatch]:
    """Crops of every instance, `batch_size` at a time; see `PersonCutter.cut` for what is rejected."""
    cutter = PersonCutter(decoder, crop)
    grouping = Regrouping(batch_size, crop)
    for chunk in chunks(samples, decoder.max_batch):
        yield from grouping.add(cutter.cut(chunk))
    yield from grouping.rest()


def chunks(samples: Sequence[StoredSample], images: int) -> Iterator[Sequence[StoredSample]]:
    """Consecutive samples, at most `images` of them and not many more than 64 persons at a time."""
    start = persons = 0
    for at, (sample, _) in enumerate(samples):
        if at > start and (at - start == images or persons >= _CHUNK_PERSONS):
            yield samples[start:at]
            start, persons = at, 0
        persons += len(sample.instances)
    if start < len(samples):
        yield samples[start:]


class Regrouping:
    """Takes batches of any size and gives the same persons in the same order in batches of one size, the last one shorter."""

    def __init__(self, batch_size: int, crop: CropSpec) -> None:
        self._size, self._crop = batch_size, crop
        self._held: list[CropBatch] = []
        self._rejected: list[QuarantineRow] = []

    def add(self, batch: CropBatch) -> Iterator[CropBatch]:
        """The batches that are full now."""
        self._rejected += batch.rejected
        at = 0
        while at < len(batch):
            taken = _part(batch, at, at + self._size - sum(map(len, self._held)))
            self._held.append(taken)
            at += len(taken)
            if sum(map(len, self._held)) == self._size:
                yield self._take()

    def rest(self) -> Iterator[CropBatch]:
        """The last batch, where there is anything left to say."""
        if self._held or self._rejected:
            yield self._take()

    def _take(self) -> CropBatch:
        held, rejected = self._held, self._rejected
        self._held, self._rejected = [], []
        batch = merge(held) if held else nobody(self._crop)
        batch.rejected = rejected
        return batch


def merge(batches: Sequence[CropBatch]) -> CropBatch:
    """One batch of all; its arrays are those of the only batch where there is one."""
    if len(batches) == 1:
        b = batches[0]
        return CropBatch(b.crops_NHW3, b.boxes_N4, b.affines_N23, list(b.samples), list(b.instances), list(b.rejected))
    merged = CropBatch(*(np.concatenate([getattr(b, name) for b in batches]) for name in ("crops_NHW3", "boxes_N4", "affines_N23")))
    for name in ("samples", "instances", "rejected"):
        setattr(merged, name, [item for b in batches for item in getattr(b, name)])
    return merged


def nobody(crop: CropSpec, rejected: Iterable[QuarantineRow] = ()) -> CropBatch:
    """A batch without persons."""
    return CropBatch(np.empty((0, *crop.hw, 3), np.uint8), np.empty((0, 4)), np.empty((0, 2, 3)), rejected=list(rejected))


def take(batch: CropBatch, places: np.ndarray) -> CropBatch:
    """Some persons of a batch, in this order, without what was rejected before it."""
    some = CropBatch(batch.crops_NHW3[places], batch.boxes_N4[places], batch.affines_N23[places])
    some.samples, some.instances = [batch.samples[i] for i in places], [batch.instances[i] for i in places]
    return some


def _part(batch: CropBatch, start: int, stop: int) -> CropBatch:
    at = slice(start, stop)
    return CropBatch(batch.crops_NHW3[at], batch.boxes_N4[at], batch.affines_N23[at], batch.samples[at], batch.instances[at])


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


@cache
def _sound_photograph() -> StoredSample:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(buffer, "JPEG")
    person = Instance(annotation_id="1", bbox_xywh=(8, 8, 40, 40), skeleton="coco17", joints_img=((0, 0),) * 17, joints_valid=(False,) * 17)
    return Sample(key="sound", dataset="none", image_path="none", width=64, height=64, instances=(person,)), buffer.getvalue()
