"""export.json, beside the files of an export: what they were made from, so that nobody takes them for something else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from engine.errors import RawDataError
from engine.releases.store import first_problem
from schemas.manifests import Counts, Sha256
from schemas.records import Record

NAME = "export.json"
_MAX_BYTES = 64 << 20


class ExportedFile(Record):
    """One file of an export; `path` is relative to its folder."""

    path: str
    sha256: Sha256
    size_bytes: int = Field(gt=0)


class ExportRecord(Record):
    """Persons: `annotated = written + skipped`. The same release, format and options give the same record and the same files."""

    format_version: Literal[1] = 1
    format: str
    options: dict[str, Any]
    release: str
    """Name and version."""
    release_digest: Sha256
    dataset: str
    split: str
    body: str
    body_digest: Sha256
    lineage: dict[str, str]
    """Of the release."""
    annotated: int
    written: int
    skipped: Counts
    files: tuple[ExportedFile, ...]


def describe_file(folder: Path, path: str) -> ExportedFile:
    """A file of a folder with its digest, read once."""
    if not (folder / path).stat().st_size:
        raise RawDataError(f"{folder / path}: expected content, found 0 bytes; get or write it again")
    with open(folder / path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(path=path, sha256=sha256, size_bytes=(folder / path).stat().st_size)


def read_sidecar(folder: Path) -> ExportRecord | None:
    """The record of an export's folder; None where there is none. RawDataError if it is not one."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        return ExportRecord.from_bytes(path.read_bytes())
    except ValidationError as error:
        found = first_problem(error)
    except (OSError, ValueError) as error:
        found = str(error)
    raise RawDataError(f"{path}: expected the record of an export, found {found}; remove it if the files are another's")
