"""Persons of one skeleton as arrays, so that millions are checked a thousand at a time.

Shapes: P persons of one skeleton, J its joints. Pixels, metres and frames as in schemas/sample.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.sample import Instance
from schemas.skeleton import Skeleton
from schemas.skeletons import SKELETONS


@dataclass(frozen=True)
class Person:
    """One person and where they were found. `size`: of the image, None where nobody knows it."""

    key: str
    image_path: str
    instance: Instance
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Group:
    """Persons of one skeleton as arrays; NaN where a person lacks something."""

    skeleton: Skeleton
    persons: Sequence[Person]
    size_P2: np.ndarray
    box_P4: np.ndarray
    joints_PJ2: np.ndarray
    valid_PJ: np.ndarray
    cam_PJ3: np.ndarray
    focal_P2: np.ndarray
    princpt_P2: np.ndarray

    def where(self, mask_P: np.ndarray) -> Iterator[tuple[int, str, str]]:
        """Row, key and annotation id of the persons a mask marks."""
        for row in np.flatnonzero(mask_P):
            yield int(row), self.persons[row].key, self.persons[row].instance.annotation_id


def groups(persons: Sequence[Person]) -> list[Group]:
    """Persons by skeleton, each group in order."""
    by_skeleton: dict[str, list[Person]] = {}
    for person in persons:
        by_skeleton.setdefault(person.instance.skeleton, []).append(person)
    return [_group(SKELETONS[name], found) for name, found in by_skeleton.items()]


def _group(skeleton: Skeleton, persons: Sequence[Person]) -> Group:
    nothing, nowhere = (np.nan, np.nan), np.full((len(skeleton), 3), np.nan)
    cameras = [p.instance.camera for p in persons]
    return Group(
        skeleton,
        persons,
        size_P2=np.array([p.size or nothing for p in persons], np.float64),
        box_P4=np.array([p.instance.bbox_xywh for p in persons], np.float64),
        joints_PJ2=np.array([p.instance.joints_img for p in persons], np.float64),
        valid_PJ=np.array([p.instance.joints_valid for p in persons], bool),
        cam_PJ3=np.array([nowhere if p.instance.joints_cam is None else p.instance.joints_cam for p in persons], np.float64),
        focal_P2=np.array([nothing if c is None else c.focal for c in cameras], np.float64),
        princpt_P2=np.array([nothing if c is None else c.princpt for c in cameras], np.float64),
    )
