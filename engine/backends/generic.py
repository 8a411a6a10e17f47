"""Whatever else fsspec opens: memory in the tests, other clouds through their own packages.

Create-only is as strong as the file system's mode="create"; a replacement is guarded against threads of this process only.
Retries are the file system's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO

import fsspec

from engine.backends.base import Listed

_lock = threading.Lock()
_CHUNK_BYTES = 16 << 20


class Generic:
    """A backend over any fsspec file system; see `engine.backends.base`."""

    def __init__(self, fs: fsspec.AbstractFileSystem) -> None:
        self.fs = fs

    def exists(self, path: str) -> bool:
        self.fs.invalidate_cache()
        return self.fs.isfile(path)

    def read(self, path: str, start: int | None, end: int | None) -> bytes:
        return self.fs.cat_file(path, start=start, end=end)

    def read_into(self, path: str, file: BinaryIO, limit: int | None) -> int:
        size = self.fs.info(path)["size"] if limit is None else min(limit, self.fs.info(path)["size"])
        for start in range(0, size, _CHUNK_BYTES):
            file.write(self.fs.cat_file(path, start=start, end=min(size, start + _CHUNK_BYTES)))
        file.flush()
        return size

    def create(self, path: str, data: bytes) -> None:
        with _lock:
            self.fs.pipe_file(path, data, mode="create")

    def create_from(self, path: str, local: str) -> None:
        with _lock:
            self.fs.put_file(os.fspath(local), path, mode="create")

    def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        with _lock:
            self.fs.invalidate_cache()
            if not self.fs.isfile(path) or self.fs.cat_file(path) != expected:
                return False
            self.fs.pipe_file(path, data)
            return True

    def scan(self, path: str) -> Iterator[Listed]:
        self.fs.invalidate_cache()
        for found, info in (self.fs.find(path, detail=True) if self.fs.isdir(path) else {}).items():
            when = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
            yield Listed(found, int(info["size"] or 0), when.timestamp() if isinstance(when, datetime) else float(when))

    def uploads(self, path: str) -> Iterator[Listed]:
        return iter(())

    def abort(self, path: str, upload_id: str) -> None:
        raise NotImplementedError

    def delete(self, path: str) -> None:
        try:
            self.fs.rm_file(path)
        except KeyError:  # of the memory file system
            raise FileNotFoundError(path) from None

    def clear(self, path: str) -> None:
        self.fs.invalidate_cache()
        try:
            self.fs.rm(path, recursive=True)
        except (FileNotFoundError, KeyError):
            return
