"""What a local file system refuses, said so that it can be acted on: where, how much was needed, how much is free."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import StorageError

_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "larger than this process or file system may write",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_errors(path: str | os.PathLike[str], needed_bytes: int, remedy: str) -> Iterator[None]:
    """StorageError in place of an OSError of a disk that is full, read-only or closed to this user; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        room = f": {needed_bytes} bytes needed, {_free_bytes(path)} bytes free" if error.errno in _FULL else ""
        message = f"{path}: {_REFUSALS[error.errno]}{room}; {remedy}"
        raise StorageError(message) from None


def reserve(descriptor: int, size_bytes: int, where: str | os.PathLike[str], remedy: str) -> None:
    """Take the room of an open, empty file before anything is read for it. StorageError as in `disk_errors`."""
    with disk_errors(where, size_bytes, remedy):
        os.posix_fallocate(descriptor, 0, size_bytes)


def _free_bytes(path: str | os.PathLike[str]) -> int:
    """Of the file system of a path that may not exist yet."""
    place = os.path.abspath(path)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return shutil.disk_usage(place).free
