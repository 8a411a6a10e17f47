"""An image to be stored and its persons, as plain data: what is spooled to disk, sent to workers and assembled to a sample's bytes.

Loaders have validated every person; from there on its canonical JSON is carried as it is, so that nobody validates it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

from schemas.records import canonical_json
from schemas.sample import Instance


class Source(NamedTuple):
    """Where an image's bytes are. `path` is relative to the dataset's root, or absolute outside of it."""

    kind: Literal["file", "slice", "frame"]
    path: str
    at: int = 0
    """Of a slice its first byte; of a video the frame's number."""
    size: int = 0
    """Of a slice its bytes."""

    def below(self, root: str) -> str:
        return os.path.join(root, self.path)


class Person(NamedTuple):
    """One person to be stored."""

    annotation_id: str
    bbox_xywh: tuple[float, float, float, float]
    json: str
    """Canonical JSON of its Instance."""


class Picture(NamedTuple):
    """One image with its persons. Width and height are those of the annotation, None where it does not say."""

    key: str
    image_path: str
    source: Source
    width: int | None
    height: int | None
    persons: tuple[Person, ...]

    @property
    def annotated_wh(self) -> tuple[int, int] | None:
        return None if self.width is None or self.height is None else (self.width, self.height)


def person_json(person: Instance) -> str:
    """The canonical JSON of a person's `model_dump`, without the copy that `model_dump` makes: a third of the time."""
    fields = vars(person)
    if person.joints_univ is None:  # absent then, as the schema says
        fields = {name: value for name, value in fields.items() if name != "joints_univ"}
    return _ENCODER.encode(fields)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=vars)


def digest(pictures: Sequence[Picture]) -> str:
    """sha256 over everything that is known of these pictures before their bytes are read."""
    sha256 = hashlib.sha256()
    for picture in pictures:
        head = [picture.key, picture.image_path, *picture.source, picture.width, picture.height, len(picture.persons)]
        sha256.update(b"".join([canonical_json(head), *(person.json.encode() for person in picture.persons)]))
    return sha256.hexdigest()


def sample_json(dataset: str, picture: Picture, persons: Sequence[Person], wh: tuple[int, int], exif_orientation: int) -> bytes:
    """The bytes that `Sample.to_bytes` has for a whole photograph, made of what is there already."""
    return b'{"dataset":%s,"exif_orientation":%d,"height":%d,"image_path":%s,"instances":[%s],"key":"%s","width":%d}' % (
        canonical_json(dataset),
        exif_orientation,
        wh[1],
        canonical_json(picture.image_path),
        ",".join([person.json for person in persons]).encode(),
        picture.key.encode(),
        wh[0],
    )
