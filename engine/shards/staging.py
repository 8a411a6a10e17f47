"""One shard at a time on the worker's own disk: read through memory maps, checked once, gone when it is done with.

A local shard is mapped where it lies. A remote one is downloaded into a file that has no name, so the kernel takes it back when
the process ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

from engine import faults
from engine.disk import disk_errors
from engine.errors import ShardCorrupt, StorageError
from engine.shards.reader import check_bytes, copy_into
from engine.storage import Store, split
from schemas.manifests import ShardPlan

_REMEDY = "make room there, or set `staging` to a folder on a larger disk"


@dataclass(frozen=True)
class Staging:
    """Where shards are held while they are worked on. `folder` None: the system's folder for temporary files."""

    folder: str | None = None

    @contextmanager
    def open(self, shard: ShardPlan) -> Iterator[mmap]:
        """The shard's tar as a read-only map, checked against its plan; for `read_verified_samples`.

        Slices of it are bytes of their own; the map itself is closed at the end. StorageError when the folder is full, read-only
        or not a folder, MissingInput or ShardCorrupt when the shard is absent or damaged. Threads may stage several at once.
        """
        store, name = split(shard.url)
        data = _map(shard, store.open_local(name) if store.protocol == "file" else self._download(store, name, shard.size_bytes))
        try:
            check_bytes(shard.url, data, shard.sha256, shard.size_bytes)
            yield data
        finally:
            with suppress(BufferError):  # somebody still holds a view; the map ends with the view
                data.close()

    def _download(self, store: Store, name: str, size_bytes: int) -> BinaryIO:
        folder = self.folder or tempfile.gettempdir()
        try:
            with disk_errors(folder, size_bytes, _REMEDY):
                os.makedirs(folder, exist_ok=True)
                file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except (FileExistsError, NotADirectoryError):
            raise StorageError(f"{folder}: expected a folder to stage shards in, found a file; correct `staging`") from None
        try:
            with disk_errors(folder, size_bytes, _REMEDY):
                faults.hit("stage_shard", name)
            copy_into(store, name, size_bytes, file, folder, _REMEDY)
        except BaseException:
            file.close()
            raise
        return file


def _map(shard: ShardPlan, file: BinaryIO) -> mmap:
    with file:
        if not os.fstat(file.fileno()).st_size:
            raise ShardCorrupt(f"{shard.url}: expected {shard.size_bytes} bytes, found 0; fetch or ingest it again")
        return mmap(file.fileno(), 0, access=ACCESS_READ)
