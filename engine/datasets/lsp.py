"""Leeds Sports Pose and its extended training set: one person an image, cut out of sports photographs, with 14 2D joints.

Layout: `joints.mat` and `im<number>.jpg` in `images/` or beside it, both numbered from 1. `joints` is (3, 14, 2000) in LSP and
(14, 3, 10000) in LSPET, three being x, y and a flag. LSP's flag says that a joint is covered: its annotators placed it all the same, so
it is valid, as COCO's v = 1 is. LSPET's flag says that a joint is there; the coordinates of the others are junk.

HR-LSPET has the photographs of LSPET in full resolution as PNG, without the worst of them.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from engine.datasets.base import DatasetConfig, ImageFile, RawDataset, RawItem, SkippedInstances, make_instance
from engine.datasets.geometry import rounded, tight_box
from engine.datasets.matlab import read_mat
from engine.errors import ConfigError, RawDataError
from schemas.sample import Supervision
from schemas.skeletons import LSP14

_LSPET_IMAGES = 10_000
J = len(LSP14)


class _JointsMat(RawDataset):
    """A set of one `joints.mat`. Instances have skeleton lsp14 and 2D joints only; annotation_id is the image's name."""

    supervision: ClassVar[Supervision] = "itw2d"
    splits: ClassVar[tuple[str, ...]]

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if self.split not in self.splits:
            raise ConfigError(f"dataset {self.name}: split {self.split!r} is not one of {', '.join(self.splits)}")

    def annotation_files(self) -> list[Path]:
        return [self.require("joints.mat")]

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        (path,) = self.annotation_files()
        joints = read_mat(path, "joints")["joints"]
        if not isinstance(joints, np.ndarray) or joints.dtype.kind not in "fiu" or joints.ndim != 3:
            raise RawDataError(
                f"{path}: expected joints as three-dimensional numbers, found {getattr(joints, 'shape', type(joints).__name__)}"
            )
        places_NJ2, valid_NJ = self.labelled(path, joints.astype(np.float64))
        folder = "images/" if (self.root / "images").is_dir() else ""
        names = self.image_names(path, len(places_NJ2), self.root / folder)
        for i in self.rows(len(places_NJ2)):
            yield self._person(f"{folder}{names[i]}", names[i].split(".")[0], places_NJ2[i], valid_NJ[i])

    @abstractmethod
    def labelled(self, path: Path, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (N, J, 2), and which are valid (N, J)."""

    @abstractmethod
    def image_names(self, path: Path, count: int, folder: Path) -> list[str]:
        """File names of the `count` images that `joints` is of."""

    @abstractmethod
    def rows(self, count: int) -> range:
        """The images of the split."""

    def _person(self, image_path: str, name: str, places_J2: np.ndarray, valid_J: np.ndarray) -> RawItem | SkippedInstances:
        if not valid_J.any():
            return SkippedInstances("no_keypoints")
        if not np.isfinite(places_J2[valid_J]).all():
            return SkippedInstances("invalid_annotation")
        places = rounded(np.where(valid_J[:, None], places_J2, 0))
        valid = tuple(valid_J.tolist())
        box = tight_box(places, valid)
        if box[2] == 0 or box[3] == 0:
            return SkippedInstances("degenerate_box")
        person = make_instance(annotation_id=name, bbox_xywh=box, skeleton=LSP14.name, joints_img=places, joints_valid=valid)
        if isinstance(person, SkippedInstances):
            return person
        return RawItem(name, image_path, ImageFile(self.image_file(image_path)), None, None, (person,))


class Lsp(_JointsMat):
    """Leeds Sports Pose: of its 2000 images the first half is for training."""

    splits = ("train", "test")

    def labelled(self, path: Path, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if joints.shape[:2] != (3, J):
            raise RawDataError(f"{path}: expected LSP's joints of shape (3, {J}, images), found {joints.shape}; LSPET is (14, 3, images)")
        places_NJ2 = joints[:2].transpose(2, 1, 0)
        return places_NJ2, np.ones(places_NJ2.shape[:2], bool)

    def image_names(self, path: Path, count: int, folder: Path) -> list[str]:
        return [f"im{i:04d}.jpg" for i in range(1, count + 1)]

    def rows(self, count: int) -> range:
        return range(count // 2) if self.split == "train" else range(count // 2, count)


class Lspet(_JointsMat):
    """LSP extended, the original JPEGs or HR-LSPET's PNGs: all of it is for training."""

    splits = ("train",)
    known_errors: ClassVar[Mapping[str, str]] = {
        "junk_places": "joints that are not there have coordinates all the same, mostly negative ones; they are not valid and are set to 0",
        "numbering": "HR-LSPET's file names keep the numbers of LSPET and so have gaps, its joints have none: they go together in order",
    }

    def labelled(self, path: Path, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if joints.shape[:2] != (J, 3):
            raise RawDataError(f"{path}: expected LSPET's joints of shape ({J}, 3, images), found {joints.shape}; LSP is (3, 14, images)")
        return joints[:, :2].transpose(2, 0, 1), joints[:, 2].T == 1

    def image_names(self, path: Path, count: int, folder: Path) -> list[str]:
        pngs = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"im\d{5}\.png", entry.name))
        if not pngs or count == _LSPET_IMAGES:
            return [f"im{i:05d}.{'png' if pngs else 'jpg'}" for i in range(1, count + 1)]
        if len(pngs) != count:
            raise RawDataError(
                f"{path}: expected {count} images im*.png, one a person, found {len(pngs)} in {folder}; "
                "HR-LSPET's go together in order, so complete the images"
            )
        return pngs

    def rows(self, count: int) -> range:
        return range(count)
