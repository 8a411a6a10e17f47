"""One shard of an ingest: its images read, checked and written to a tar, its persons accounted for, and a record of both.

The same job gives the same bytes wherever and however often it is done. Order of writes: tar, index, record; each is created only if
absent, and what is there already must be the same. Without a record the shard counts as not done.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from pydantic import ValidationError

from engine import faults
from engine.datasets.geometry import degenerate
from engine.errors import AlreadyExists, CommitConflict, MissingInput, SampleRejected
from engine.shards.images import ImageConfig, StoredImage, settle, settle_frame
from engine.shards.person_crops import PersonCropConfig, person_crops
from engine.shards.picture import Person, Picture, digest, sample_json
from engine.shards.sources import Reader
from engine.shards.writer import ShardWriter
from engine.storage import Store
from schemas.manifests import Counts, QuarantineRow, Sha256, ShardEntry
from schemas.records import Record, canonical_json, sha256_hex
from schemas.sample import Sample

DEGENERATE = "degenerate_box"
_READ_THREADS = 16
_ANOTHER_OUT = "shards are never overwritten, give another out"


class ShardRecord(Record):
    """Create-only note that one shard of an ingest is done; what the manifest will say of it."""

    pictures_sha256: Sha256
    """Of what the annotations say of the shard's images: a record of something else is not taken for this shard's."""
    entry: ShardEntry | None
    """None: not one of the shard's images can be stored."""
    images: int
    """Images that were looked at."""
    skipped: Counts
    quarantine: tuple[QuarantineRow, ...]
    images_sha256: Sha256
    """Of the path and size of every image file."""

    @property
    def found(self) -> int:
        """Persons this record accounts for."""
        return (self.entry.instances if self.entry else 0) + sum(self.skipped.values()) + sum(row.instances for row in self.quarantine)


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to make one shard."""

    number: int
    out: str
    records: str
    """Folder of the ingest's records, below `out`."""
    root: str
    dataset: str
    pictures: tuple[Picture, ...]
    images: ImageConfig
    person_crops: PersonCropConfig | None

    @property
    def record_key(self) -> str:
        return f"{self.records}/{self.number:06d}.json"


def make_shard(job: ShardJob) -> ShardRecord:
    """The shard's record, with tar, index and record in the store.

    CommitConflict if other bytes are there under its name, StorageError if the store fails, MissingInput if the raw dataset is not on
    this machine. What is wrong with an image or person is in the record.
    """
    if not os.path.isdir(job.root):
        raise MissingInput(f"{job.root}: not a folder on this machine; every machine that ingests must have the raw dataset at this path")
    store, path = Store(job.out), f"shards/{job.number:06d}.tar"
    made = _Made()
    try:
        store.create_written(path, partial(_write, job, made))
    except _NothingLeft:
        pass
    except AlreadyExists:
        _require_same(store, path, job, made)
    faults.hit("after_tar", path)
    record = _finish(store, path, job, made)
    store.create_same(job.record_key, record.to_bytes())
    faults.hit("after_shard_record", path)
    return record


def finished(store: Store, records: str) -> dict[int, ShardRecord]:
    """The shards of an ingest that are done, by number: their record is there, and so are tar and index, with their size."""
    sizes = {stored.key: stored.size_bytes for stored in store.scan("shards")}
    keys = [key for key in store.list(records) if re.fullmatch(r"\d{6,}\.json", key.rsplit("/", 1)[-1])]
    found = {}
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        for key, data in zip(keys, pool.map(store.get, keys), strict=True):
            try:
                record = ShardRecord.from_bytes(data)
            except ValidationError as error:
                raise CommitConflict(f"{store.url}/{key}: not a record of this version; delete it: {error}") from None
            entry = record.entry
            if entry is None or (sizes.get(entry.path) == entry.size_bytes and entry.index_path in sizes):
                found[int(key.rsplit("/", 1)[-1].removesuffix(".json"))] = record
    return found


class _Made:
    """What came of writing a tar."""

    def __init__(self) -> None:
        self.writer: ShardWriter
        self.skipped: Counter[str]
        self.quarantine: list[QuarantineRow]
        self.images: Any


class _NothingLeft(Exception):
    """No image of a shard can be stored."""


def _write(job: ShardJob, made: _Made, file: BinaryIO) -> None:
    """Fill a tar; may be called again, and then writes the same."""
    made.writer, made.skipped, made.quarantine, made.images = ShardWriter(file.write), Counter(), [], hashlib.sha256()
    with Reader(job.root, job.images) as reader:
        settle_each = _crops if job.person_crops is not None else _photographs
        for key, image, extension, record, instances in settle_each(job, made, reader):
            made.writer.add(key, image, extension, record, instances)
    if not made.writer.samples:
        raise _NothingLeft
    made.writer.close()


_Member = tuple[str, bytes, str, bytes, int]
"""Key, image, extension, JSON, and number of persons of a sample."""


def _photographs(job: ShardJob, made: _Made, reader: Reader) -> Iterator[_Member]:
    for picture, image, persons in _settled(job, made, reader):
        record = sample_json(job.dataset, picture, persons, (image.width, image.height), image.exif_orientation)
        yield picture.key, image.data, image.extension, record, len(persons)


def _crops(job: ShardJob, made: _Made, reader: Reader) -> Iterator[_Member]:
    """A sample for each person, in the order of keys, which is not that of the photographs."""
    assert job.person_crops is not None
    members: list[_Member] = []
    for picture, image, persons in _settled(job, made, reader):
        sample = Sample.from_bytes(sample_json(job.dataset, picture, persons, (image.width, image.height), image.exif_orientation))
        try:
            cropped = person_crops(sample, image.data, job.person_crops)
        except SampleRejected as rejected:
            made.quarantine.append(_row(job, picture, rejected, len(persons)))
            continue
        made.quarantine.extend(cropped.quarantine)
        members += [(crop.key, data, extension, crop.to_bytes(), len(crop.instances)) for crop, data, extension in cropped.crops]
    yield from sorted(members)


def _settled(job: ShardJob, made: _Made, reader: Reader) -> Iterator[tuple[Picture, StoredImage, tuple[Person, ...]]]:
    """Images as they go into the shard, with the persons whose boxes they contain. Everything wrong with one is its own quarantine."""
    for picture in job.pictures:
        faults.hit("ingest_image", picture.key)
        size: int | None = None
        try:
            try:
                data = reader.read(picture.source)
                size = len(data) if isinstance(data, bytes) else reader.size(picture.source)
            except SampleRejected:
                size = reader.size(picture.source)
                raise
            if isinstance(data, bytes):
                image = settle(data, picture.annotated_wh, job.images)
            else:
                image = settle_frame(data, picture.annotated_wh, job.images)
        except SampleRejected as rejected:
            made.quarantine.append(_row(job, picture, rejected, len(picture.persons)))
            continue
        finally:
            made.images.update(canonical_json([picture.image_path, size]))
        persons = tuple(person for person in picture.persons if not degenerate(person.bbox_xywh, image.width, image.height))
        if len(persons) < len(picture.persons):
            made.skipped[DEGENERATE] += len(picture.persons) - len(persons)
        if persons:
            yield picture, image, persons


def _row(job: ShardJob, picture: Picture, rejected: SampleRejected, instances: int) -> QuarantineRow:
    message = f"{picture.image_path}: {rejected}"
    return QuarantineRow(dataset=job.dataset, key=picture.key, reason=rejected.reason, message=message, instances=instances)


def _require_same(store: Store, path: str, job: ShardJob, made: _Made) -> None:
    """CommitConflict unless the tar that is there is the one this job makes."""
    try:
        _write(job, made, _Nowhere())
    except _NothingLeft:
        raise CommitConflict(f"{store.url}/{path}: is there, but not one of its images can be stored today; {_ANOTHER_OUT}") from None
    with tempfile.TemporaryFile() as file:
        store.get_into(path, file)
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != made.writer.sha256:
        raise CommitConflict(
            f"{store.url}/{path}: holds other bytes (sha256 {found}) than this run made ({made.writer.sha256}): an image was changed "
            f"since; {_ANOTHER_OUT}"
        )


def _finish(store: Store, path: str, job: ShardJob, made: _Made) -> ShardRecord:
    """The record, with the index in the store."""
    entry = None
    if made.writer.samples:
        index, index_path = made.writer.index(), path.replace(".tar", ".index.jsonl")
        store.create_same(index_path, index)
        entry = ShardEntry(
            path=path,
            sha256=made.writer.sha256,
            size_bytes=made.writer.size_bytes,
            samples=made.writer.samples,
            instances=made.writer.instances,
            index_path=index_path,
            index_sha256=sha256_hex(index),
        )
    return ShardRecord(
        pictures_sha256=digest(job.pictures),
        entry=entry,
        images=len(job.pictures),
        skipped=dict(made.skipped),
        quarantine=tuple(made.quarantine),
        images_sha256=made.images.hexdigest(),
    )


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)
