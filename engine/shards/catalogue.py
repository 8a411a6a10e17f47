"""Everything a raw dataset's annotations hold, on disk, so that it can be sorted and joined whatever its size.

Loaders yield persons in the order of their files; shards are cut in the order of keys. In between, persons lie in an SQLite file in a
folder for temporary files, with an index over their keys. Memory is SQLite's page cache, whatever the number of persons.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from engine.datasets.base import MAX_KEY_LENGTH, ImageSlice, ImageSource, RawItem, SkippedInstances, Unreadable, VideoFrame
from engine.datasets.base import Found as FoundInDataset
from engine.errors import StorageError
from engine.shards.picture import Person, Picture, Source, person_json
from schemas.manifests import QuarantineRow

_KEY = re.compile(rf"[A-Za-z0-9_\-]{{1,{MAX_KEY_LENGTH}}}")
_CACHE_KIB = 64 << 10
_BATCH = 2000
_MOST_JSON = 12 << 20
"""Characters of all persons of one image, below what a shard's reader takes (engine/shards/tar.py)."""
_INTEGERS = 1 << 63
"""What SQLite holds as an integer is below."""
_MESSAGE = 300
_ROW = "key, image_path, kind, path, at, size, width, height, annotation_id, x, y, w, h, json"


class Catalogue:
    """Persons of a dataset, filled by `add` and then read back by `pictures`. Open it with `open_catalogue`."""

    def __init__(self, database: sqlite3.Connection, dataset: str, root: Path) -> None:
        self._database, self._dataset, self._root = database, dataset, f"{root}/"
        self._rows: list[tuple[Any, ...]] = []
        self.found = 0
        """Persons met so far, whatever became of them."""
        self.skipped: Counter[str] = Counter()
        self.quarantine: list[QuarantineRow] = []
        """What the annotations alone condemn; complete when `pictures` has ended."""
        columns = _ROW.replace("key", "key TEXT", 1)
        database.execute(f"CREATE TABLE persons ({columns})")

    def add(self, found: FoundInDataset) -> None:
        """Count what a loader found, and keep it if it is an image with persons."""
        if isinstance(found, SkippedInstances):
            self.found += found.instances
            self.skipped[found.reason] += found.instances
        elif isinstance(found, Unreadable):
            self.found += found.instances
            self._condemn(found.key, found.reason, found.message, found.instances)
        else:
            self.found += len(found.instances)
            self._add_item(found)

    def _add_item(self, item: RawItem) -> None:
        if not _KEY.fullmatch(item.key) or not _storable(item.image_path):
            message = f"{item.image_path!a}: expected a key of up to {MAX_KEY_LENGTH} letters, digits, _ and -, found {item.key!a}"
            self._condemn(item.key.encode("ascii", "replace").decode(), "invalid_name", message, len(item.instances))
            return
        image = (item.key, item.image_path, *self._source(item.image), item.width, item.height)
        if any(isinstance(value, int) and not 0 <= value < _INTEGERS for value in image):
            message = f"{item.image_path!a}: expected sizes and frame numbers below 2^63, found {image[4:]}"
            self._condemn(item.key, "invalid_image", message[:_MESSAGE], len(item.instances))
            return
        for person in item.instances:
            self._rows.append((*image, person.annotation_id, *person.bbox_xywh, person_json(person)))
        if len(self._rows) >= _BATCH:
            self._flush()

    def _source(self, image: ImageSource) -> Source:
        path = str(image.path)
        path = path.removeprefix(self._root)
        if isinstance(image, ImageSlice):
            return Source("slice", path, image.offset, image.size)
        return Source("frame", path, image.frame) if isinstance(image, VideoFrame) else Source("file", path)

    def _flush(self) -> None:
        self._database.executemany(f"INSERT INTO persons VALUES ({', '.join('?' * 14)})", self._rows)
        self._rows.clear()

    def sort(self) -> None:
        """Nothing is added from here on."""
        self._flush()
        self._database.execute("CREATE INDEX by_key ON persons (key, image_path)")

    def images(self) -> int:
        """How many there are."""
        return self._database.execute("SELECT COUNT(*) FROM (SELECT DISTINCT key, image_path FROM persons)").fetchone()[0]

    def pictures(self) -> Iterator[Picture]:
        """Every image with its persons, in the order of keys; persons in the order they were added. To be called once.

        Where several images have one key, all but the first by image_path get the key `<key>-<digest of image_path>`. A person who
        contradicts the image's first one in where the image is or what size it has, or whose annotation id is taken, is quarantined.
        """
        rows = self._database.execute(f"SELECT {_ROW} FROM persons ORDER BY key, image_path, rowid")
        before = ""
        for (key, _), persons in groupby(rows, key=itemgetter(0, 1)):
            joined = self._joined(key, persons)
            if key == before:
                joined = self._renamed(joined)
            before = key
            if joined is not None and joined.persons:
                yield joined

    def _joined(self, key: str, rows: Iterable[tuple[Any, ...]]) -> Picture:
        first: tuple[Any, ...] | None = None
        persons: dict[str, Person] = {}
        characters = 0
        for row in rows:
            image, annotation_id, json = row[1:8], row[8], row[13]
            first = first or image
            characters += len(json)
            if image != first:
                what = f"expected the image {first[2]} of {_size(first)}, as another person has it, found {image[2]} of {_size(image)}"
                self._condemn(key, "contradictory_image", f"{row[1]}: {what}", 1, annotation_id)
            elif annotation_id in persons:
                self._condemn(key, "duplicate_id", f"{row[1]}: annotation id {annotation_id} is there twice", 1, annotation_id)
            elif characters > _MOST_JSON:
                self._condemn(key, "too_many_persons", f"{row[1]}: more persons than a sample may hold", 1, annotation_id)
            else:
                persons[annotation_id] = Person(annotation_id, row[9:13], json)
        assert first is not None
        image_path, kind, path, at, size, width, height = first
        return Picture(key, image_path, Source(kind, path, at, size), width, height, tuple(persons.values()))

    def _renamed(self, picture: Picture) -> Picture | None:
        suffix = "-" + hashlib.sha256(picture.image_path.encode()).hexdigest()[:12]
        renamed = picture.key[: MAX_KEY_LENGTH - len(suffix)] + suffix
        if self._database.execute("SELECT 1 FROM persons WHERE key = ? LIMIT 1", (renamed,)).fetchone() is None:
            return picture._replace(key=renamed)
        message = f"{picture.image_path}: {picture.key} is another image's key, and so is {renamed}"
        self._condemn(picture.key, "ambiguous_key", message, len(picture.persons))
        return None

    def _condemn(self, key: str, reason: str, message: str, instances: int, annotation_id: str | None = None) -> None:
        row = QuarantineRow(
            dataset=self._dataset, key=key, annotation_id=annotation_id, reason=reason, message=message, instances=instances
        )
        self.quarantine.append(row)


@contextmanager
def open_catalogue(dataset: str, root: Path, folder: str | None) -> Iterator[Catalogue]:
    """An empty catalogue in a folder for temporary files (None: the system's), which is gone at the end. StorageError if it is full."""
    where = folder or tempfile.gettempdir()
    remedy = "make room there, or set `staging` to a folder on a larger disk"
    try:
        os.makedirs(where, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ingest-", dir=where, ignore_cleanup_errors=True) as temporary:
            database = sqlite3.connect(os.path.join(temporary, "catalogue.sqlite"), isolation_level=None)
            try:
                quoted = where.replace("'", "''")
                database.execute(f"PRAGMA temp_store_directory = '{quoted}'")
                for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{_CACHE_KIB}"):
                    database.execute(f"PRAGMA {setting}")
                database.execute("BEGIN")  # one transaction for all: committing each batch would write its pages at once
                yield Catalogue(database, dataset, root)
            finally:
                database.close()
    except sqlite3.Error as error:
        raise StorageError(f"{where}: the catalogue of the annotations cannot be kept: {error}; {remedy}") from None


def chunks(pictures: Iterable[Picture], size: int) -> Iterator[tuple[Picture, ...]]:
    """Runs of this many images, each in the order of keys."""
    chunk: list[Picture] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == size:
            yield tuple(sorted(chunk, key=itemgetter(0)))
            chunk = []
    if chunk:
        yield tuple(sorted(chunk, key=itemgetter(0)))


def _storable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _size(image: tuple[Any, ...]) -> str:
    return f"{image[5]}x{image[6]} px"
