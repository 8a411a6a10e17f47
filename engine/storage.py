"""The one way to touch bytes: fsspec URLs with get, create, compare-and-swap, list and delete.

`create` never overwrites and never leaves half an object. `create_same` settles "already there" by comparing bytes,
which also settles a reply that was lost after the object had landed. `swap` moves the one mutable object of a release.
Empty objects are refused, because an empty create is where stores differ (s3fs overwrites with one).
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import fsspec
from fsspec.core import url_to_fs

from engine.errors import AlreadyExists, CommitConflict, MissingInput, StorageError
from schemas.records import sha256_hex

_memory_lock = threading.Lock()


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


@dataclass(frozen=True)
class Store:
    """Keys below a root URL (`file://`, `s3://`, `memory://`, a plain path, any fsspec scheme). Cheap to build and to pickle."""

    url: str

    @cached_property
    def _fs_root(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, root = url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise StorageError(f"cannot open {self.url!r}: {error}") from error
        return fs, root.rstrip("/")

    def __reduce__(self):
        return Store, (self.url,)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        return self._fs_root[0]

    def path(self, key: str) -> str:
        return f"{self._fs_root[1]}/{relative(key)}"

    def child(self, key: str) -> Store:
        return Store(join(self.url, relative(key)))

    @property
    def protocol(self) -> str:
        kind = self.fs.protocol
        names = {kind} if isinstance(kind, str) else set(kind)
        return (
            "file" if names & {"file", "local"} else "s3" if names & {"s3", "s3a"} else "memory" if "memory" in names else sorted(names)[0]
        )

    def exists(self, key: str) -> bool:
        self.fs.invalidate_cache()
        return self.fs.exists(self.path(key))

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The object's bytes, or the range [start, end). MissingInput if absent."""
        try:
            return self.fs.cat_file(self.path(key), start=start, end=end)
        except (FileNotFoundError, IsADirectoryError):
            raise MissingInput(f"{join(self.url, key)}: no such object; check the path, or run the job that writes it") from None

    def get_checked(self, key: str, sha256: str) -> bytes:
        """The object's bytes if they have this digest; StorageError if not."""
        data = self.get(key)
        if (found := sha256_hex(data)) != sha256:
            raise StorageError(f"{join(self.url, key)}: expected sha256 {sha256}, found {found}; the object was damaged or replaced")
        return data

    def create(self, key: str, data: bytes) -> None:
        """Write a new object, all of it or none. AlreadyExists if the key is taken."""
        if not data:
            raise StorageError(f"{join(self.url, key)}: refusing to write an empty object")
        path = self.path(key)
        if self.protocol == "file":
            _create_local(path, data)
            return
        try:
            with _memory_lock:
                self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            raise AlreadyExists(f"{join(self.url, key)} exists already") from None

    def create_same(self, key: str, data: bytes) -> bool:
        """Create, or accept an object with the same bytes. True if this call wrote it; CommitConflict if others differ."""
        try:
            self.create(key, data)
            return True
        except AlreadyExists:
            found = self.get(key)
            if found != data:
                raise CommitConflict(
                    f"{join(self.url, key)}: holds other bytes (sha256 {sha256_hex(found)}) than this run made ({sha256_hex(data)})"
                ) from None
            return False

    def swap(self, key: str, expected: bytes | None, data: bytes) -> None:
        """Replace `expected` (None: nothing there) by `data`. CommitConflict if something else is there."""
        if expected is None:
            try:
                self.create(key, data)
            except AlreadyExists as error:
                raise CommitConflict(str(error)) from None
            return
        path = self.path(key)
        conflict = CommitConflict(f"{join(self.url, key)}: changed by somebody else since it was read; read it again and retry")
        if not self.exists(key):
            raise conflict
        if self.protocol == "s3":
            etag = self.fs.info(path, refresh=True)["ETag"]
            if self.get(key) != expected:
                raise conflict
            try:
                self.fs.pipe_file(path, data, IfMatch=etag)
            except OSError as error:
                if getattr(error, "errno", None) in (22, 17):
                    raise conflict from None
                raise
            return
        with self._exclusive(path):
            if self.get(key) != expected:
                raise conflict
            if self.protocol == "file":
                temporary = _write_temporary(path, data)
                os.replace(temporary, path)
            else:
                self.fs.pipe_file(path, data)

    @contextmanager
    def _exclusive(self, path: str) -> Iterator[None]:
        if self.protocol != "file":
            with _memory_lock:
                yield
            return
        with open(path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def list(self, prefix: str = "") -> list[str]:
        """Keys below a prefix, sorted, relative to the root. Leftovers of interrupted writes are not objects."""
        self.fs.invalidate_cache()
        root = self._fs_root[1]
        base = f"{root}/{relative(prefix)}" if prefix else root
        found = self.fs.find(base) if self.fs.exists(base) else []
        keys = [p[len(root) :].lstrip("/") for p in found]
        return sorted(k for k in keys if not k.rsplit("/", 1)[-1].startswith(".partial-") and not k.endswith(".lock"))

    def clear(self, prefix: str) -> None:
        """Remove everything below a prefix, what interrupted writes left there included. Nothing to remove is fine."""
        self.fs.invalidate_cache()
        try:
            self.fs.rm(self.path(prefix), recursive=True)
        except (FileNotFoundError, KeyError):
            return

    def delete(self, key: str) -> None:
        """Remove an object. MissingInput if absent, where the store says so (S3 does not)."""
        try:
            self.fs.rm_file(self.path(key))
        except (FileNotFoundError, KeyError):
            raise MissingInput(f"{join(self.url, key)}: no such object to delete") from None


def _write_temporary(path: str, data: bytes) -> str:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".partial-{uuid.uuid4().hex}")
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    return temporary


def _create_local(path: str, data: bytes) -> None:
    if os.path.exists(path):
        raise AlreadyExists(f"{path} exists already")
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise AlreadyExists(f"{path} exists already") from None
    finally:
        os.unlink(temporary)
