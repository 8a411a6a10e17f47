"""MuPoTS-3D as the authors' JSON: images with their intrinsics, annotations with 17 joints in pixels and in camera millimetres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from engine.datasets.base import Found, ImageFile, RawItem, SkippedInstances, Unreadable, make_instance, safe_key
from engine.datasets.geometry import degenerate, is_camera, rounded
from engine.datasets.json_stream import array_items
from engine.datasets.mocap_tables import INVALID, ODD, UNKNOWN, whole
from engine.datasets.plausible import DISAGREEMENT, disagreement_px, wrong_size
from schemas.sample import Camera
from schemas.skeletons import MI17


@dataclass(frozen=True, slots=True)
class _Image:
    id: int
    file_name: str
    wh: tuple[int, int]
    camera: Camera

    @property
    def sequence(self) -> str:
        return PurePosixPath(self.file_name).parent.name


@dataclass(frozen=True)
class ConvertedFile:
    """The file of the whole test set. `image_path` gives an image's path below the root by its file_name.

    RawDataError if it is damaged. A sequence whose intrinsics do not take its 3D joints to its 2D joints is unreadable.
    """

    path: Path
    image_path: Callable[[str], str]
    image_file: Callable[[str], Path]

    def items(self) -> Iterator[Found]:
        images = self._images()
        wrong = self._wrong_sequences(images)
        for name, (message, count) in sorted(wrong.items()):
            yield Unreadable(safe_key(name, "sequence"), "calibration_wrong", f"{self.path}, sequence {name}: {message}", count)
        for annotation in array_items(self.path, "annotations"):
            try:
                image = images.get(whole(annotation["image_id"]))
            except ODD:
                yield SkippedInstances(INVALID)
                continue
            if image is None:
                yield SkippedInstances(UNKNOWN)
            elif image.sequence not in wrong:
                yield self._item(annotation, image)

    def _images(self) -> dict[int, _Image]:
        """Images by id; those with a missing or odd field are not among them."""
        found: dict[int, _Image] = {}
        for image in array_items(self.path, "images"):
            try:
                fx, fy, cx, cy = rounded(image["intrinsic"])
                camera = Camera(focal=(fx, fy), princpt=(cx, cy))
                identity, wh = whole(image["id"]), (whole(image["width"]), whole(image["height"]))
                if is_camera(camera) and min(wh) > 0 and isinstance(image["file_name"], str):
                    found[identity] = _Image(identity, image["file_name"], wh, camera)
            except ODD:
                continue
        return found

    def _wrong_sequences(self, images: dict[int, _Image]) -> dict[str, tuple[str, int]]:
        """Sequences whose 3D and 2D joints disagree, with what is wrong and how many persons they have."""
        off: dict[str, list[float]] = defaultdict(list)
        sizes: dict[str, list[np.ndarray]] = defaultdict(list)
        persons: dict[str, int] = defaultdict(int)
        limit: dict[str, float] = {}
        for annotation in array_items(self.path, "annotations"):
            try:
                image = images[whole(annotation["image_id"])]
            except ODD:
                continue
            persons[image.sequence] += 1
            limit[image.sequence] = DISAGREEMENT * max(image.wh)
            joints = _joints(annotation)
            if not isinstance(joints, str):
                image_J2, cam_J3 = joints
                off[image.sequence].append(_off_px(image_J2, cam_J3, image.camera))
                sizes[image.sequence].append(np.ptp(cam_J3, axis=0))
        found: dict[str, tuple[str, int]] = {}
        for name, distances in off.items():
            extent_N23 = np.stack([np.zeros((len(sizes[name]), 3)), np.stack(sizes[name])], axis=1)
            message = wrong_size(extent_N23)
            if not (median := float(np.median(distances))) <= limit[name]:
                message = f"expected keypoints_cam to project onto keypoints_img, found {median:.0f} px between them (median)"
            if message:
                found[name] = message, persons[name]
        return found

    def _item(self, annotation: dict[str, Any], image: _Image) -> Found:
        try:
            identity, bbox = str(whole(annotation["id"])), tuple(map(float, annotation["bbox"]))
        except ODD:
            return SkippedInstances(INVALID)
        joints = _joints(annotation)
        if isinstance(joints, str):
            return SkippedInstances(joints)
        image_J2, cam_J3 = joints
        if len(bbox) != 4 or not np.isfinite(bbox).all():
            return SkippedInstances(INVALID)
        if degenerate(bbox, *image.wh):
            return SkippedInstances("degenerate_box")
        if not _off_px(image_J2, cam_J3, image.camera) <= DISAGREEMENT * max(image.wh):
            return SkippedInstances("projection_disagrees")
        person = make_instance(
            annotation_id=identity, bbox_xywh=bbox, skeleton=MI17.name, joints_img=rounded(image_J2),
            joints_valid=(True,) * len(MI17), joints_cam=rounded(cam_J3), camera=image.camera,
        )  # fmt: skip
        if isinstance(person, SkippedInstances):
            return person
        image_path = self.image_path(image.file_name)
        key = safe_key(f"{image.sequence}_{PurePosixPath(image.file_name).stem.removeprefix('img_')}", f"image_{image.id}")
        return RawItem(key, image_path, ImageFile(self.image_file(image_path)), *image.wh, (person,))


def _joints(annotation: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | str:
    """Pixels (J, 2) and camera joints (J, 3) in metres; why there are none otherwise."""
    try:
        if not annotation["is_valid"]:
            return "invalid_frame"
        image_J2 = np.asarray(annotation["keypoints_img"], np.float64).reshape(len(MI17), 2)
        cam_J3 = np.asarray(annotation["keypoints_cam"], np.float64).reshape(len(MI17), 3) / 1000
    except ODD:
        return INVALID
    if not (np.isfinite(image_J2).all() and np.isfinite(cam_J3).all() and (cam_J3[:, 2] > 0).all()):
        return INVALID
    return image_J2, cam_J3


def _off_px(image_J2: np.ndarray, cam_J3: np.ndarray, camera: Camera) -> float:
    return disagreement_px(cam_J3[:, :2] / cam_J3[:, 2:] * camera.focal + camera.princpt, image_J2)
