"""Files that say where the persons of your photographs are: JSON in two forms, and CSV. Each is read as a stream.

COCO's form, as annotation tools export it. `categories`, sizes, ids and keypoints may be absent; crowds are left out:

    {"images": [{"id": 7, "file_name": "beach/a.jpg", "width": 1920, "height": 1080}],
     "annotations": [{"id": 1, "image_id": 7, "bbox": [410, 220, 180, 460], "keypoints": [500, 260, 2, ...]}],
     "categories": [{"id": 1, "name": "person", "keypoints": ["nose", ...]}]}

The short form, persons by photograph. `id` and `keypoints` may be absent:

    {"beach/a.jpg": [{"bbox": [410, 220, 180, 460], "id": "anna", "keypoints": [[500, 260, 0.9], ...]}],
     "clip.mp4#120": [{"bbox": [33, 40, 120, 300]}]}

CSV with a header. `id` may be absent:

    image,x,y,width,height,id
    beach/a.jpg,410,220,180,460,anna

Names are relative to the dataset's root; `#n` is frame n, from 0, of a video. Boxes are left, top, width, height; keypoints are x, y and a
score or label, above 0 for a joint that is there, one after the other or as triples, in the order of the config's skeleton (or as COCO's
category names them). All in pixels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from engine.datasets.base import SkippedInstances
from engine.datasets.coco_json import Joints, image_size, keypoint_joints, keypoint_order, triples
from engine.datasets.json_stream import array_items, leaves, top_level
from engine.errors import MissingInput, RawDataError
from schemas.skeleton import Skeleton

_ODD = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What a missing or odd field raises."""
_COLUMNS = ("image", "x", "y", "width", "height")
_MAX_LINE_CHARS = 1 << 16


class BoxedPerson(NamedTuple):
    """One person of a boxes file."""

    image: str
    id: str
    bbox_xywh: tuple[float, float, float, float]
    joints: Joints
    size_wh: tuple[int | None, int | None] = (None, None)
    """Of the image as it was annotated, where the file says it."""


def read_boxes(path: Path, skeleton: Skeleton) -> Iterator[BoxedPerson | SkippedInstances]:
    """Every person of a boxes file in its order; one whose entry is odd is skipped as 'invalid_annotation'.

    RawDataError if the file is of none of the three forms or is cut short.
    """
    if path.suffix.lower() == ".csv":
        return _csv(path, skeleton)
    if path.suffix.lower() != ".json":
        raise RawDataError(f"{path}: expected a boxes file, .json or .csv")
    keys = top_level(path)
    if isinstance(keys, dict) and keys.get("images") == keys.get("annotations") == "[":
        return _coco(path, skeleton, "categories" in keys)
    if isinstance(keys, dict) and set(keys.values()) <= {"["}:
        return _short(path, skeleton)
    raise RawDataError(
        f"{path}: expected an object with the arrays images and annotations, or one with an array of persons for every photograph"
    )


def _csv(path: Path, skeleton: Skeleton) -> Iterator[BoxedPerson | SkippedInstances]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(_lines(file, path))
            if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
                raise RawDataError(f"{path}: expected the columns {', '.join(_COLUMNS)} in its first line, found no {', '.join(missing)}")
            for number, row in enumerate(rows, 1):
                try:
                    box = tuple(float(row[name]) for name in _COLUMNS[1:])
                    yield _person(row["image"], row.get("id") or number, box, _no_joints(skeleton))
                except _ODD:
                    yield SkippedInstances("invalid_annotation")
    except (UnicodeDecodeError, csv.Error) as error:
        raise RawDataError(f"{path}: expected CSV in UTF-8, found {error}") from None
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(_MAX_LINE_CHARS):
        if len(line) == _MAX_LINE_CHARS:
            raise RawDataError(f"{path}: a line has more than {_MAX_LINE_CHARS} characters")
        yield line


def _short(path: Path, skeleton: Skeleton) -> Iterator[BoxedPerson | SkippedInstances]:
    for (image,), persons in leaves(path, 1):
        for number, entry in enumerate(persons):
            try:
                joints = _given(entry["keypoints"], skeleton) if entry.get("keypoints") else _no_joints(skeleton)
                yield _person(image, entry.get("id", number), entry["bbox"], joints)
            except _ODD:
                yield SkippedInstances("invalid_annotation")


def _coco(path: Path, skeleton: Skeleton, has_categories: bool) -> Iterator[BoxedPerson | SkippedInstances]:
    wanted = _person_categories(path) if has_categories else None
    read_joints = keypoint_joints(*keypoint_order(path, skeleton)) if has_categories else None
    images: dict[Any, tuple[str, tuple[int | None, int | None]]] = {}
    for entry in array_items(path, "images"):
        try:
            images.setdefault(entry["id"], (str(entry["file_name"]), image_size(entry)))
        except _ODD:
            continue  # its persons will have no image
    for number, entry in enumerate(array_items(path, "annotations"), 1):
        try:
            if entry.get("iscrowd"):
                yield SkippedInstances("crowd")
            elif wanted is not None and "category_id" in entry and entry["category_id"] not in wanted:
                yield SkippedInstances("other_category")
            elif entry["image_id"] not in images:
                yield SkippedInstances("unknown_image")
            else:
                name, size_wh = images[entry["image_id"]]
                joints = _no_joints(skeleton)
                if entry.get("keypoints"):
                    joints = _cleared(read_joints(entry)) if read_joints else _given(entry["keypoints"], skeleton)
                yield _person(name, entry.get("id", number), entry["bbox"], joints, size_wh)
        except _ODD:
            yield SkippedInstances("invalid_annotation")


def _person_categories(path: Path) -> set[Any] | None:
    """Ids of the categories called person; None, for all, where no category is."""
    found = {c.get("id") for c in array_items(path, "categories") if isinstance(c, dict) and str(c.get("name")).lower() == "person"}
    return found or None


def _person(image: str, id_: Any, box: Any, joints: Joints, size_wh: tuple[int | None, int | None] = (None, None)) -> BoxedPerson:
    x, y, w, h = (float(value) for value in box)
    if not (isinstance(image, str) and image and isinstance(id_, int | str) and isfinite(x + y + w + h)):
        raise ValueError("an odd name, id or box")
    return BoxedPerson(image, str(id_), (x, y, w, h), joints, size_wh)


def _given(keypoints: Any, skeleton: Skeleton) -> Joints:
    """Triples, one after the other or each an array."""
    flat = [value for triple in keypoints for value in triple] if isinstance(keypoints[0], list) else keypoints
    return _cleared(Joints(*triples(flat, len(skeleton))))


def _cleared(joints: Joints) -> Joints:
    return Joints([place if ok else (0.0, 0.0) for place, ok in zip(*joints, strict=True)], joints.valid)


def _no_joints(skeleton: Skeleton) -> Joints:
    return Joints([(0.0, 0.0)] * len(skeleton), [False] * len(skeleton))
