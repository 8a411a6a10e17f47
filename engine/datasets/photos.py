"""Your own photographs and videos, with boxes that you have or that a detector finds.

Layout: JPEG and PNG files and videos anywhere below the root, and a file of boxes (engine/datasets/boxes.py has its forms). The split
names the folder below the root to take, or is `all`. docs/YOUR_PHOTOGRAPHS.md tells how to ingest and annotate them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps

from engine.datasets.base import (
    DatasetConfig,
    Found,
    ImageFile,
    RawDataset,
    RawItem,
    SkippedInstances,
    Unreadable,
    VideoFrame,
    make_instance,
)
from engine.datasets.boxes import BoxedPerson, read_boxes
from engine.datasets.detectors import Detection, open_detector
from engine.datasets.geometry import degenerate, rounded
from engine.datasets.video import Video
from engine.errors import ConfigError, MissingInput, SampleRejected
from schemas.records import canonical_json
from schemas.sample import Supervision
from schemas.skeletons import SKELETONS

PHOTOGRAPHS = frozenset({".jpg", ".jpeg", ".png"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})
ALL = "all"
_ORIENTATION = 0x0112
_SWAPS_SIDES = (5, 6, 7, 8)
_NOT_AN_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Photos(RawDataset):
    """Instances have the config's skeleton, with no valid joint where there are no keypoints. A frame's key is its video's and its number.

    annotation_id is the boxes file's id, or the person's number in the file, or in its photograph. Photographs without a person are named
    as unreadable with no person in them, so that nothing is left out silently.
    """

    supervision: ClassVar[Supervision] = "itw2d"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.options = config.photos
        if (self.options.boxes is None) == (self.options.detector is None):
            raise ConfigError(
                "dataset photos: expected photos.boxes (a file of boxes) or photos.detector (which finds them), one of the two"
            )
        if self.options.skeleton not in SKELETONS:
            raise ConfigError(f"photos.skeleton {self.options.skeleton!r}: expected one of {', '.join(SKELETONS)}")
        if self.options.boxes is not None and (self.options.boxes.startswith("/") or ".." in self.options.boxes.split("/")):
            raise ConfigError(f"photos.boxes {self.options.boxes!r}: expected a file below the root, such as boxes.json")
        self.skeleton = SKELETONS[self.options.skeleton]
        self._files, self._nameless = self._listed()

    def settings(self) -> dict[str, Any]:
        listing = hashlib.sha256()
        for name in self._files:
            path = self.root / name
            listing.update(canonical_json([name, path.stat().st_size if path.exists() else None]))
        return {**self.options.model_dump(mode="json"), "files": listing.hexdigest()}

    def annotation_files(self) -> list[Path]:
        return [] if self.options.boxes is None else [self.require(self.options.boxes)]

    def items(self) -> Iterator[Found]:
        for name in self._nameless:
            yield Unreadable(key_of(name), "odd_name", f"{name!a}: its name is not UTF-8; rename it")
        yield from self._from_boxes() if self.options.boxes is not None else self._detected()

    def _listed(self) -> tuple[list[str], list[str]]:
        """Names, relative to the root, of every photograph and video, sorted, and those that are not text.

        Files and folders with a leading dot are left out.
        """
        folder = self.root if self.split == ALL else self.require(self.split)
        found = []
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and Path(name).suffix.lower() in PHOTOGRAPHS | VIDEOS:
                    found.append((Path(place) / name).relative_to(self.root).as_posix())
        if not found:
            raise MissingInput(f"dataset photos: no photograph or video ({', '.join(sorted(PHOTOGRAPHS | VIDEOS))}) below {folder}")
        found.sort()
        return [name for name in found if _is_text(name)], [name for name in found if not _is_text(name)]

    def _from_boxes(self) -> Iterator[Found]:
        (path,) = self.annotation_files()
        files, boxed = set(self._files), set()
        for person in read_boxes(path, self.skeleton):
            if isinstance(person, SkippedInstances):
                yield person
                continue
            self.image_file(person.image)
            name, frame = _split_name(person.image)
            if name not in files:
                yield SkippedInstances("unknown_image")
                continue
            boxed.add(name)
            if frame is not None and frame % self.options.video_stride:
                yield SkippedInstances("not_sampled")
            else:
                yield self._boxed(person, name, frame)
        for name in self._files:
            if name not in boxed:
                yield Unreadable(key_of(name), "no_boxes", f"{name}: {path.name} has no box in it")

    def _boxed(self, person: BoxedPerson, name: str, frame: int | None) -> RawItem | SkippedInstances:
        size = person.size_wh
        if frame is None and size == (None, None):
            size = self._size(name)
        return self._item(
            name, frame, size, person.id, Detection(person.bbox_xywh, 1.0), tuple(person.joints.places), tuple(person.joints.valid)
        )

    def _size(self, name: str) -> tuple[int | None, int | None]:
        """Width and height by which ingest can tell which way the coordinates go; it also finds what cannot be decoded."""
        try:
            with Image.open(self.root / name, formats=("JPEG", "PNG")) as image:
                turned = self.options.coordinates == "upright" and image.getexif().get(_ORIENTATION) in _SWAPS_SIDES
                return image.size[::-1] if turned else image.size
        except _NOT_AN_IMAGE:
            return None, None

    def _detected(self) -> Iterator[Found]:
        assert self.options.detector is not None
        detector = open_detector(self.options.detector)
        for name in self._files:
            for frame, pixels in self._pixels(name):
                key = key_of(name, frame)
                if isinstance(pixels, SampleRejected):
                    yield Unreadable(key, pixels.reason, f"{name}: {pixels}")
                    continue
                try:
                    persons = [found for found in detector.detect(pixels) if found.score >= self.options.min_score]
                except Exception as error:  # a detector of somebody else's, over a photograph of somebody else's
                    yield Unreadable(key, "detector_failed", f"{name}: {type(error).__name__}: {error}")
                    continue
                if not persons:
                    yield Unreadable(key, "nobody_found", f"{name}: {self.options.detector} finds nobody in it")
                for number, found in enumerate(persons):
                    yield self._found(name, frame, pixels.shape[1::-1], str(number), found)

    def _pixels(self, name: str) -> Iterator[tuple[int | None, np.ndarray | SampleRejected]]:
        """A photograph, or the frames of a video that are taken, uint8 RGB (H, W, 3); what cannot be decoded says why."""
        if Path(name).suffix.lower() in PHOTOGRAPHS:
            try:
                with Image.open(self.root / name, formats=("JPEG", "PNG")) as image:
                    yield (
                        None,
                        np.asarray((ImageOps.exif_transpose(image) if self.options.coordinates == "upright" else image).convert("RGB")),
                    )
            except _NOT_AN_IMAGE as error:
                yield None, SampleRejected("image_undecodable", f"{type(error).__name__}: {error}")
            return
        try:
            with Video(self.root / name) as video:
                for frame in range(0, len(video), self.options.video_stride):
                    try:
                        yield frame, video.frame(frame)
                    except SampleRejected as error:
                        yield frame, error
        except (SampleRejected, OSError) as error:
            yield None, error if isinstance(error, SampleRejected) else SampleRejected("image_missing", str(error.strerror))

    def _found(self, name: str, frame: int | None, size: tuple[int, ...], person: str, found: Detection) -> RawItem | SkippedInstances:
        places, valid = ((0.0, 0.0),) * len(self.skeleton), (False,) * len(self.skeleton)
        if found.keypoints is not None:
            joints_J3 = np.asarray(found.keypoints, np.float64)
            if joints_J3.shape != (len(self.skeleton), 3) or not np.isfinite(joints_J3).all():
                return SkippedInstances("invalid_annotation")
            valid = tuple((joints_J3[:, 2] > 0).tolist())
            places = rounded(joints_J3[:, :2] * (joints_J3[:, 2:] > 0))
        return self._item(name, frame, (size[0], size[1]), person, found, places, valid)

    def _item(
        self,
        name: str,
        frame: int | None,
        size: tuple[int | None, int | None],
        person: str,
        found: Detection,
        places: tuple[Any, ...],
        valid: tuple[bool, ...],
    ) -> RawItem | SkippedInstances:
        box = np.asarray(found.bbox_xywh, np.float64)
        if box.shape != (4,) or not np.isfinite(box).all():
            return SkippedInstances("invalid_annotation")
        bbox = rounded(box)
        if not (bbox[2] > 0 and bbox[3] > 0) or (size[0] and size[1] and degenerate(bbox, size[0], size[1])):
            return SkippedInstances("degenerate_box")
        instance = make_instance(annotation_id=person, bbox_xywh=bbox, skeleton=self.skeleton.name, joints_img=places, joints_valid=valid)
        if isinstance(instance, SkippedInstances):
            return instance
        path = self.image_file(name)
        if frame is None:
            return RawItem(key_of(name), name, ImageFile(path), *size, (instance,))
        return RawItem(key_of(name, frame), f"{name}#{frame}", VideoFrame(path, frame), *size, (instance,))


def key_of(name: str, frame: int | None = None) -> str:
    """The sample key of a photograph or frame: the same whatever else lies in the folder.

    That of `a.jpg` in the root is a; others have the first of their name and sixteen digits of its sha256.
    """
    plain = re.fullmatch(r"([A-Za-z0-9_\-]{1,80})\.jpg", name)
    if plain is not None:
        key = plain[1]
    else:
        readable = re.sub(r"[^A-Za-z0-9_\-]+", "_", name.rpartition(".")[0])[-48:]
        key = f"{readable}_{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    return key if frame is None else f"{key}_{frame:06d}"


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_name(image: str) -> tuple[str, int | None]:
    """A photograph's name, or that of a video and the number of a frame."""
    name, mark, frame = image.rpartition("#")
    if mark and Path(name).suffix.lower() in VIDEOS and re.fullmatch("[0-9]{1,9}", frame):
        return name, int(frame)
    return image, None
