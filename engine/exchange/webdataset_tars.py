"""Self-contained WebDataset tars: image, annotation and fits of every sample side by side, for those who stream one kind of file.

    <key>.jpg | <key>.png    the image, byte for byte as in the shard set
    <key>.json               its Sample (schemas/sample.py), with the persons who have a row, in the order of the arrays
    <key>.npz                arrays (P, ...) float32: pose 72, betas 10, transl 3, focal 2, princpt 2, latent 32 as in a release's rows; the
                             quality figures (P,); image_origin (2,) and image_step (2,): photograph px = origin + step * px of the image

Cameras and joints are in pixels of the photograph, which the stored image is, or a part of: then origin is not 0 or step not 1.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from engine.config import Config
from engine.datasets.npy import parse_npy
from engine.errors import EngineError, RawDataError, ShardCorrupt, UnsafeInput
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.by_image import VECTORS, ByImage, image_extension, vectors, written_sample
from engine.shards.tar import SELF_CONTAINED, Member, end_mark, header, members, padding
from schemas.sample import Sample

CAPABILITIES = Capabilities(camera=True, latent=True, quality=True, images=True, notes=("images without a row are left out",))
_MAX_UNPACKED = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Options(Config):
    """Self-contained tars."""

    max_shard_mb: float = Field(default=500.0, gt=0, description="a tar is closed once it is this large, MB")


class TarsWriter:
    """Tars <dataset>-<split>-000000.tar and on. Memory is one sample."""

    wants_images = True

    def __init__(self, folder: Path, options: Options, info: ExportInfo) -> None:
        self._folder, self._limit = folder, options.max_shard_mb * 1e6
        self._stem = f"{info.dataset}-{info.split}"
        self._names: list[str] = []
        self._file, self._size = None, 0
        self._persons = ByImage(self._write)

    def add(self, person: Person) -> None:
        self._persons.add(person)

    def _write(self, persons: list[Person]) -> None:
        first = persons[0]
        if self._file is None or self._size >= self._limit:
            self._close_tar()
            self._names.append(f"{self._stem}-{len(self._names):06d}.tar")
            self._file = open(self._folder / self._names[-1], "wb")  # noqa: SIM115  closed by `close`
        parts = {image_extension(first.image): first.image, "json": written_sample(persons).to_bytes(), "npz": npz_bytes(arrays(persons))}
        for extension in sorted(parts):  # as WebDataset's own writer leaves them
            data = parts[extension]
            self._put(header(f"{first.sample.key}.{extension}", len(data), SELF_CONTAINED) + data + padding(len(data)))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def _close_tar(self) -> None:
        if self._file is not None:
            self._put(end_mark(self._size))
            self._file.close()
        self._file, self._size = None, 0

    def close(self) -> list[str]:
        self._persons.flush()
        self._close_tar()
        return self._names


def arrays(persons: list[Person]) -> dict[str, np.ndarray]:
    """The arrays of one image's persons."""
    window = persons[0].sample.window
    quality = {name: np.array([person.quality[name] for person in persons], np.float32) for name in persons[0].quality}
    step, origin = ((1.0, 1.0), (0.0, 0.0)) if window is None else (window.step, window.origin)
    return {**vectors(persons), **quality, "image_origin": np.array(origin), "image_step": np.array(step)}


def npz_bytes(values: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed npz as np.savez writes it, which depends on nothing but the arrays."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in values.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), member.getvalue())
    return out.getvalue()


def read_npz(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Arrays of numbers of an npz by name. UnsafeInput for Python objects or absurd sizes, RawDataError when it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if (size := sum(info.file_size for info in infos)) > _MAX_UNPACKED:
                raise UnsafeInput(f"{name}: expected at most {_MAX_UNPACKED} bytes of arrays, found {size}")
            files = {info.filename.removesuffix(".npy"): archive.read(info) for info in infos}
    except EngineError:
        raise
    except Exception as error:  # zipfile's, zlib's, struct's
        raise RawDataError(f"{name}: expected an npz, found {type(error).__name__}: {error}") from None
    return {key: parse_npy(content, f"{name}: {key}") for key, content in files.items()}


class TarsReader:
    """Fits of one tar, or of every tar of a folder, in order. A sample that is not what it should be costs its own persons.

    ShardCorrupt when a tar's structure is damaged or a member's name is not plain.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def fits(self) -> Iterator[Fit | Unmapped]:
        for path in self._paths:
            with open(path, "rb") as file:
                try:
                    data = mmap(file.fileno(), 0, access=ACCESS_READ)
                except ValueError:
                    raise ShardCorrupt(f"{path}: is empty") from None
                with data:
                    yield from self._read(path, data)

    def _read(self, path: Path, data: mmap) -> Iterator[Fit | Unmapped]:
        try:
            found = members(data, SELF_CONTAINED)
        except ShardCorrupt as error:
            raise ShardCorrupt(f"{path}: {error}") from None
        start = 0
        while start < len(found):
            stop = next((n for n in range(start, len(found)) if found[n].key != found[start].key), len(found))
            yield from _sample_fits(path, data, found[start:stop])
            start = stop


def _sample_fits(path: Path, data: mmap, found: list[Member]) -> Iterator[Fit | Unmapped]:
    name = f"{path.name}: {found[0].key}"
    parts = {member.extension: member for member in found}
    try:
        if len(parts) < len(found) or not {"json", "npz"} <= parts.keys():
            raise RawDataError(f"expected one json and one npz, found {', '.join(member.extension for member in found)}")
        record, packed = (data[parts[kind].offset : parts[kind].offset + parts[kind].size] for kind in ("json", "npz"))
        sample, values = Sample.from_bytes(record), read_npz(packed, name)
        columns = {key: _column(values, key, len(sample.instances), size) for key, size in VECTORS.items()}
    except (EngineError, ValidationError) as error:
        yield Unmapped(name, "invalid_record", str(error).splitlines()[0], image=found[0].key)
        return
    for n, instance in enumerate(sample.instances):
        latent = columns["latent"][n]
        yield Fit(
            *(columns[key][n] for key in ("pose", "betas", "transl", "focal", "princpt")),
            annotation_id=instance.annotation_id,
            image=sample.key,
            latent_32=None if np.isnan(latent).all() else latent,
        )


def _column(values: Mapping[str, np.ndarray], key: str, persons: int, size: int) -> np.ndarray:
    if key not in values and key == "latent":
        return np.full((persons, size), np.nan)
    if key not in values or values[key].shape != (persons, size):
        found = values[key].shape if key in values else "none"
        raise RawDataError(f"expected {key} of shape {(persons, size)}, found {found}")
    return values[key].astype(np.float64)


def open_writer(folder: Path, options: Options, info: ExportInfo) -> TarsWriter:
    return TarsWriter(folder, options, info)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> TarsReader:
    """RawDataError where a folder holds no tar."""
    paths = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not paths:
        raise RawDataError(f"{path}: expected tars, found none")
    return TarsReader(paths)
