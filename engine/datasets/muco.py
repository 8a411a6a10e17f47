"""MuCo-3DHP in the authors' JSON layout: images composited of several people of MPI-INF-3DHP, with and without other backgrounds.

Files: `MuCo-3DHP.json` (images with the camera as f and c; annotations with 21 joints in pixels and in camera millimetres), the images in
`augmented_set/` and `unaugmented_set/`, and, if it is there, `smpl_param.json`: fits by annotation id, camera frame, metres. About 400,000
images and a million persons, so persons are read as a stream and only a row an image is held.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from engine.datasets.base import DatasetConfig, Found, ImageFile, RawDataset, RawItem, SkippedInstances, make_instance, safe_key
from engine.datasets.geometry import degenerate, rounded
from engine.datasets.json_stream import array_items, leaves
from engine.datasets.mocap_tables import INVALID, ODD, UNKNOWN, whole
from engine.datasets.plausible import DISAGREEMENT, disagreement_px, wrong_size
from engine.datasets.smpl_fits import FitTable
from engine.errors import ConfigError
from schemas.sample import Camera, Instance, SmplParams, Supervision
from schemas.skeletons import MUCO21


class MuCo(RawDataset):
    """Instances have skeleton muco21 with 2D and 3D joints, and neutral SMPL in the camera frame where a fit exists.

    Every joint is valid, hidden by another person or not: its place is known. All persons of an image are kept, those far back as well.
    """

    supervision: ClassVar[Supervision] = "mocap"
    known_errors: ClassVar[Mapping[str, str]] = {
        "joint names": "the joints called Thorax and Spine in some of the authors' code are MPI-INF-3DHP's Neck and Torso",
        "fits": "smpl_param.json lacks some persons: they have no SMPL parameters",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if config.split != "train":
            raise ConfigError(f"dataset {self.name}: split {config.split!r} is not train, the only one")
        self._fits_path = self.root / "smpl_param.json"

    def annotation_files(self) -> list[Path]:
        return [self.require("MuCo-3DHP.json")] + [path for path in (self._fits_path,) if path.exists()]

    def items(self) -> Iterator[Found]:
        path = self.annotation_files()[0]
        images = _Images(path)
        fits = FitTable(_by_annotation(self._fits_path)) if self._fits_path.exists() else None
        for annotation in array_items(path, "annotations"):
            try:
                image = images.get(whole(annotation["image_id"]))
                yield self._item(annotation, image, fits) if image else SkippedInstances(UNKNOWN)
            except ODD:
                yield SkippedInstances(INVALID)

    def _item(self, annotation: dict[str, Any], image: _Image, fits: FitTable | None) -> Found:
        person = _person(annotation, image, fits)
        if isinstance(person, SkippedInstances):
            return person
        key = re.sub(r"[^A-Za-z0-9_\-]", "_", PurePosixPath(image.file_name).with_suffix("").as_posix())
        file = ImageFile(self.image_file(image.file_name))
        return RawItem(safe_key(key, f"image_{image.id}"), image.file_name, file, image.width, image.height, (person,))


class _Image:
    """One image: its name, its size and its camera."""

    def __init__(self, identity: int, file_name: str, numbers: np.ndarray) -> None:
        self.id, self.file_name = identity, file_name
        self.width, self.height = int(numbers[0]), int(numbers[1])
        self.focal, self.princpt = numbers[2:4], numbers[4:6]


class _Images:
    """The images of a file by id; those that lack a field are not among them."""

    def __init__(self, path: Path) -> None:
        ids, numbers = array("q"), array("d")
        self._names: list[str] = []
        for image in array_items(path, "images"):
            try:
                row = [float(whole(image["width"])), float(whole(image["height"])), *map(float, image["f"]), *map(float, image["c"])]
                identity, name = whole(image["id"]), image["file_name"]
                if len(row) != 6 or not np.isfinite(row).all() or min(row[:4]) <= 0 or not isinstance(name, str):
                    continue
            except ODD:
                continue
            ids.append(identity)
            numbers.extend(row)
            self._names.append(name)
        self._order = np.argsort(np.array(ids, np.int64), kind="stable")
        self._ids = np.array(ids, np.int64)[self._order]
        self._numbers = np.array(numbers, np.float64).reshape(-1, 6)

    def get(self, identity: int) -> _Image | None:
        place = int(np.searchsorted(self._ids, identity))
        if place == len(self._ids) or self._ids[place] != identity:
            return None
        row = int(self._order[place])
        return _Image(identity, self._names[row], self._numbers[row])


def _by_annotation(path: Path) -> Iterator[tuple[int, Any]]:
    for (key,), fit in leaves(path, 1):
        if key.isdecimal():
            yield int(key), fit


def _person(annotation: dict[str, Any], image: _Image, fits: FitTable | None) -> Instance | SkippedInstances:
    image_J2 = np.asarray(annotation["keypoints_img"], np.float64).reshape(len(MUCO21), 2)
    cam_J3 = np.asarray(annotation["keypoints_cam"], np.float64).reshape(len(MUCO21), 3) / 1000
    x, y, w, h = bbox = tuple(map(float, annotation["bbox"]))
    if not all(np.isfinite(values).all() for values in (image_J2, cam_J3, bbox)):
        return SkippedInstances(INVALID)
    if degenerate((x, y, w, h), image.width, image.height):
        return SkippedInstances("degenerate_box")
    if not (cam_J3[:, 2] > 0).all():
        return SkippedInstances("behind_camera")
    if wrong_size(cam_J3[None]):
        return SkippedInstances("implausible_size")
    projected_J2 = cam_J3[:, :2] / cam_J3[:, 2:] * image.focal + image.princpt
    if disagreement_px(projected_J2, image_J2) > max(DISAGREEMENT * max(image.width, image.height), 3):
        return SkippedInstances("projection_disagrees")
    fit = fits.get(whole(annotation["id"])) if fits else None
    return make_instance(
        annotation_id=str(annotation["id"]), bbox_xywh=bbox, skeleton=MUCO21.name, joints_img=rounded(image_J2),
        joints_valid=(True,) * len(MUCO21), joints_cam=rounded(cam_J3),
        smpl=fit and SmplParams(pose=rounded(fit.pose_72), betas=rounded(fit.betas_10), transl=rounded(fit.trans_3)),
        camera=Camera(focal=rounded(image.focal), princpt=rounded(image.princpt)),
    )  # fmt: skip
