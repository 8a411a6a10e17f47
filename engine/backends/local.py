"""Files of a local or mounted disk. An object appears whole, by a link or a rename; nothing is retried."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from engine import faults
from engine.backends.base import Listed
from engine.disk import disk_errors
from engine.errors import StorageError

PARTIAL, LOCK = ".partial-", ".lock"
_REMEDY = "make room or correct the rights there, then submit the job again; what is written stays valid"


class LocalDisk:
    """A backend of files; see `engine.backends.base`."""

    def exists(self, path: str) -> bool:
        return os.path.isfile(path)

    def read(self, path: str, start: int | None, end: int | None) -> bytes:
        with open(path, "rb") as file:
            file.seek(start or 0)
            return file.read() if end is None else file.read(max(0, end - (start or 0)))

    def read_into(self, path: str, file: BinaryIO, limit: int | None) -> int:
        size = 0
        with open(path, "rb") as source:
            while data := source.read(1 << 20 if limit is None else min(1 << 20, limit - size)):
                size += file.write(data)
        file.flush()
        return size

    def create(self, path: str, data: bytes) -> None:
        _create(path, len(data), lambda file: file.write(data))

    def create_from(self, path: str, local: str) -> None:
        with open(local, "rb") as source:
            _create(path, os.fstat(source.fileno()).st_size, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def create_written(self, path: str, write: Callable[[BinaryIO], Any]) -> None:
        """Write a new object with `write`, all of it or none."""
        _create(path, 0, write)

    def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        if not os.path.isfile(path):
            return False
        with disk_errors(path, len(data), _REMEDY), open(path + LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if self.read(path, None, None) != expected:
                    return False
            except FileNotFoundError:
                return False
            partial = _write_partial(path, lambda file: file.write(data))
            try:
                os.replace(partial, path)
            except OSError:
                os.unlink(partial)
                raise
            return True

    def scan(self, path: str) -> Iterator[Listed]:
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self.scan(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield Listed(entry.path, status.st_size, status.st_mtime)

    def uploads(self, path: str) -> Iterator[Listed]:
        return iter(())

    def abort(self, path: str, upload_id: str) -> None:
        raise NotImplementedError

    def delete(self, path: str) -> None:
        with disk_errors(path, 0, _REMEDY):
            os.unlink(path)

    def clear(self, path: str) -> None:
        try:
            with disk_errors(path, 0, _REMEDY):
                shutil.rmtree(path)
        except FileNotFoundError:
            return


def _create(path: str, size: int, write: Callable[[BinaryIO], Any]) -> None:
    if os.path.lexists(path):
        raise FileExistsError(path)
    with disk_errors(path, size, _REMEDY):
        partial = _write_partial(path, write)
        try:
            os.link(partial, path)
        finally:
            os.unlink(partial)


def _write_partial(path: str, write: Callable[[BinaryIO], Any]) -> str:
    """Path of a file beside `path` with the bytes on disk; nothing is left if that fails."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StorageError(f"{folder}: expected a folder, found a file; give another path") from None
    partial = os.path.join(folder, f"{PARTIAL}{uuid.uuid4().hex}")
    try:
        with open(partial, "wb") as file:
            faults.hit("write_local", path)
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
    return partial
