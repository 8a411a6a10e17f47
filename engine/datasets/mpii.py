"""MPII Human Pose: photographs from everyday videos with 16 2D joints, in each of its published forms.

The original `mpii_human_pose_v1_u12_1.mat` (engine/datasets/mpii_mat.py), and the JSON files made from it: COCO's layout
(`annotations/<split>.json`, the authors'), a list of persons (`annot/<split>.json` of Simple Baselines and HRNet, mmpose's
`annotations/mpii_<split>.json`), and MPII-TRB. What a file holds is found out from its content. Images are in `images/` or in the root.

All forms have MATLAB's coordinates, from 1. A joint is valid if it is labelled, covered or not. `objpos` is some 15 * scale pixels too
high, and `scale` is of the whole person where half of it is cut off; so the box is the authors', 1.2 times that of the labelled joints,
in all forms alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from engine.datasets.base import DatasetConfig, Found, ImageFile, RawDataset, RawItem, SkippedInstances, Unreadable, make_instance, safe_key
from engine.datasets.coco_json import CocoLayout, ImageRecord, Joints, image_size, keypoint_joints, keypoint_order, read_persons
from engine.datasets.geometry import tight_box
from engine.datasets.json_stream import array_items
from engine.datasets.mpii_mat import IMG_TRAIN, ListedPerson, release_persons
from engine.errors import ConfigError, MissingInput, RawDataError
from schemas.records import sha256_hex
from schemas.sample import Supervision
from schemas.skeletons import MPII16

_MAT = "mpii_human_pose_v1_u12_1.mat"
_MAT_FOLDERS = (".", "annotations", "annot", "mpii_human_pose_v1_u12_2", "mpii_human_pose_v1_u12_1")
_JSON = (
    "annotations/{}.json",
    "annot/{}.json",
    "annotations/mpii_{}.json",
    "{}_mpii.json",
    "annotations/mpii_trb_{}.json",
    "{}_mpii_trb.json",
)
_FIRST_PIXEL = 1
"""Coordinate of the first pixel's centre in MATLAB, and so in all of MPII's files."""


class Mpii(RawDataset):
    """Instances have skeleton mpii16 and 2D joints only.

    annotation_id is `<image>_<n>`, the n-th person of the image in the file from 0, or the file's own id in COCO's layout.
    """

    supervision: ClassVar[Supervision] = "itw2d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "from_one": "coordinates are MATLAB's, which count pixels from 1, in the JSON files too; 1 is subtracted",
        "irregular_fields": "annorect, annopoints, point, objpos, scale and is_visible are missing, empty, single or text here and there; "
        "what is not needed is not read, and persons without points are skipped as no_keypoints",
        "single_point": "a person of a single point spans no box and is skipped as degenerate_box",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.file = config.mpii.annotations

    def annotation_files(self) -> list[Path]:
        if self.file is not None:
            return [self.require(self.file)]
        mats = [self.root / folder / _MAT for folder in _MAT_FOLDERS] if self.split in IMG_TRAIN else []
        tried = mats + [self.root / name.format(self.split) for name in _JSON]
        for path in tried:
            if path.is_file():
                return [path]
        raise MissingInput(
            f"dataset {self.name}: {tried[0]} does not exist, nor does any other annotation file of split {self.split!r}; "
            "check dataset.root and dataset.split, or name the file in dataset.mpii.annotations"
        )

    def items(self) -> Iterator[Found]:
        (path,) = self.annotation_files()
        folder = "images/" if (self.root / "images").is_dir() else ""
        if path.suffix == ".mat":
            if self.split not in IMG_TRAIN:
                raise ConfigError(f"dataset {self.name}: {path.name} has the splits {', '.join(IMG_TRAIN)}, not {self.split!r}")
            yield from self._listed(release_persons(path, self.split), folder)
        elif _first_character(path) == "[":
            yield from self._listed(_list_persons(path), folder)
        else:
            yield from self._coco(path, folder)

    def _listed(self, persons: Iterator[ListedPerson | Unreadable], folder: str) -> Iterator[Found]:
        for person in persons:
            yield person if isinstance(person, Unreadable) else self._person(person, folder)

    def _person(self, person: ListedPerson, folder: str) -> RawItem | SkippedInstances:
        if isinstance(person.joints, SkippedInstances):
            return person.joints
        joints = _from_zero(person.joints)
        if not any(joints.valid):
            return SkippedInstances("no_keypoints")
        if not all(isfinite(x) and isfinite(y) for x, y in joints.places):
            return SkippedInstances("invalid_annotation")
        box = tight_box(*joints)
        if box[2] == 0 or box[3] == 0:
            return SkippedInstances("degenerate_box")
        key = safe_key(PurePosixPath(person.image).stem, fallback=f"image_{sha256_hex(person.image.encode())[:16]}")
        instance = make_instance(
            annotation_id=f"{key}_{person.number}", bbox_xywh=box, skeleton=MPII16.name, joints_img=joints.places, joints_valid=joints.valid
        )
        if isinstance(instance, SkippedInstances):
            return instance
        image_path = _image_path(person.image, folder)
        return RawItem(key, image_path, ImageFile(self.image_file(image_path)), None, None, (instance,))

    def _coco(self, path: Path, folder: str) -> Iterator[RawItem | SkippedInstances]:
        keypoints = keypoint_joints(*keypoint_order(path, MPII16))

        def image(entry: dict[str, Any]) -> ImageRecord:
            return ImageRecord(_image_path(entry["file_name"], folder), *image_size(entry))

        layout = CocoLayout(MPII16, lambda annotation: _from_zero(keypoints(annotation)), image, lambda _, joints: tight_box(*joints))
        yield from read_persons(self, path, layout)


def _image_path(name: str, folder: str) -> str:
    """The authors' file names begin with `images/`, the others have no folder."""
    return name if "/" in name else f"{folder}{name}"


def _from_zero(joints: Joints) -> Joints:
    """Places counted from 0, and (0, 0) where a joint is not labelled."""
    places = [(x - _FIRST_PIXEL, y - _FIRST_PIXEL) if ok else (0.0, 0.0) for (x, y), ok in zip(joints.places, joints.valid, strict=True)]
    return Joints(places, joints.valid)


def _first_character(path: Path) -> str:
    with open(path, "rb") as file:
        text = file.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] not in (b"[", b"{"):
        raise RawDataError(f"{path}: expected a .mat file or JSON, found {text[:8]!r}; the download may be incomplete")
    return text[:1].decode()


def _list_persons(path: Path) -> Iterator[ListedPerson]:
    """Persons of the JSON list; test persons have no joints."""
    seen: Counter[str] = Counter()
    for entry in array_items(path, None):
        try:
            name = entry["image"]
            if not isinstance(name, str) or not name:
                raise TypeError(f"expected the name of an image, found {name!r}")
            joints = _list_joints(entry["joints"], entry["joints_vis"]) if "joints" in entry else SkippedInstances("no_keypoints")
            yield ListedPerson(name, seen[name], joints)
            seen[name] += 1
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            yield ListedPerson("", 0, SkippedInstances("invalid_annotation"))


def _list_joints(places: Sequence[Any], labels: Sequence[Any]) -> Joints:
    if len(places) != len(MPII16) or len(labels) != len(MPII16):
        raise ValueError(f"expected {len(MPII16)} joints, found {len(places)} with {len(labels)} labels")
    return Joints([(float(x), float(y)) for x, y in places], [label > 0 for label in labels])
