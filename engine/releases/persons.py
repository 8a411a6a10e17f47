"""Lists of persons that a user gives in a file: which rows of a release are meant.

CSV or JSON lines, of `key` and `annotation_id`, or of `annotation_id` alone, which means every row with that id, whatever its image.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.storage import split
from schemas.records import canonical_json, sha256_hex

_MOST_BYTES = 1 << 30
_COLUMNS = ("key", "annotation_id")


@dataclass(frozen=True)
class Persons:
    """Persons by (key, annotation_id), and by an annotation_id alone."""

    named: frozenset[tuple[str, str]]
    alone: frozenset[str] = frozenset()

    columns = _COLUMNS
    """What of the rows is looked at."""
    text = "ids"

    def __len__(self) -> int:
        return len(self.named) + len(self.alone)

    def __call__(self, rows: pa.Table) -> np.ndarray:
        """Whether each row (N,) is one of these persons."""
        names = zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True)
        return np.fromiter((name in self.named or name[1] in self.alone for name in names), bool, rows.num_rows)

    def among(self, rows: pa.Table) -> Persons:
        """Those of these persons that have a row."""
        names = list(zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True))
        return Persons(self.named.intersection(names), self.alone.intersection(person for _, person in names))

    def digest(self) -> str:
        """sha256 of the list, whatever its order and form."""
        return sha256_hex(canonical_json([sorted(self.named), sorted(self.alone)]))

    def some(self, most: int = 5) -> list[str]:
        """A few of them, to be shown."""
        return [*(f"{key},{person}" for key, person in sorted(self.named)[:most]), *sorted(self.alone)[:most]][:most]


def read_persons(url: str) -> Persons:
    """The list of a file (URL). ConfigError names the line that is none, or an empty file."""
    store, key = split(url)
    data = store.get(key, 0, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{url}: more than {_MOST_BYTES} bytes; write the list in parts")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{url}: expected CSV or JSON lines in UTF-8: {error}") from None
    if text.lstrip().startswith("["):
        raise ConfigError(f"{url}: expected CSV or JSON lines, found a JSON list; write an id, or key,annotation_id, a line")
    named: set[tuple[str, str]] = set()
    alone: set[str] = set()
    for key, person in _json_lines(text, url) if text.lstrip().startswith("{") else _csv_lines(text, url):
        if key is None:
            alone.add(person)
        else:
            named.add((key, person))
    if not named and not alone:
        raise ConfigError(f"{url}: no person in it; expected lines of key,annotation_id or of annotation_id")
    return Persons(frozenset(named), frozenset(alone))


def _json_lines(text: str, url: str) -> Iterator[tuple[str | None, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{url}, line {number}: not JSON: {error}") from None
        person = row.get("annotation_id") if isinstance(row, dict) else None
        key = row.get("key") if isinstance(row, dict) else None
        if isinstance(person, bool) or not isinstance(person, str | int) or not isinstance(key, str | None):
            raise ConfigError(f'{url}, line {number}: expected {{"key": "...", "annotation_id": "..."}}, found {line[:100]!r}')
        yield key, str(person)


def _csv_lines(text: str, url: str) -> Iterator[tuple[str | None, str]]:
    """The first line may name the columns, and then be in any order and have others; without it they are as in _COLUMNS."""
    reader = csv.reader(io.StringIO(text, newline=""))
    header: list[str] | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                named = "annotation_id" in row
                header = row if named else list(_COLUMNS[-len(row) :])
                if named:
                    continue
            if len(row) != len(header):
                raise ConfigError(f"{url}, line {reader.line_num}: expected {','.join(header)}, found {','.join(row)[:100]!r}")
            cells = dict(zip(header, row, strict=True))
            yield cells.get("key"), cells["annotation_id"]
    except csv.Error as error:
        raise ConfigError(f"{url}, line {reader.line_num}: not CSV: {error}") from None
