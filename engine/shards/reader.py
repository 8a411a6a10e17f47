"""Shard sets read back: every byte that leaves here has the digest its manifest promises, or ShardCorrupt says why not."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from functools import cached_property
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from engine.disk import disk_errors, reserve
from engine.errors import MissingInput, ShardCorrupt
from engine.shards.tar import Member, members
from engine.storage import Store, join
from schemas.manifests import ShardEntry, ShardIndexRow, ShardPlan, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Sample

MANIFEST = "manifest.json"
TarBytes = bytes | mmap | memoryview
_verified: set[tuple[str, str]] = set()
"""(path, sha256) of local copies this process has hashed."""


class ShardSet:
    """A manifest and where its shards lie. Open it with `open_shard_set`."""

    def __init__(self, url: str, manifest: ShardSetManifest) -> None:
        self.url = url
        self.manifest = manifest
        self.store = Store(url)

    def __reduce__(self):
        return ShardSet, (self.url, self.manifest)

    @cached_property
    def digest(self) -> str:
        return self.manifest.digest()

    def shard_url(self, entry: ShardEntry) -> str:
        return join(self.url, entry.path)

    def fetch(self, entry: ShardEntry) -> bytes:
        """The shard's tar. ShardCorrupt if its size or digest is not the manifest's."""
        data = self.store.get(entry.path)
        check_bytes(self.shard_url(entry), data, entry.sha256, entry.size_bytes)
        return data

    def index(self, entry: ShardEntry) -> list[ShardIndexRow]:
        """Where each sample lies in the tar, in the order of keys. ShardCorrupt if the index is not the manifest's."""
        data = self.store.get(entry.index_path)
        check_bytes(join(self.url, entry.index_path), data, entry.index_sha256, None)
        rows = [ShardIndexRow.model_validate_json(line) for line in data.splitlines()]
        _check_counts(self.shard_url(entry), entry, len(rows), sum(row.instances for row in rows))
        return rows

    def local_path(self, entry: ShardEntry, cache_dir: str | Path) -> Path:
        """A local file with the shard's bytes, for `read_at`: the shard itself if it is local, else a copy in `cache_dir`.

        Hashed once a process, ShardCorrupt if damaged; a damaged copy is fetched again. Safe for processes that share the folder.
        """
        local = self.store.protocol == "file"
        path = Path(self.store.path(entry.path)) if local else Path(cache_dir) / f"{entry.sha256}.tar"
        if (str(path), entry.sha256) in _verified and path.exists():
            return path
        if local:
            self.fetch(entry)
        elif not (path.exists() and _digest(path) == entry.sha256):
            self._copy(entry, path)
        _verified.add((str(path), entry.sha256))
        return path

    def _copy(self, entry: ShardEntry, path: Path) -> None:
        """The shard in a local file, checked; nothing is left of a copy that fails."""
        remedy = "make room there, or set the cache to a folder on a larger disk"
        partial = path.with_name(f".partial-{uuid.uuid4().hex}")
        with disk_errors(path.parent, entry.size_bytes, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(partial, "wb")  # noqa: SIM115
        try:
            with file:
                copy_into(self.store, entry.path, entry.size_bytes, file, path.parent, remedy)
            with open(partial, "rb") as copy, mmap(copy.fileno(), 0, access=ACCESS_READ) as data:
                check_bytes(self.shard_url(entry), data, entry.sha256, entry.size_bytes)
            os.replace(partial, path)
        except BaseException:
            partial.unlink()
            raise


def open_shard_set(url: str) -> ShardSet:
    """The shard set at a URL (its folder). MissingInput if there is none, ShardCorrupt if its manifest does not hold together."""
    url = url.rstrip("/").removesuffix(f"/{MANIFEST}")
    try:
        data = Store(url).get(MANIFEST)
    except MissingInput:
        message = f"{url}: no shard set ({MANIFEST}) there; run jobs/ingest.py, or submit it again if it was interrupted"
        raise MissingInput(message) from None
    try:
        return ShardSet(url, ShardSetManifest.from_bytes(data))
    except ValidationError as error:
        raise ShardCorrupt(f"{join(url, MANIFEST)}: not a manifest of this version: {error}") from None


def copy_into(store: Store, key: str, size_bytes: int, file: BinaryIO, folder: str | Path, remedy: str) -> None:
    """Write a shard's tar, unchecked, to an open, empty file of a folder. StorageError with the remedy if there is no room."""
    reserve(file.fileno(), size_bytes, folder, remedy)
    file.truncate(store.get_into(key, file, size_bytes + 1))  # one too many is enough to be seen


def read_samples(tar_bytes: TarBytes, expected: ShardPlan | ShardEntry | None = None) -> list[tuple[Sample, bytes]]:
    """Every sample of a tar with its image's bytes, in order.

    ShardCorrupt if the tar holds anything but complete pairs of plain members, or differs from `expected` in digest, size
    or counts. Without `expected` a flipped byte inside an image goes unseen.
    """
    if expected is not None:
        check_bytes(_name(expected), tar_bytes, expected.sha256, expected.size_bytes)
    return read_verified_samples(tar_bytes, expected)


def read_verified_samples(tar_bytes: TarBytes, expected: ShardPlan | ShardEntry | None = None) -> list[tuple[Sample, bytes]]:
    """As `read_samples`, of bytes whose digest was checked before: by `ShardSet.fetch`, or by `Staging.open`."""
    name = _name(expected)
    try:
        found = members(tar_bytes)
    except ShardCorrupt as error:
        raise ShardCorrupt(f"{name}: {error}") from None
    samples, seen = [], set()
    for first, second in zip(found[0::2], found[1::2], strict=False):
        image, record = (second, first) if first.extension == "json" else (first, second)
        if record.extension != "json" or image.extension == "json" or image.key != record.key:
            raise ShardCorrupt(f"{name}: expected an image and its json side by side, found {_show(first)} and {_show(second)}")
        if image.key in seen:
            raise ShardCorrupt(f"{name}: sample {image.key} is there twice")
        seen.add(image.key)
        samples.append((_sample(name, image.key, _cut(tar_bytes, record)), _cut(tar_bytes, image)))
    if len(found) % 2:
        raise ShardCorrupt(f"{name}: {_show(found[-1])} has no partner")
    if expected is not None:
        _check_counts(name, expected, len(samples), sum(len(sample.instances) for sample, _ in samples))
    return samples


def read_at(path: Path, row: ShardIndexRow) -> tuple[Sample, bytes]:
    """One sample and its image's bytes from a local shard (`ShardSet.local_path`), without reading the rest."""
    file = os.open(path, os.O_RDONLY)
    try:
        record, image = os.pread(file, row.json_size, row.json_offset), os.pread(file, row.image_size, row.image_offset)
    finally:
        os.close(file)
    if len(record) != row.json_size or len(image) != row.image_size:
        raise ShardCorrupt(f"{path}: sample {row.key} goes beyond the end of the file; it is cut off")
    return _sample(str(path), row.key, record), image


def check_bytes(name: str, data: TarBytes, sha256: str, size_bytes: int | None) -> None:
    """ShardCorrupt if the bytes are not of this size and digest."""
    if size_bytes is not None and len(data) != size_bytes:
        raise ShardCorrupt(f"{name}: expected {size_bytes} bytes, found {len(data)}; fetch or ingest it again")
    if (found := sha256_hex(data)) != sha256:
        raise ShardCorrupt(f"{name}: expected sha256 {sha256}, found {found}; it was damaged or replaced, fetch or ingest it again")


def _check_counts(name: str, expected: ShardPlan | ShardEntry, samples: int, instances: int) -> None:
    if (samples, instances) != (expected.samples, expected.instances):
        raise ShardCorrupt(
            f"{name}: expected {expected.samples} samples with {expected.instances} instances, found {samples} with {instances}"
        )


def _sample(name: str, key: str, record: bytes) -> Sample:
    try:
        sample = Sample.from_bytes(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ShardCorrupt(f"{name}: {key}.json is not a Sample: {json.dumps(first['loc'])}: {first['msg']}") from None
    if sample.key != key:
        raise ShardCorrupt(f"{name}: {key}.json is about sample {sample.key}")
    return sample


def _cut(data: TarBytes, member: Member) -> bytes:
    return bytes(data[member.offset : member.offset + member.size])


def _show(member: Member) -> str:
    return f"{member.key}.{member.extension}"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(expected: ShardPlan | ShardEntry | None) -> str:
    return "shard" if expected is None else expected.url if isinstance(expected, ShardPlan) else expected.path
