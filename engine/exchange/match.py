"""Which person of a shard set a fit of a file belongs to: fits on disk, looked up image by image, each given away at most once.

By annotation id where the file has ids; else by image and the nearest box centre. Fits lie in an SQLite file, so memory is its page cache,
whatever their number.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from engine.exchange.base import Fit, Unmapped
from schemas.sample import Sample

DUPLICATE, UNMATCHED, AMBIGUOUS = "duplicate_fit", "unmatched_fit", "ambiguous_fit"
_TIE, _TIE_SHARE = 1e-4, 0.1
"""Two persons are as near to a fit if their distances differ by less than this share of the box's longer side, or of the distance."""
_COLUMNS = "annotation_id TEXT, stem TEXT, path TEXT, x REAL, y REAL, name TEXT, reason TEXT, message TEXT, numbers BLOB"
_SIZES = {"pose_72": 72, "betas_10": 10, "transl_3": 3, "focal_2": 2, "princpt_2": 2, "latent_32": 32}
_BODY, _LATENT = 82, 32
_CAMERAS = (5, 7)
"""Numbers of a camera: without and with a principal point."""
_BATCH = 1000
_TEXT = 300
_COCO_2014 = re.compile(r"COCO_(train|val|test)201\d_(?=\d{12}$)")
_EXTENSION = re.compile(r"\.(jpe?g|png)$", re.IGNORECASE)

Person = Fit | Unmapped


class ImageName(NamedTuple):
    """An image's name without extension and COCO's prefix of 2014, and its whole path, likewise."""

    stem: str
    path: str


def image_name(path: str) -> ImageName:
    """The parts of a path by which images are compared: of other systems and other copies of a dataset too."""
    parts = [part for part in _EXTENSION.sub("", path.replace("\\", "/")).split("/") if part not in ("", ".")]
    stem = _COCO_2014.sub("", parts[-1]) if parts else ""
    return ImageName(stem, "/".join([*parts[:-1], stem]))


class FitIndex:
    """Fits of a file, filled by `add` and given to instances by `match`; `left_over` tells the rest. Open it with `open_index`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._rows: list[tuple] = []
        self._sorted = False
        self.read = 0
        """Persons of the file."""
        database.execute(f"CREATE TABLE fits ({_COLUMNS}, used INTEGER DEFAULT 0)")

    def add(self, person: Person) -> None:
        """Keep one person of the file."""
        name = ImageName("", "") if person.image is None else image_name(_text(person.image))
        centre = (None, None) if person.centre_2 is None else (float(v) for v in person.centre_2)
        fit = isinstance(person, Fit)
        said = ("", "", "", _pack(person)) if fit else (_text(person.name), person.reason, _text(person.message), None)
        identity = None if person.annotation_id is None else _text(person.annotation_id)
        self._rows.append((identity, name.stem or None, name.path, *centre, *said))
        self.read += 1
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._database.executemany("INSERT INTO fits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", self._rows)
        self._rows.clear()

    def sort(self) -> None:
        """Nothing is added from here on."""
        self._flush()
        self._database.execute("CREATE INDEX by_id ON fits (annotation_id)")
        self._database.execute("CREATE INDEX by_image ON fits (stem)")

    def match(self, sample: Sample, tolerance: float) -> list[Person | None]:
        """What the file says of each instance of a sample, in order; None for those it says nothing of.

        A fit with an annotation id goes to the instance of that id, if its image, where it has one, is the sample's. Fits without go to the
        nearest free instance whose box centre is within `tolerance` times the box's longer side, the nearest pair first; without a centre,
        only where neither side has a choice. The first in the file's order wins. A fit that is as near to two persons is AMBIGUOUS.
        """
        found: list[Person | None] = [None] * len(sample.instances)
        place: dict[str, int] = {}
        for i, instance in enumerate(sample.instances):
            place.setdefault(_text(instance.annotation_id), i)
        for row in self._select("annotation_id", list(place)):
            i = place[row[1]]
            if found[i] is None and (row[2] is None or _same_image(row[2], row[3], sample)):
                found[i] = self._take(row)
        if None in found:
            self._match_centres(sample, tolerance, found)
        return found

    def _match_centres(self, sample: Sample, tolerance: float, found: list[Person | None]) -> None:
        names = {image_name(sample.image_path).stem, image_name(sample.key).stem}
        rows = [row for row in self._select("stem", sorted(names)) if row[1] is None and _same_image(row[2], row[3], sample)]
        free = [i for i, person in enumerate(found) if person is None]
        placed = [row for row in rows if row[4] is not None and row[5] is not None]
        pairs = []
        for i in free:
            x, y, w, h = sample.instances[i].bbox_xywh
            for n, row in enumerate(placed):
                distance = float(np.hypot(row[4] - (x + w / 2), row[5] - (y + h / 2))) / max(w, h)
                if distance <= tolerance:
                    pairs.append((distance, n, i))
        pairs.sort()
        distances: dict[int, list[float]] = {}
        for distance, n, _ in pairs:
            distances.setdefault(n, []).append(distance)
        taken = set()
        for _, n, i in pairs:
            if n not in taken and found[i] is None:
                taken.add(n)
                found[i] = self._take(placed[n])
                nearest, *others = distances[n]
                if others and others[0] - nearest <= max(_TIE, nearest * _TIE_SHARE):
                    message = f"two persons' boxes are as near to ({placed[n][4]:.1f}, {placed[n][5]:.1f})"
                    found[i] = Unmapped(placed[n][6], AMBIGUOUS, message, image=placed[n][3] or None)
        if len(rows) == len(sample.instances) == 1 and not placed and found[0] is None:
            found[0] = self._take(rows[0])

    def _select(self, column: str, values: list[str]) -> list[tuple]:
        rows = []
        for start in range(0, len(values), _BATCH // 2):
            part = values[start : start + _BATCH // 2]
            marks = ", ".join("?" * len(part))
            names = "rowid, annotation_id, stem, path, x, y, name, reason, message, numbers"
            rows += self._database.execute(f"SELECT {names} FROM fits WHERE {column} IN ({marks}) AND NOT used ORDER BY rowid", part)
        return rows

    def _take(self, row: tuple) -> Person:
        self._database.execute("UPDATE fits SET used = 1 WHERE rowid = ?", row[:1])
        if row[9] is not None:
            return _unpack(row[9])
        return Unmapped(*row[6:9], annotation_id=row[1], image=row[3] or None)

    def left_over(self, most: int) -> tuple[list[Unmapped], Counter[str]]:
        """Persons of the file that no instance got, in its order, the first `most` of them, and how many more there are of each reason.

        DUPLICATE: another fit of the same id, or of the same image and centre, was taken. UNMATCHED: nobody of the shard set is meant.
        """
        listed, more = [], Counter()
        query = f"""SELECT CASE WHEN reason != '' THEN reason
            WHEN EXISTS (SELECT 1 FROM fits t WHERE t.used AND t.annotation_id = f.annotation_id)
              OR EXISTS (SELECT 1 FROM fits t WHERE t.used AND t.stem = f.stem AND t.path = f.path AND t.x = f.x AND t.y = f.y)
            THEN '{DUPLICATE}' ELSE '{UNMATCHED}' END, annotation_id, path, x, y, name, message FROM fits f WHERE NOT used ORDER BY rowid"""
        for reason, identity, path, x, y, name, message in self._database.execute(query):
            if len(listed) == most:
                more[reason] += 1
                continue
            at = f"{path or 'no image'}" + (f" at ({x:.1f}, {y:.1f})" if x is not None and y is not None else "")
            centre = None if x is None or y is None else np.array([x, y])
            said = message or (f"another fit of the same person was taken: {at}" if reason == DUPLICATE else f"nobody was found: {at}")
            listed.append(Unmapped(name or identity or at, reason, said, identity, path or None, centre))
        return listed, more


@contextmanager
def open_index(fits: Iterable[Person]) -> Iterator[FitIndex]:
    """An index of these fits, in a folder for temporary files, removed with it."""
    with TemporaryDirectory(prefix="fits-") as folder:
        database = sqlite3.connect(Path(folder) / "fits.sqlite", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("BEGIN")
            index = FitIndex(database)
            for fit in fits:
                index.add(fit)
            index.sort()
            yield index
        finally:
            database.close()


def _same_image(stem: str, path: str, sample: Sample) -> bool:
    """Whether a fit's image is the sample's: its name is the key, which is unique, or one of the two paths ends with the other.

    A name alone that is not the key, such as image_00000, is no image's own.
    """
    if stem == image_name(sample.key).stem:
        return True
    own = image_name(sample.image_path).path.split("/")
    other = path.split("/")
    common = min(len(own), len(other))
    return common > 1 and own[-common:] == other[-common:]


def _pack(fit: Fit) -> bytes:
    values = [np.asarray(value, np.float64).reshape(size) for name, size in _SIZES.items() if (value := getattr(fit, name)) is not None]
    return np.concatenate(values).tobytes()


def _unpack(data: bytes) -> Fit:
    values = np.frombuffer(data, np.float64)
    rest = values[_BODY:]
    rest, latent = (rest, None) if len(rest) in (0, *_CAMERAS) else (rest[:-_LATENT], rest[-_LATENT:])
    where = [rest[start:end] if end <= len(rest) else None for start, end in ((0, 3), (3, 5), (5, 7))]
    return Fit(values[:72], values[72:_BODY], *where, latent_32=latent)


def _text(text: str) -> str:
    """What SQLite and a manifest can hold of a text."""
    return text[:_TEXT].encode("utf-8", "replace").decode()
