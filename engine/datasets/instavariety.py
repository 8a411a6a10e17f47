"""InstaVariety as its authors publish it: tfrecords of people in videos, with 2D joints that OpenPose found (HMMR, human_dynamics).

Layout: `<split>/*.tfrecord`, `insta_variety/<split>/*.tfrecord` (the folder their archive has), or the tfrecords in the root itself. A
record is one track: one person in up to 500 consecutive frames, each a stored JPEG that shows the person alone, 224x224 or 300x300. Every
frame is an image here, read where it lies in the tfrecord.

Joints are those of OpenPose's 25 under the names of HMR's universal skeleton: 14, whose first and sixth are heels, 5 of the face and 6 of
the feet. Where a record holds HMR's features (`image/phis`) its coordinates are in [-1, 1] of the stored JPEG, else in its pixels.

Legend: N frames of a track, J joints of instavariety25.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from engine.datasets.base import (
    DatasetConfig,
    Found,
    ImageSlice,
    RawDataset,
    RawItem,
    SkippedInstances,
    Unreadable,
    make_instance,
)
from engine.datasets.geometry import degenerate, rounded
from engine.datasets.tfrecord import Example, Record, Span, records
from engine.errors import MissingInput, RawDataError
from schemas.sample import Instance, Supervision
from schemas.skeletons import INSTAVARIETY25

BOX_SCALE = 1.2
"""Box side over that of the tight box of the visible joints."""
MAX_FRAMES = 10_000
"""The authors' writer cuts tracks at 500 frames."""
MAX_NAME_LENGTH = 70
"""Of what a key begins with: it leaves room for the numbers of track and frame."""
_BODY, _FACE, _FEET = 14, 5, 6
_NORMALISED_MOST = 2.0
"""Coordinates in [-1, 1] have a median magnitude below this, however far out single joints are; pixels one above."""


class InstaVariety(RawDataset):
    """Instances have skeleton instavariety25 and 2D joints only: visible ones inside the crop are valid.

    key and annotation_id are '<file>_<track>_<frame>', tracks and frames from 0. Boxes are tight boxes of the valid joints x 1.2, cut at
    the crop's edge.
    """

    supervision: ClassVar[Supervision] = "itw2d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "toe_pts_missing": "records without `image/toe_pts` (the documentation calls it toes_pts): feet are not valid",
        "face_pts_missing": "records without `image/face_pts`: the face is not valid",
        "filenames_untrimmed": "`image/filenames` are those of the whole video, more than there are frames: not used",
        "two_coordinate_forms": "`image/xys` are in [-1, 1] where `image/phis` are there and pixels elsewhere, which no field says: a "
        "track whose numbers contradict that is quarantined",
        "jittered_centres": "with `image/phis` crops were jittered and coordinates may lie outside of the JPEG: such joints are not valid",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.options = config.instavariety

    def settings(self) -> dict[str, Any]:
        return self.options.model_dump(mode="json")

    def annotation_files(self) -> list[Path]:
        folders = [self.root / self.split, self.root / "insta_variety" / self.split, self.root]
        for folder in folders:
            if files := sorted(folder.glob("*.tfrecord")):
                return files
        raise MissingInput(
            f"dataset {self.name}: no *.tfrecord in {', '.join(map(str, folders))}; unpack the authors' archive, or check dataset.split"
        )

    def items(self) -> Iterator[Found]:
        files = self.annotation_files()
        for path, name in zip(files, _short_names([path.stem for path in files]), strict=True):
            yield from self._file(path, name)

    def _file(self, path: Path, name: str) -> Iterator[Found]:
        where = str(path.relative_to(self.root))
        empty = True
        try:
            for record in records(path):
                empty = False
                yield from self._track(path, f"{where}#{record.number}", f"{name}_{record.number}", record)
            if empty:
                raise RawDataError(f"{where}: has no bytes; download it again")
        except (RawDataError, MissingInput) as error:
            yield Unreadable(name, "annotation_unreadable", str(error))

    def _track(self, path: Path, where: str, name: str, record: Record) -> Iterator[Found]:
        frames = 0
        try:
            if not record.intact:
                raise RawDataError("its bytes fail their checksum; download the file again")
            example = Example(record.payload)
            frames = _frames(example)
            joints_NJ3 = _joints(example, frames)
            images = example.spans("image/encoded", frames)
        except RawDataError as error:
            yield Unreadable(name, "annotation_unreadable", f"{where}: {error}", frames)
            return
        chosen = range(0, frames, self.options.every_nth)
        if left_out := frames - len(chosen):
            yield SkippedInstances("not_sampled", left_out)
        for frame in chosen:
            start, end = images[frame]
            try:
                wh = _size(record.payload, images[frame])
            except RawDataError as error:
                yield Unreadable(f"{name}_{frame}", "image_undecodable", f"{where}/{frame}: {error}", 1)
                continue
            found = _person(f"{name}_{frame}", joints_NJ3[frame], wh, normalised="image/phis" in example)
            if isinstance(found, SkippedInstances):
                yield found
            else:
                image = ImageSlice(path, record.offset + start, end - start)
                yield RawItem(f"{name}_{frame}", f"{where}/{frame}", image, *wh, (found,))


def _short_names(stems: list[str]) -> list[str]:
    """What keys begin with: the file's stem with '_' for what a key cannot have, or its number where that would not be unique."""
    names = [re.sub(r"[^A-Za-z0-9_\-]", "_", stem) for stem in stems]
    times = Counter(names)
    return [name if 0 < len(name) <= MAX_NAME_LENGTH and times[name] == 1 else f"file-{i:05d}" for i, name in enumerate(names)]


def _frames(example: Example) -> int:
    frames = int(example.ints("meta/N", (1,))[0])
    if not 1 <= frames <= MAX_FRAMES:
        raise RawDataError(f"feature meta/N: expected 1 to {MAX_FRAMES} frames, found {frames}")
    return frames


def _joints(example: Example, frames: int) -> np.ndarray:
    """x, y and visibility, (N, J, 3) float64, in the record's own coordinates."""
    xys_N2J = example.floats("image/xys", (frames, 2, _BODY))
    visible_N1J = example.ints("image/visibilities", (frames, 1, _BODY))
    parts = [np.concatenate([xys_N2J, visible_N1J > 0], 1)]
    for name, count in (("image/face_pts", _FACE), ("image/toe_pts", _FEET)):
        parts.append(example.floats(name, (frames, 3, count)) if name in example else np.zeros((frames, 3, count)))
    joints_NJ3 = np.concatenate(parts, 2).transpose(0, 2, 1).astype(np.float64)
    _check_form(joints_NJ3, normalised="image/phis" in example)
    return joints_NJ3


def _check_form(joints_NJ3: np.ndarray, normalised: bool) -> None:
    seen = np.abs(joints_NJ3[joints_NJ3[..., 2] > 0][:, :2])
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return
    median = float(np.median(seen))
    if (median <= _NORMALISED_MOST) != normalised:
        expected = "[-1, 1], as image/phis are there" if normalised else "pixels, as image/phis are not there"
        raise RawDataError(f"feature image/xys: expected coordinates in {expected}, found a median magnitude of {median:g}")


def _size(payload: memoryview, span: Span) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(payload[span[0] : span[1]]), formats=("JPEG", "PNG")) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RawDataError(f"expected a JPEG, found {type(error).__name__}") from None


def _person(annotation_id: str, joints_J3: np.ndarray, wh: tuple[int, int], normalised: bool) -> Instance | SkippedInstances:
    seen_J = joints_J3[:, 2] > 0
    if not np.isfinite(joints_J3[seen_J]).all() or np.isnan(joints_J3[:, 2]).any():
        return SkippedInstances("invalid_annotation")
    if not seen_J.any():
        return SkippedInstances("no_keypoints")
    xy_J2 = np.where(seen_J[:, None], joints_J3[:, :2], 0)
    if normalised:
        xy_J2 = (xy_J2 + 1) / 2 * wh
    valid_J = seen_J & (xy_J2 >= 0).all(1) & (xy_J2 <= np.subtract(wh, 1)).all(1)
    if not valid_J.any():
        return SkippedInstances("outside_image")
    xy_J2[~valid_J] = 0
    low, high = xy_J2[valid_J].min(0), xy_J2[valid_J].max(0)
    centre, half = (low + high) / 2, (high - low) * BOX_SCALE / 2
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, wh)
    bbox = rounded(np.concatenate([low, high - low]))
    if degenerate(bbox, *wh):
        return SkippedInstances("degenerate_box")
    return make_instance(
        annotation_id=annotation_id,
        bbox_xywh=bbox,
        skeleton=INSTAVARIETY25.name,
        joints_img=rounded(xy_J2),
        joints_valid=tuple(valid_J.tolist()),
    )
