"""Raw datasets and shard sets as one stream: photographs with their persons, and what the source says of those it lost."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.datasets.base import ImageFile, ImageSlice, ImageSource, RawDataset, RawItem, SkippedInstances, Unreadable
from engine.datasets.registry import DATASETS
from engine.errors import EngineError, MissingInput, ShardCorrupt
from engine.shards.reader import ShardSet, read_verified_samples
from schemas.sample import Instance, Sample, Supervision, Window


@dataclass(frozen=True)
class ImageBytes:
    """An image that came with its shard."""

    data: bytes


@dataclass(frozen=True)
class Photograph:
    """One image with some of its persons: several may have one key, as RawItem."""

    key: str
    image_path: str
    image: ImageSource | ImageBytes
    size: tuple[int, int] | None
    """Width and height that boxes and joints refer to, pixels; None where the annotation does not say."""
    persons: tuple[Instance, ...]
    window: Window | None = None
    """The part of the photograph that `image` holds; None: all of it."""

    @property
    def file_size(self) -> tuple[int, int] | None:
        """Width and height that the image file must have, once turned."""
        return self.size if self.window is None else (self.window.stored_width, self.window.stored_height)


@dataclass(frozen=True)
class DamagedShard:
    """A shard that cannot be read."""

    path: str
    message: str


@dataclass(frozen=True)
class EndOfAnnotation:
    """The loader can read no further."""

    message: str


Event = Photograph | SkippedInstances | Unreadable | DamagedShard | EndOfAnnotation


@dataclass(frozen=True)
class Source:
    """What is inspected."""

    kind: Literal["raw", "shards"]
    place: str
    dataset: str
    split: str
    supervision: Supervision
    known_errors: dict[str, str]
    annotation_files: dict[str, int]
    content: RawDataset | ShardSet

    def events(self) -> Iterator[Event]:
        """Everything in the source's own order, once."""
        return _raw(self.content) if isinstance(self.content, RawDataset) else _shards(self.content)


def raw_source(dataset: RawDataset) -> Source:
    """A raw dataset as a source. MissingInput if an annotation file is absent."""
    files = {}
    for path in dataset.annotation_files():
        name = path.relative_to(dataset.root).as_posix() if path.is_relative_to(dataset.root) else path.as_posix()
        files[name] = path.stat().st_size if path.is_file() else 0  # what is none is a finding, or the loader's error
    known, place = dict(type(dataset).known_errors), str(dataset.root)
    return Source("raw", place, dataset.name, dataset.split, dataset.supervision, known, files, dataset)


def shard_source(shards: ShardSet) -> Source:
    """A shard set as a source."""
    m = shards.manifest
    known = dict(DATASETS[m.dataset].known_errors) if m.dataset in DATASETS else {}
    return Source("shards", shards.url, m.dataset, m.split, m.supervision, known, {}, shards)


def read_image(image: ImageSource | ImageBytes, start: int = 0, size: int | None = None) -> bytes:
    """Bytes of an encoded image, or `size` of them from `start` on. OSError as open() and read() raise it."""
    if isinstance(image, ImageBytes):
        return image.data[start : None if size is None else start + size]
    if not isinstance(image, ImageFile | ImageSlice):
        raise ValueError(f"{image}: a frame of a video has no bytes of its own")
    wanted = max(0, image_bytes(image) - start)
    with open(image.path, "rb") as file:
        file.seek(start + (image.offset if isinstance(image, ImageSlice) else 0))
        return file.read(wanted if size is None else min(size, wanted))


def image_bytes(image: ImageSource | ImageBytes) -> int:
    """How many bytes `read_image` gives. OSError if there is no file."""
    if isinstance(image, ImageBytes):
        return len(image.data)
    found = os.stat(image.path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return image.size if isinstance(image, ImageSlice) else found.st_size


def _raw(dataset: RawDataset) -> Iterator[Event]:
    found = False
    try:
        for item in dataset.items():
            found = True
            if isinstance(item, RawItem):
                size = None if item.width is None or item.height is None else (item.width, item.height)
                yield Photograph(item.key, item.image_path, item.image, size, item.instances)
            else:
                yield item
    except EngineError as error:
        if not found:
            raise
        yield EndOfAnnotation(f"{type(error).__name__}: {error}")


def _shards(shards: ShardSet) -> Iterator[Event]:
    m = shards.manifest
    for reason, count in m.skipped.items():
        yield SkippedInstances(reason, count)
    for row in m.quarantine:
        yield Unreadable(row.key, row.reason, row.message, row.instances)
    for entry in m.shards:
        try:
            samples = read_verified_samples(shards.fetch(entry), entry)
        except (ShardCorrupt, MissingInput) as error:
            yield DamagedShard(entry.path, str(error))
            continue
        yield from (_of_sample(sample, data) for sample, data in samples)


def _of_sample(sample: Sample, data: bytes) -> Photograph:
    return Photograph(sample.key, sample.image_path, ImageBytes(data), (sample.width, sample.height), sample.instances, sample.window)
