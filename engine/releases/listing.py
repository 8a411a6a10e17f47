"""What lies in a store and how large and old it is, by listing alone: a request for a thousand objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from engine.storage import Store, relative


@dataclass(frozen=True, slots=True)
class Stored:
    """Size and time of the last change (seconds since 1970, by the store's clock) of one object."""

    size_bytes: int
    modified: float


def list_stored(store: Store, prefix: str = "") -> Iterator[tuple[str, Stored]]:
    """Keys below a prefix with what is known of each, leftovers of interrupted writes included, in no order."""
    root = store._fs_root[1]
    base = f"{root}/{relative(prefix)}" if prefix else root
    if store.protocol == "file":
        yield from _walk(base, len(root) + 1)
        return
    store.fs.invalidate_cache()
    found = store.fs.find(base, detail=True) if store.fs.exists(base) else {}
    store.fs.invalidate_cache()
    for path, info in found.items():
        when = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)
        yield path[len(root) :].lstrip("/"), Stored(int(info["size"] or 0), seconds)


def _walk(folder: str, cut: int) -> Iterator[tuple[str, Stored]]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, cut)
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            yield entry.path[cut:], Stored(status.st_size, status.st_mtime)
