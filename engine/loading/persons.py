"""Every person of a list of samples as crops, in order, for annotation and evaluation: no augmentation, nothing dropped silently.

An image is decoded once for all its persons, and only the part of it that their crops look at. Batches have one constant size across
images (the last is shorter), which is what networks like and what makes a shard done twice give the same bytes.

Shapes: N crops of a batch, H x W crop.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from PIL import Image

from engine import faults
from engine.errors import SampleRejected
from engine.loading.augmentation import Augmentation
from engine.loading.boxes import person_box
from engine.loading.canvas import Canvas
from engine.loading.crops import WINDOW, crop_affines, looked_at, onto_stored, window_record
from engine.loading.decode import Box, Decoder, Part, size_problem
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.sample import Instance, Sample

IMAGE_ERROR = "image_error"
"""Reason of an image over which decoding or cropping raised something nobody had thought of; the message says what."""
_CHUNK_PERSONS = 64
"""Crops of a chunk, at most, but for the persons of its last image: it bounds memory where photographs hold crowds."""

_BRIEF = 300
_NO_CROPS = np.empty((0, 0, 0, 3), np.uint8)

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


@dataclass
class People:
    """The P persons of consecutive samples that can be cropped, in order, before any pixel is looked at.

    image_P: place of each person's sample; looked_P4: what is looked at of the stored image, px. `rejected`: the others, who and why.
    """

    samples: Sequence[StoredSample]
    instances: list[Instance]
    image_P: np.ndarray
    boxes_P4: np.ndarray
    affines_P23: np.ndarray
    stored_P23: np.ndarray
    looked_P4: np.ndarray
    rejected: list[QuarantineRow]

    def __len__(self) -> int:
        return len(self.instances)

    def chunks(self, images: int) -> list[range]:
        """Consecutive samples, at most `images` of them and not many more than 64 persons at a time."""
        persons_I = np.bincount(self.image_P, minlength=len(self.samples))
        found, start, persons = [], 0, 0
        for at, count in enumerate(persons_I.tolist()):
            if at > start and (at - start == images or persons >= _CHUNK_PERSONS):
                found.append(range(start, at))
                start, persons = at, 0
            persons += count
        return [*found, range(start, len(self.samples))] if len(self.samples) else found

    def batch(self, start: int, stop: int) -> CropBatch:
        """Persons [start, stop), without crops."""
        at = slice(start, stop)
        samples = [self.samples[i][0] for i in self.image_P[at]]
        return CropBatch(_NO_CROPS, self.boxes_P4[at], self.affines_P23[at], samples, self.instances[at])


def find_people(samples: Sequence[StoredSample], crop: CropSpec, known: Sequence[QuarantineRow] = ()) -> People:
    """Who is to be cropped, and who cannot be: 'degenerate_box', and the images and persons of `known`, each by its own row."""
    shunned = {(row.key, row.annotation_id): row for row in known}
    image, instances, boxes, rejected = [], [], [], []
    for i, (sample, _) in enumerate(samples):
        if (row := shunned.get((sample.key, None))) is not None:
            rejected.append(row)
            continue
        for instance in sample.instances:
            try:
                if (row := shunned.get((sample.key, instance.annotation_id))) is not None:
                    rejected.append(row)
                    continue
                boxes.append(person_box(instance.bbox_xywh, (sample.width, sample.height), crop))
            except SampleRejected as problem:
                rejected.append(_row(sample, instance, problem))
                continue
            image.append(i)
            instances.append(instance)
    image_P, boxes_P4 = np.array(image, np.int64), np.array(boxes, np.float64).reshape(-1, 4)
    affines_P23 = crop_affines(boxes_P4, crop.hw, Augmentation.identity(len(image)))
    windows_P = np.array([window_record(sample) for sample, _ in samples], WINDOW)[image_P]
    stored_P23 = onto_stored(affines_P23, windows_P)
    return People(samples, instances, image_P, boxes_P4, affines_P23, stored_P23, looked_at(stored_P23, crop.hw), rejected)


class PersonCutter:
    """Cuts people out of their photographs. Not for concurrent use: one a thread."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._canvas = Canvas()

    def cut(self, people: People, images: range, places: Callable[[int], np.ndarray]) -> list[tuple[list[int], QuarantineRow]]:
        """Write the crop (H, W, 3) uint8 of every person p of these samples to `places(p)`.

        Returns, for every image that cannot be used, its persons, whose places hold anything, and its quarantine row: 'undecodable',
        'too_large', 'size_mismatch', or IMAGE_ERROR with the message of what was raised over it.
        """
        try:
            return self._cut(people, images, places)
        except (MemoryError, OSError):  # the machine's
            raise
        except Exception as error:
            if len(images) == 1:
                self._require_health(error)
                return [self._rejected(people, images[0], SampleRejected(IMAGE_ERROR, brief(error)))]
        return [found for image in images for found in self.cut(people, range(image, image + 1), places)]

    def _cut(self, people: People, images: range, places: Callable[[int], np.ndarray]) -> list[tuple[list[int], QuarantineRow]]:
        rejected = []
        first, last = np.searchsorted(people.image_P, (images.start, images.stop)).tolist()
        of_image: dict[int, list[int]] = {}
        for p, i in enumerate(people.image_P[first:last].tolist(), first):
            of_image.setdefault(i, []).append(p)
        for i, part in self._decoded(people, of_image):
            sample = people.samples[i][0]
            problem = part if isinstance(part, SampleRejected) else size_problem(part.image_wh, sample.stored_wh)
            if problem is not None:
                rejected.append(self._rejected(people, i, problem))
                continue
            self._canvas.lay(part)
            for p in of_image[i]:
                self._canvas.cut(people.stored_P23[p], places(p))
        return rejected

    def _decoded(self, people: People, of_image: dict[int, list[int]]) -> Iterator[tuple[int, Part | SampleRejected]]:
        """Every sample with as many of its pixels as are looked at, valid until the next one is asked for."""
        wanted = list(of_image)
        for start in range(0, len(wanted), self.decoder.max_batch):
            chunk = wanted[start : start + self.decoder.max_batch]
            if faults.armed("decode"):
                for i in chunk:
                    faults.hit("decode", people.samples[i][0].key)
            boxes: list[Box] = []
            for i in chunk:
                looked_K4 = people.looked_P4[of_image[i][0] : of_image[i][-1] + 1]
                boxes.append((*looked_K4[:, :2].min(0).tolist(), *looked_K4[:, 2:].max(0).tolist()))
            yield from zip(chunk, self.decoder.decode_parts([people.samples[i][1] for i in chunk], boxes, copy=False), strict=True)

    def _rejected(self, people: People, image: int, problem: SampleRejected) -> tuple[list[int], QuarantineRow]:
        persons = np.flatnonzero(people.image_P == image).tolist()
        return persons, _row(people.samples[image][0], None, problem).model_copy(update={"instances": len(persons)})

    def _require_health(self, error: Exception) -> None:
        """Nothing when a sound photograph can be cut, so that `error` is of the image; else raises `error`, which is of the machine."""
        people = find_people([_sound_photograph()], CropSpec(64, 64))
        try:
            broken = self._cut(people, range(1), lambda p: np.empty((64, 64, 3), np.uint8))
        except Exception:
            raise error from None
        if broken:
            raise error


class Filling:
    """Batches of one size that are filled with crops in any order, by any thread, and known to be full when all their persons are done.

    A person's place depends on the annotation alone: where an image turns out to be broken, its persons' places are left black.
    """

    def __init__(self, people: People, size: int, crop: CropSpec, new: Callable[[], np.ndarray] | None = None) -> None:
        """`new` gives an array (size, H, W, 3) uint8 for a batch, whatever it holds; None: a fresh one."""
        self.people, self.size = people, size
        self.count = max(1, -(-len(people) // size))
        self._new = new or (lambda: np.empty((size, *crop.hw, 3), np.uint8))
        self._crops: dict[int, np.ndarray] = {}
        self._missing = [min(size, len(people) - start) for start in range(0, len(people), size)] or [0]
        self._broken: list[list[int]] = [[] for _ in range(self.count)]
        self._lock = threading.Lock()

    def place(self, person: int) -> np.ndarray:
        """Where the crop of a person is to be written."""
        return self._array(person // self.size)[person % self.size]

    def done(self, images: range, broken: Iterable[int] = ()) -> list[int]:
        """The persons of these samples are written but for the broken ones; the numbers of the batches that are full now."""
        first, last = np.searchsorted(self.people.image_P, (images.start, images.stop)).tolist()
        if first == last:
            return []
        full = []
        with self._lock:
            for person in broken:
                self._broken[person // self.size].append(person % self.size)
            for number in range(first // self.size, -(-last // self.size)):
                self._missing[number] -= min(last, (number + 1) * self.size) - max(first, number * self.size)
                if not self._missing[number]:
                    full.append(number)
        return full

    def take(self, number: int) -> FilledBatch:
        """A full batch. It is no longer kept here."""
        crops_BHW3 = self._array(number)
        n = min(self.size, len(self.people) - number * self.size)
        crops_BHW3[max(n, 0) :] = 0
        broken = sorted(self._broken[number])
        crops_BHW3[broken] = 0
        with self._lock:
            del self._crops[number]
        return FilledBatch(
            number, crops_BHW3, [i for i in range(n) if i not in set(broken)], self.people.batch(number * self.size, number * self.size + n)
        )

    def _array(self, number: int) -> np.ndarray:
        with self._lock:
            if number not in self._crops:
                self._crops[number] = self._new()
            return self._crops[number]


@dataclass(frozen=True)
class FilledBatch:
    """crops_BHW3: of constant size, black where there is nobody. `kept`: places of the persons that have a crop, in order.

    `everybody` are the persons of the batch, in the order of their places; it holds no crops.
    """

    number: int
    crops_BHW3: np.ndarray
    kept: list[int]
    everybody: CropBatch

    def people(self, places: list[int]) -> CropBatch:
        """Who is at these places, without crops."""
        e = self.everybody
        if len(places) == len(e):
            return e
        some = CropBatch(_NO_CROPS, e.boxes_N4[places], e.affines_N23[places])
        some.samples, some.instances = [e.samples[i] for i in places], [e.instances[i] for i in places]
        return some


def person_batches(samples: Sequence[StoredSample], decoder: Decoder, crop: CropSpec, batch_size: int) -> Iterator[CropBatch]:
    """Crops of every instance, at most `batch_size` at a time, in order; nothing for no samples.

    Instances in all batches plus `rejected` ones are all there were; see `find_people` and `PersonCutter.cut` for what is rejected.
    """
    people, cutter = find_people(samples, crop), PersonCutter(decoder)
    filling, rejected = Filling(people, batch_size, crop), list(people.rejected)
    for images in people.chunks(decoder.max_batch):
        problems = cutter.cut(people, images, filling.place)
        rejected += [row for _, row in problems]
        for number in filling.done(images, [p for persons, _ in problems for p in persons]):
            filled = filling.take(number)
            batch = filled.people(filled.kept)
            yield replace(batch, crops_NHW3=filled.crops_BHW3[filled.kept], rejected=rejected)
            rejected = []
    if rejected:
        yield nobody(crop, rejected)


def brief(error: Exception) -> str:
    """Type and first line of an exception, as a quarantine row says it."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"[:_BRIEF]


def nobody(crop: CropSpec, rejected: Iterable[QuarantineRow] = ()) -> CropBatch:
    """A batch without persons."""
    return CropBatch(np.empty((0, *crop.hw, 3), np.uint8), np.empty((0, 4)), np.empty((0, 2, 3)), rejected=list(rejected))


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
