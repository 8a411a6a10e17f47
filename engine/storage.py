"""The one way to touch bytes: URLs with get, create, compare-and-swap, list and delete.

`create` never overwrites and never leaves half an object. `create_same` settles "already there" by comparing bytes. `swap` moves
the one mutable object of a release. On S3 every request is retried for a while (`engine.retries`), and a reply that was lost after
a write had landed is found out. Empty objects are refused, because an empty create is where stores differ.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fsspec.core import split_protocol, url_to_fs

from engine.backends.base import Backend
from engine.backends.generic import Generic
from engine.backends.local import LOCK, PARTIAL, LocalDisk
from engine.errors import AlreadyExists, CommitConflict, MissingInput, StorageError
from engine.retries import Retries
from schemas.records import sha256_hex


def join(url: str, *parts: str) -> str:
    """URL of a key below a URL."""
    return "/".join([url.rstrip("/"), *(p.strip("/") for p in parts)])


def absolute(url: str) -> str:
    """The URL, or a plain path made absolute: a worker has a working directory of its own."""
    return url if "://" in url else os.path.abspath(url)


def split(url: str) -> tuple[Store, str]:
    """The store of the folder an object lies in, and the object's key there."""
    folder, slash, name = url.rpartition("/")
    return Store(folder or slash or "."), name


def relative(path: str) -> str:
    """A key that stays below its root. Raises StorageError for absolute paths and '..'."""
    if path.startswith("/") or ".." in path.split("/") or not path:
        raise StorageError(f"key {path!r}: expected a relative path without '..'")
    return path


class Stored(NamedTuple):
    """What a listing says of an object: its key, size, and last change (seconds since 1970, by the store's clock)."""

    key: str
    size_bytes: int
    modified: float
    upload_id: str = ""


@dataclass(frozen=True)
class Store:
    """Keys below a root URL (`file://`, `s3://`, `memory://`, a plain path, any fsspec scheme). Cheap to build and to pickle.

    Threads and forked processes may share one. MissingInput, AlreadyExists or StorageError name the URL, without credentials.
    """

    url: str
    retries: Retries = field(default_factory=Retries.from_environment, compare=False, repr=False)

    def __reduce__(self):
        return Store, (self.url,)

    @cached_property
    def _backend(self) -> tuple[str, Backend, str]:
        """Kind, backend and the root's path there."""
        protocol, rest = split_protocol(self.url)
        if protocol in ("s3", "s3a"):
            from engine.backends.s3 import S3  # seconds of imports that a local store can do without

            return "s3", S3(self.retries), rest.strip("/")
        try:
            fs, root = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise StorageError(f"cannot open {_public(self.url)!r}: {_public(str(error))}") from None
        kind = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        return ("file", LocalDisk(), root.rstrip("/")) if kind in ("file", "local") else (kind, Generic(fs), root.rstrip("/"))

    @property
    def protocol(self) -> str:
        """'file', 's3', 'memory', ..."""
        return self._backend[0]

    def path(self, key: str) -> str:
        """Where a key lies, as its protocol says it: for 'file' a local path."""
        return f"{self._backend[2]}/{relative(key)}"

    def child(self, key: str) -> Store:
        return Store(join(self.url, relative(key)), self.retries)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key; a request on S3."""
        with self._errors(key):
            return self._backend[1].exists(self.path(key))

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The object's bytes, or the range [start, end). MissingInput if absent. Large ones are read in parallel ranges."""
        with self._errors(key):
            return self._backend[1].read(self.path(key), start, end)

    def get_into(self, key: str, file: BinaryIO, limit: int | None = None) -> int:
        """Write the object, or its first `limit` bytes, to a local file from the file's beginning; how many bytes that were.

        Ranges come in parallel, and one that fails is read again by itself. Whoever opened the file sees to its room first
        (`engine.disk.reserve`) and cuts off what is beyond.
        """
        with self._errors(key):
            return self._backend[1].read_into(self.path(key), file, limit)

    def open_local(self, key: str) -> BinaryIO:
        """The object opened for reading, where `protocol` is 'file'. MissingInput if absent."""
        with self._errors(key):
            return open(self.path(key), "rb")

    def get_checked(self, key: str, sha256: str) -> bytes:
        """The object's bytes if they have this digest; StorageError if not."""
        data = self.get(key)
        if (found := sha256_hex(data)) != sha256:
            raise StorageError(f"{self._name(key)}: expected sha256 {sha256}, found {found}; the object was damaged or replaced")
        return data

    def create(self, key: str, data: bytes) -> None:
        """Write a new object, all of it or none, in parallel parts if it is large. AlreadyExists if somebody else took the key."""
        self._require_content(key, len(data))
        with self._errors(key):
            self._backend[1].create(self.path(key), data)

    def create_file(self, key: str, path: str | Path) -> None:
        """Create an object of a local file's bytes without holding them in memory."""
        if not os.path.isfile(path):
            raise MissingInput(f"{path}: no such file to store as {self._name(key)}")
        self._require_content(key, os.path.getsize(path))
        with self._errors(key):
            self._backend[1].create_from(self.path(key), os.fspath(path))

    def create_written(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        """Create an object of what `write` puts into a file, without holding it in memory. Nothing is left of what `write` raises.

        On a local disk that file becomes the object; for other stores it lies in the system's folder for temporary files. AlreadyExists
        may come before `write` is called.
        """
        kind, backend, _ = self._backend
        if isinstance(backend, LocalDisk):
            with self._errors(key):
                backend.create_written(self.path(key), write)
            return
        with tempfile.NamedTemporaryFile(prefix=f"{kind}-") as file:
            write(file)
            file.flush()
            self.create_file(key, file.name)

    def create_same(self, key: str, data: bytes) -> bool:
        """Create, or accept an object with the same bytes. True if this call wrote it; CommitConflict if others differ."""
        try:
            self.create(key, data)
            return True
        except AlreadyExists:
            found = self.get(key)
            if found != data:
                raise CommitConflict(
                    f"{self._name(key)}: holds other bytes (sha256 {sha256_hex(found)}) than this run made ({sha256_hex(data)})"
                ) from None
            return False

    def swap(self, key: str, expected: bytes | None, data: bytes) -> None:
        """Replace `expected` (None: nothing there) by `data`. CommitConflict if something else is there."""
        self._require_content(key, len(data))
        if expected is None:
            try:
                return self.create(key, data)
            except AlreadyExists as error:
                raise CommitConflict(str(error)) from None
        with self._errors(key):
            if self._backend[1].replace(self.path(key), expected, data):
                return
        raise CommitConflict(f"{self._name(key)}: changed by somebody else since it was read; read it again and retry")

    def list(self, prefix: str = "") -> list[str]:
        """Keys below a folder, sorted, relative to the root, without leftovers of interrupted writes. On S3 one request for 1000 keys."""
        names = (stored.key for stored in self.scan(prefix))
        return sorted(key for key in names if not key.rsplit("/", 1)[-1].startswith(PARTIAL) and not key.endswith(LOCK))

    def scan(self, prefix: str = "") -> Iterator[Stored]:
        """Everything below a folder with its size and age, leftovers of interrupted writes included, in any order."""
        yield from self._listed(prefix, "scan")

    def uploads(self, prefix: str = "") -> Iterator[Stored]:
        """Multipart uploads below a folder that were begun and neither finished nor aborted, where the store has and tells of such."""
        yield from self._listed(prefix, "uploads")

    def abort(self, upload: Stored) -> None:
        """End an unfinished upload of `uploads`, so that its parts are no longer kept."""
        with self._errors(upload.key):
            self._backend[1].abort(self.path(upload.key), upload.upload_id)

    def _listed(self, prefix: str, what: str) -> Iterator[Stored]:
        root = self._backend[2]
        with self._errors(prefix):
            for found in getattr(self._backend[1], what)(self.path(prefix) if prefix else root):
                yield Stored(found.path[len(root) :].lstrip("/"), found.size_bytes, found.modified, found.upload_id)

    def clear(self, prefix: str) -> None:
        """Remove everything below a folder, what interrupted writes left there included. Nothing to remove is fine."""
        with self._errors(prefix):
            self._backend[1].clear(self.path(prefix))

    def delete(self, key: str) -> None:
        """Remove an object. MissingInput if absent, where the store says so (S3 does not)."""
        with self._errors(key):
            self._backend[1].delete(self.path(key))

    def _name(self, key: str) -> str:
        return _public(join(self.url, key))

    def _require_content(self, key: str, size: int) -> None:
        if not size:
            raise StorageError(f"{self._name(key)}: refusing to write an empty object")

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise MissingInput(f"{self._name(key)}: no such object; check the path, or run the job that writes it") from None
        except FileExistsError:
            raise AlreadyExists(f"{self._name(key)} exists already") from None
        except OSError as error:
            why = f"{type(error).__name__}: {_public(str(error))}"
            raise StorageError(f"{self._name(key)}: {why}; see whether the store is there and may be read and written") from None


def _public(text: str) -> str:
    """Without the user and password that a URL may carry."""
    return re.sub(r"//[^/@\s]+@", "//", text)
