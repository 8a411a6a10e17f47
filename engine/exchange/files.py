"""Which file of an export is meant."""

from __future__ import annotations

from pathlib import Path

from engine.errors import MissingInput


def only_file(path: Path, pattern: str) -> Path:
    """`path`, or the one file of its name pattern in it when it is a folder. MissingInput when there is none, or several."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise MissingInput(f"{path}: expected one file {pattern}, found {names}; name the file itself")
    return found[0]
