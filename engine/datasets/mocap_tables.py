"""The large files of a MoCap set in the authors' JSON layout, read as streams into compact tables of what a split wants of them.

A data file says which image shows which instant through which camera, and where its persons are; a joint file says where the joints of
an instant are in the world. What is odd costs its own persons: images and annotations that lack a field, instants without joints.

Legend: J joints, I instants.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.datasets.fixed_cameras import MM, Key
from engine.datasets.json_stream import array_items, leaves
from engine.datasets.plausible import wrong_size
from engine.errors import RawDataError

ODD = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What a record raises that lacks a field or has another thing in its place."""
INVALID, UNKNOWN = "invalid_annotation", "unknown_image"
_BATCH = 1 << 14


@dataclass(frozen=True)
class Fields:
    """Fields of an image record that name its instant and its camera, in the nesting order of the files that are keyed by them."""

    instant: tuple[str, ...]
    camera: tuple[str, ...]


@dataclass
class ImageTable:
    """Wanted images, a row each, and why the others are not."""

    file_names: list[str] = field(default_factory=list)
    columns: array = field(default_factory=lambda: array("q"))
    """Id, width, height, camera and instant; the last two count the keys below."""
    cameras: dict[Key, int] = field(default_factory=dict)
    instants: dict[Key, int] = field(default_factory=dict)
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Ids of all images in ascending order, and for each its row, or -1 - the place of the reason it is left out for."""
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    reasons: tuple[str, ...] = ()

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Row of each image by its id, negative where there is none, and for those why, in order."""
        place = np.searchsorted(self.ids, ids)
        known = place < len(self.ids)
        known[known] = self.ids[place[known]] == ids[known]
        rows = np.full(len(ids), -1 - len(self.reasons), np.int64)
        rows[known] = self.rows[place[known]]
        return rows, [(*self.reasons, UNKNOWN)[-1 - row] for row in rows[rows < 0]]


@dataclass
class PersonTable:
    """Annotations of wanted images, a row each, and the reasons of all others."""

    ids: list[str] = field(default_factory=list)
    image: array = field(default_factory=lambda: array("q"))
    """Row in the image table."""
    bbox: array = field(default_factory=lambda: array("d"))
    skipped: Counter[str] = field(default_factory=Counter)


def read_images(path: Path, fields: Fields, unwanted: Callable[[dict[str, Any]], str | None]) -> ImageTable:
    """The image table of a data file. RawDataError if it is no such file."""
    found, reasons = ImageTable(), dict[str, int]()
    ids, rows = array("q"), array("q")
    for image in array_items(path, "images"):
        try:
            identity = whole(image["id"])
        except ODD:
            continue  # nobody can refer to it: its persons are of an unknown image
        try:
            reason = unwanted(image)
            if reason is None:
                camera, instant = (tuple(whole(image[name]) for name in names) for names in (fields.camera, fields.instant))
                size, file_name = [whole(image["width"]), whole(image["height"])], image["file_name"]
                reason = None if isinstance(file_name, str) else INVALID
        except ODD:
            reason = INVALID
        ids.append(identity)
        if reason is not None:
            rows.append(-1 - reasons.setdefault(reason, len(reasons)))
            continue
        rows.append(len(found.file_names))
        found.file_names.append(file_name)
        places = (found.cameras.setdefault(camera, len(found.cameras)), found.instants.setdefault(instant, len(found.instants)))
        found.columns.extend((identity, *size, *places))
    order = np.argsort(np.array(ids, np.int64), kind="stable")
    found.ids, found.rows, found.reasons = np.array(ids, np.int64)[order], np.array(rows, np.int64)[order], tuple(reasons)
    return found


def read_persons(path: Path, images: ImageTable) -> PersonTable:
    """The annotations of a data file, joined with its images whatever their order in it. RawDataError if it is no such file."""
    found = PersonTable()
    annotations = _annotations(path)
    while batch := list(islice(annotations, _BATCH)):
        sound = [annotation for annotation in batch if annotation is not None]
        found.skipped[INVALID] += len(batch) - len(sound)
        rows, reasons = images.find(np.array([image for _, image, _ in sound], np.int64))
        found.skipped.update(reasons)
        for (identity, _, bbox), row in zip(sound, rows.tolist(), strict=True):
            if row >= 0:
                found.ids.append(identity)
                found.image.append(row)
                found.bbox.extend(bbox)
    return found


def _annotations(path: Path) -> Iterator[tuple[str, int, tuple[float, ...]] | None]:
    for annotation in array_items(path, "annotations"):
        try:
            x, y, w, h = map(float, annotation["bbox"])
            yield str(annotation["id"]), whole(annotation["image_id"]), (x, y, w, h)
        except ODD:
            yield None


def read_joints(path: Path, joints: int, instants: Mapping[Key, int]) -> np.ndarray:
    """Joints of the wanted instants in world metres, (I, J, 3); NaN where the file has none or odd ones.

    RawDataError if it is not JSON or is not in millimetres.
    """
    found = np.full((len(instants), joints, 3), np.nan)
    for index, record in of_instants(path, instants):
        try:
            found[index] = np.asarray(record, np.float64).reshape(joints, 3) * MM
        except ODD:
            continue
    if unit := wrong_size(found[np.isfinite(found).all((1, 2))]):
        raise RawDataError(f"{path}: {unit}")
    return found


def of_instants(path: Path, instants: Mapping[Key, int]) -> Iterable[tuple[int, Any]]:
    """Records of a file keyed by instants, with the number of their instant; those nobody wants are passed over."""
    depth = len(next(iter(instants), ()))
    for keys, record in leaves(path, depth) if depth else ():
        try:
            index = instants.get(tuple(map(int, keys)))
        except ValueError:
            continue
        if index is not None:
            yield index, record


def whole(value: Any) -> int:
    """A whole number of 64 bits, given as an int, a float or text. ValueError or TypeError for anything else."""
    number = int(value)
    if isinstance(value, bool) or number != float(value) or abs(number) >= 1 << 62:
        raise ValueError(f"expected a whole number, found {value!r}")
    return number
