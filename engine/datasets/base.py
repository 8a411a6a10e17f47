"""What every raw dataset looks like to ingest: images with persons, counted reasons for what is left out, and what could not be read.

A loader reads annotations only, as a stream, in whatever order its files have: ingest sorts by key and joins what has one key.
Whether an image exists and can be decoded is for ingest to find out, so that no loader needs its own idea of a broken image.
Frames and units are those of schemas/sample.py.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from engine.config import Config
from engine.datasets.options import (
    CocoOptions,
    Human36mOptions,
    InstaVarietyOptions,
    Mpi3dhpOptions,
    MpiiOptions,
    PhotosOptions,
    Up3dOptions,
)
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Instance, Supervision

MAX_KEY_LENGTH = 90
"""With its extension a key stays below the 100 bytes of a plain tar header's name."""

DatasetName = Literal[
    "3dpw",
    "coco",
    "crowdpose",
    "human36m",
    "instavariety",
    "lsp",
    "lspet",
    "mpi_inf_3dhp",
    "mpii",
    "muco",
    "mupots",
    "photos",
    "up3d",
]


class DatasetConfig(Config):
    """One split of one raw dataset on disk."""

    name: DatasetName = Field(description="the raw dataset; which of its layouts lies in `root` is found out")
    root: str = Field(description="its folder, on a local or mounted file system")
    split: str = Field(description="its split, as the dataset names it: train2017, train, test")
    coco: CocoOptions = Field(CocoOptions(), description="used by coco alone")
    human36m: Human36mOptions = Field(Human36mOptions(), description="used by human36m alone")
    mpi_inf_3dhp: Mpi3dhpOptions = Field(Mpi3dhpOptions(), description="used by mpi_inf_3dhp alone")
    mpii: MpiiOptions = Field(MpiiOptions(), description="used by mpii alone")
    instavariety: InstaVarietyOptions = Field(InstaVarietyOptions(), description="used by instavariety alone")
    up3d: Up3dOptions = Field(Up3dOptions(), description="used by up3d alone")
    photos: PhotosOptions = Field(PhotosOptions(), description="used by photos alone: your own photographs and videos")


@dataclass(frozen=True)
class ImageFile:
    """An image that is a file."""

    path: Path


@dataclass(frozen=True)
class ImageSlice:
    """An image that is `size` bytes of a larger file, such as a tfrecord."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class VideoFrame:
    """Frame number `frame` of a video, from 0, in the order of presentation."""

    path: Path
    frame: int


ImageSource = ImageFile | ImageSlice | VideoFrame


@dataclass(frozen=True)
class RawItem:
    """One image with persons to be kept. Several items may have one key: they are one image, and agree in all but their persons."""

    key: str
    image_path: str
    """What the sample says of where its image was: relative to the dataset's root; a frame of a video or record ends in `#<number>`."""
    image: ImageSource
    width: int | None
    """Of the image the annotations were made on, pixels; None when the dataset does not say, or says it wrongly."""
    height: int | None
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class SkippedInstances:
    """Persons the dataset's own annotation rules out, with the reason."""

    reason: str
    instances: int = 1


@dataclass(frozen=True)
class Unreadable:
    """A part of the raw dataset that cannot be read, such as one of its sequences; the rest goes on. It becomes a quarantine row."""

    key: str
    """Names the part: a file's path relative to the root, made a key by `safe_key`."""
    reason: str
    message: str
    instances: int = 0
    """Persons known to be in it."""


Found = RawItem | SkippedInstances | Unreadable


class RawDataset(ABC):
    """One split of a raw dataset."""

    supervision: ClassVar[Supervision]
    known_errors: ClassVar[Mapping[str, str]] = {}
    """Errors of the published files that this loader handles: a short name -> what is wrong and what is done about it."""

    def __init__(self, config: DatasetConfig) -> None:
        self.name = config.name
        self.split = config.split
        self.root = Path(config.root.removeprefix("file://"))
        if "://" in str(config.root) and not config.root.startswith("file://"):
            raise ConfigError(
                f"dataset root {config.root}: expected a folder; copy or mount the raw dataset, only shards may be at any URL"
            )
        if not self.root.is_dir():
            raise MissingInput(f"dataset {self.name}: root {self.root} is not a folder; set dataset.root to the raw dataset")

    @abstractmethod
    def annotation_files(self) -> list[Path]:
        """Every file items() reads annotations from. MissingInput names one that is absent."""

    @abstractmethod
    def items(self) -> Iterator[Found]:
        """Every person found, in any order but always the same: kept on an item, skipped, or in a part that is unreadable.

        RawDataError when nothing can be read of the only annotation file, UnsafeInput when it reaches outside the root.
        """

    def settings(self) -> dict[str, Any]:
        """Options that change what items() yields, as JSON values; paths are not among them."""
        return {}

    def require(self, *parts: str) -> Path:
        """A file or folder below the root; MissingInput if it is not there."""
        path = self.root.joinpath(*parts)
        if not path.exists():
            raise MissingInput(f"dataset {self.name}: {path} does not exist; check dataset.root and dataset.split")
        return path

    def part_key(self, path: Path) -> str:
        """The key of an Unreadable for a file or folder below the root."""
        return re.sub(r"[^A-Za-z0-9_\-]", "_", path.relative_to(self.root).with_suffix("").as_posix())[-MAX_KEY_LENGTH:]

    def image_file(self, image_path: str) -> Path:
        """Absolute path of an image named by an annotation; UnsafeInput if it would leave the root."""
        if image_path.startswith("/") or ".." in image_path.split("/") or "\0" in image_path or not image_path:
            raise UnsafeInput(f"dataset {self.name}: an annotation names the image {image_path!r}, which is outside the dataset's root")
        return self.root / image_path


def safe_key(preferred: str, fallback: str) -> str:
    """`preferred` if it can be a sample key, else `fallback`."""
    return preferred if re.fullmatch(rf"[A-Za-z0-9_\-]{{1,{MAX_KEY_LENGTH}}}", preferred) else fallback


def make_instance(**fields: Any) -> Instance | SkippedInstances:
    """An Instance, or 'invalid_annotation' where numbers are NaN, infinite or of the wrong count."""
    try:
        return Instance(**fields)
    except ValidationError:
        return SkippedInstances("invalid_annotation")


def read_json(path: Path) -> Any:
    """A raw annotation file's content; RawDataError if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RawDataError(f"{path}: expected JSON, found {error}; the download may be incomplete") from None
