"""MPII's original annotation, `mpii_human_pose_v1_u12_1.mat`, with all that is irregular in it.

`RELEASE` is a struct with `annolist` (an image each) and `img_train` (1 for training, 0 for test). An image has `annorect`: none, one or
several persons, whose fields differ from image to image. A person has `annopoints.point`: missing, empty, one struct or several, each
with x, y (MATLAB's, from 1) and id (0 to 15). `is_visible` is missing, empty, a number or text, and is not read: a joint that has a
point is labelled. Test persons have no points.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.datasets.base import SkippedInstances, Unreadable
from engine.datasets.coco_json import Joints
from engine.datasets.matlab import cells, number, read_mat
from engine.errors import RawDataError
from schemas.skeletons import MPII16

IMG_TRAIN = {"train": 1, "test": 0}


class ListedPerson(NamedTuple):
    """A person of an image, by its place among the image's persons, from 0."""

    image: str
    number: int
    joints: Joints | SkippedInstances
    """In MATLAB's coordinates."""


def release_persons(path: Path, split: str) -> Iterator[ListedPerson | Unreadable]:
    """Persons of the images of a split, 'train' or 'test'. RawDataError if the file is damaged or holds something else."""
    release = read_mat(path, "RELEASE")["RELEASE"]
    try:
        images, in_train = cells(release["annolist"]), np.asarray(release["img_train"], np.float64).ravel()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RawDataError(f"{path}: expected MPII's RELEASE with annolist and img_train, found {error!r}") from None
    if len(images) != len(in_train):
        raise RawDataError(f"{path}: expected one img_train an image, found {len(in_train)} for {len(images)} images")
    for i, image in enumerate(images):
        if in_train[i] != IMG_TRAIN[split]:
            continue
        persons = cells(image.get("annorect", np.empty(0))) if isinstance(image, dict) else []
        name = _name(image)
        if name is None:
            message = f"{path}: expected image.name in image {i + 1} of annolist, found none"
            yield Unreadable(f"annolist_{i + 1}", "annotation_unreadable", message, len(persons))
            continue
        for n, person in enumerate(persons):
            yield ListedPerson(name, n, _joints(person))


def _name(image: Any) -> str | None:
    named = image.get("image") if isinstance(image, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) and name else None


def _joints(person: Any) -> Joints | SkippedInstances:
    if not isinstance(person, dict):
        return SkippedInstances("invalid_annotation")
    points = _points(person)
    if not points:
        return SkippedInstances("no_keypoints")
    places, valid = [(0.0, 0.0)] * len(MPII16), [False] * len(MPII16)
    for point in points:
        x, y, joint = (number(point.get(name)) for name in ("x", "y", "id")) if isinstance(point, dict) else (None,) * 3
        if x is None or y is None or joint not in range(len(MPII16)) or valid[int(joint)]:
            return SkippedInstances("invalid_annotation")
        places[int(joint)], valid[int(joint)] = (x, y), True
    return Joints(places, valid)


def _points(person: dict[str, Any]) -> list[Any]:
    annotated = cells(person.get("annopoints", np.empty(0)))
    if not annotated or not isinstance(annotated[0], dict):
        return []
    return cells(annotated[0].get("point", np.empty(0)))
