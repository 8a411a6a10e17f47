"""What every raw dataset looks like to ingest: items in the order of their keys, and counted reasons for what is left out.

A loader reads annotations only. Whether an image exists and can be decoded is for ingest to find out, so that no loader
needs its own idea of a broken image. Frames and units are those of schemas/sample.py.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from engine.body.smpl import BodyConfig
from engine.config import Config
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Instance, Supervision

MAX_KEY_LENGTH = 90
"""With its extension a key stays below the 100 bytes of a plain tar header's name."""


class Human36mSplit(Config):
    """Which part of Human3.6M a split is."""

    subjects: tuple[int, ...] = Field(min_length=1, description="subject numbers")
    every_nth: int = Field(ge=1, description="frames: keep those whose index is a multiple of this")
    cameras: tuple[int, ...] = Field(min_length=1, description="camera numbers, 1 to 4")


class Human36mOptions(Config):
    """Human3.6M's splits, as the authors sample them, and the body its SMPL fits are for."""

    train: Human36mSplit = Field(Human36mSplit(subjects=(1, 5, 6, 7, 8), every_nth=5, cameras=(1, 2, 3, 4)), description="split 'train'")
    test: Human36mSplit = Field(Human36mSplit(subjects=(9, 11), every_nth=64, cameras=(4,)), description="split 'test'")
    excluded: tuple[str, ...] = Field(("s_11_act_02_subact_02_ca_01",), description="folders of images known to be corrupt")
    body: BodyConfig = Field(BodyConfig(), description="body of the SMPL fits; its rest pelvis carries them to the camera frame")


class DatasetConfig(Config):
    """One split of one raw dataset on disk."""

    name: Literal["coco", "human36m", "3dpw"] = Field(description="layout of the raw dataset")
    root: str = Field(description="its folder, on a local or mounted file system")
    split: str = Field(description="its split, as the dataset names it: train2017, train, test")
    human36m: Human36mOptions = Field(Human36mOptions(), description="used by human36m alone")


@dataclass(frozen=True)
class RawItem:
    """One image with the persons to be kept."""

    key: str
    image_path: str
    """Relative to the dataset's root."""
    image_file: Path
    width: int | None
    """Of the image the annotations were made on, pixels; None when the dataset does not say."""
    height: int | None
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class SkippedInstances:
    """Persons the dataset's own annotation rules out, with the reason."""

    reason: str
    instances: int = 1


class RawDataset(ABC):
    """One split of a raw dataset."""

    supervision: ClassVar[Supervision]

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
    def items(self) -> Iterator[RawItem | SkippedInstances]:
        """Images in ascending order of their keys, and what was skipped in between.

        RawDataError when the annotation contradicts the layout, UnsafeInput when it reaches outside the root.
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

    def image_file(self, image_path: str) -> Path:
        """Absolute path of an image named by an annotation; UnsafeInput if it would leave the root."""
        relative = PurePosixPath(image_path)
        if relative.is_absolute() or ".." in relative.parts or "\0" in image_path or not image_path:
            raise UnsafeInput(f"dataset {self.name}: an annotation names the image {image_path!r}, which is outside the dataset's root")
        return self.root / relative


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
    except ValueError as error:
        raise RawDataError(f"{path}: expected JSON, found {error}; the download may be incomplete") from None
