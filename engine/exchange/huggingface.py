"""A Hugging Face dataset: README.md with its YAML header, and Parquet files that `datasets.load_dataset(folder)` and the hub's viewer show.

One row an image with the list of its persons, not one a person: the image is the large part, and would be there as often as it has
persons; the hub's detection datasets have such lists too. Feature types are written in the form that `datasets` 2 to 5 read.

Columns: image {bytes, path}; key, image_path; width, height of the photograph; image_origin, image_step: photograph px = origin + step * px
of the image; persons [{annotation_id, bbox, skeleton, joints, joints_valid, pose, betas, transl, focal, princpt, latent, quality figures}].
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from engine.config import Config
from engine.errors import MissingInput, RawDataError
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.by_image import VECTORS, ByImage, image_extension, vectors

CAPABILITIES = Capabilities(camera=True, latent=True, quality=True, images=True, notes=("images without a row are left out",))
_GROUP_BYTES = 32 << 20
_PERSON_BYTES = 1 << 10
_GROUP_ROWS = 1000
_READ_ROWS = 100
_QUALITY = (
    "reprojection_error", "visible_fraction", "keypoint_similarity", "latent_norm", "flip_disagreement", "truncation", "score",
)  # fmt: skip


class Options(Config):
    """A dataset of the Hugging Face hub."""

    images: bool = Field(default=True, description="with the images; false: annotations and fits alone")
    max_shard_mb: float = Field(default=500.0, gt=0, description="a Parquet file is closed once it is this large, MB")


def _numbers(size: int) -> pa.DataType:
    return pa.list_(pa.float32(), size)


PERSON = pa.struct(
    [("annotation_id", pa.string()), ("bbox", pa.list_(pa.float64(), 4)), ("skeleton", pa.string())]
    + [("joints", pa.list_(pa.list_(pa.float64(), 2))), ("joints_valid", pa.list_(pa.bool_()))]
    + [(name, _numbers(size)) for name, size in VECTORS.items()]
    + [("valid_joints", pa.int16()), *((name, pa.float32()) for name in _QUALITY)]
)
_PAIR = pa.list_(pa.float64(), 2)
_COLUMNS = {"key": pa.string(), "image_path": pa.string(), "width": pa.int32(), "height": pa.int32(), "image_origin": _PAIR}
_COLUMNS |= {"image_step": _PAIR, "persons": pa.list_(PERSON)}
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def schema(images: bool) -> pa.Schema:
    """The files' schema with the features that `datasets` looks for in its metadata."""
    columns = ({"image": _IMAGE} if images else {}) | _COLUMNS
    features = {name: {"_type": "Image"} if name == "image" else _feature(kind) for name, kind in columns.items()}
    return pa.schema(list(columns.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """`datasets`' word for an Arrow type; lists in the form that its versions 2 to 5 all read."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "Sequence"}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return [inner] if pa.types.is_struct(kind.value_type) else {"feature": inner, "_type": "Sequence"}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}


class HuggingFaceWriter:
    """data/<split>-00000-of-0000N.parquet and README.md. Memory is a row group: some 32 MB of images."""

    def __init__(self, folder: Path, options: Options, info: ExportInfo) -> None:
        self.wants_images = options.images
        self._folder, self._info, self._limit = folder, info, options.max_shard_mb * 1e6
        self._split = re.sub(r"\W", "_", info.split) or "train"
        self._schema = schema(options.images)
        (folder / "data").mkdir()
        self._persons = ByImage(self._add_image)
        self._rows: list[dict[str, Any]] = []
        self._bytes = self._files = self._images = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, person: Person) -> None:
        self._persons.add(person)

    def _add_image(self, persons: list[Person]) -> None:
        sample, image = persons[0].sample, persons[0].image
        window = sample.window
        row = {"key": sample.key, "image_path": sample.image_path, "width": sample.width, "height": sample.height}
        row |= {"image_origin": window.origin if window else (0, 0), "image_step": window.step if window else (1, 1)}
        columns = vectors(persons)
        row["persons"] = [_person(person, {name: values[n] for name, values in columns.items()}) for n, person in enumerate(persons)]
        if self.wants_images:
            row["image"] = {"bytes": image, "path": f"{sample.key}.{image_extension(image)}"}
            self._bytes += len(image)
        self._bytes += len(persons) * _PERSON_BYTES
        self._rows.append(row)
        if self._bytes >= min(_GROUP_BYTES, self._limit) or len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows and self._files:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._part(self._files), self._schema, compression="zstd", write_page_index=True)
            self._files += 1
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._images += len(self._rows)
        self._rows, self._bytes = [], 0
        if self._part(self._files - 1).stat().st_size >= self._limit:
            self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _part(self, number: int) -> Path:
        return self._folder / "data" / f"{number:05d}.partial"

    def close(self) -> list[str]:
        self._persons.flush()
        self._flush()
        self._end_file()
        names = [f"data/{self._split}-{n:05d}-of-{self._files:05d}.parquet" for n in range(self._files)]
        for n, name in enumerate(names):
            os.rename(self._part(n), self._folder / name)
        (self._folder / "README.md").write_text(self._readme(), encoding="utf-8")
        return ["README.md", *names]

    def _readme(self) -> str:
        info = self._info
        pictures = "images, annotations and" if self.wants_images else "annotations and"
        return f"""---
pretty_name: {json.dumps(f"{info.dataset} with 3D body pseudo-ground-truth")}
task_categories:
- keypoint-detection
tags:
- smpl
- 3d-human-pose
- pseudo-ground-truth
configs:
- config_name: default
  data_files:
  - split: {self._split}
    path: data/{self._split}-*.parquet
---

# {info.dataset}/{info.split}: {pictures} fits of the body "{info.body_name}"

{self._images} images, exported from the release {info.release} (digest `{info.digest}`); export.json says what that was made from.

A row is an image with its persons. pose is axis-angle (72, rad, root first), betas (10), transl (m) is added to the posed vertices;
camera frame x right, y down, z forward. `vertices + transl`, projected with focal and princpt (px of the photograph), land on the person.
px of the photograph = image_origin + image_step * px of the image. The body's digest is `{info.body_digest}`.
The images and annotations remain under the terms of {info.dataset}.
"""


def _person(person: Person, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    instance = person.instance
    known = {"annotation_id": instance.annotation_id, "bbox": instance.bbox_xywh, "skeleton": instance.skeleton}
    return known | {"joints": instance.joints_img, "joints_valid": instance.joints_valid, **columns, **person.quality}


class HuggingFaceReader:
    """Fits of every Parquet file of the dataset. An image that is not what it should be costs its own persons; image bytes are not read."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def fits(self) -> Iterator[Fit | Unmapped]:
        for path in self._paths:
            try:
                with pq.ParquetFile(path) as file:
                    names = set(file.schema_arrow.names)
                    if not {"key", "persons"} <= names:
                        raise RawDataError(f"{path}: expected columns key and persons, found {', '.join(sorted(names))}")
                    for batch in file.iter_batches(_READ_ROWS, columns=["key", "persons"]):
                        for row in batch.to_pylist():
                            yield from _image_fits(path, row)
            except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
                raise RawDataError(f"{path}: expected a Parquet file, found {error}; the download may be incomplete") from None


def _image_fits(path: Path, row: dict[str, Any]) -> Iterator[Fit | Unmapped]:
    key = str(row["key"])
    if not isinstance(row["persons"], list | None):
        yield Unmapped(f"{path.name}: {key}", "invalid_record", "persons is not a list", image=key)
        return
    for n, person in enumerate(row["persons"] or ()):
        identity = None
        try:
            identity = str(person["annotation_id"])
            values = {name: np.asarray(person[name], np.float64).reshape(size) for name, size in VECTORS.items() if name != "latent"}
            latent = person.get("latent")
            latent = None if latent is None else np.asarray(latent, np.float64).reshape(VECTORS["latent"])
        except (KeyError, TypeError, ValueError) as error:
            name = f"{path.name}: {key}, person {n}"
            yield Unmapped(name, "invalid_record", f"{type(error).__name__}: {error}", annotation_id=identity, image=key)
            continue
        yield Fit(
            *values.values(), annotation_id=identity, image=key, latent_32=None if latent is None or np.isnan(latent).all() else latent
        )


def open_writer(folder: Path, options: Options, info: ExportInfo) -> HuggingFaceWriter:
    return HuggingFaceWriter(folder, options, info)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> HuggingFaceReader:
    """MissingInput where a folder holds no Parquet file."""
    paths = sorted((path / "data").glob("*.parquet")) or sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not paths:
        raise MissingInput(f"{path}: expected data/*.parquet, found none")
    return HuggingFaceReader(paths)
