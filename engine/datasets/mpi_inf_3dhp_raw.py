"""One training sequence of MPI-INF-3DHP as it was downloaded: `annot.mat`, `camera.calibration` and frames or videos.

`annot2` and `annot3` are cells, one a camera, of N x 56 and N x 84 numbers: 28 joints of every frame, pixels and camera millimetres.
Row i is frame i of `imageSequence/video_<camera>.avi`. Whoever unpacked the videos named frames in their own way; the ways in use are
`FRAMES`. Numbers start at 0 where there is a file number 0, else at 1. Boxes are those of the joints inside the image, 1.2 times as large.

Legend: N frames, J joints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.datasets.base import Found, ImageFile, ImageSource, RawItem, SkippedInstances, Unreadable, VideoFrame, make_instance
from engine.datasets.calibration import CalibratedCamera, read_calibration
from engine.datasets.geometry import degenerate, rounded, tight_box
from engine.datasets.matlab import cells, read_mat
from engine.datasets.options import FrameSplit
from engine.datasets.plausible import DISAGREEMENT, disagreement_px, wrong_size
from engine.errors import MissingInput, RawDataError
from schemas.sample import Camera
from schemas.skeletons import MI17

CALIBRATION = "camera.calibration"
JOINTS28 = (
    "spine3",
    "spine4",
    "spine2",
    "spine",
    "pelvis",
    "neck",
    "head",
    "head_top",
    "left_clavicle",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "left_hand",
    "right_clavicle",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "right_hand",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_foot",
    "left_toe",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_foot",
    "right_toe",
)
"""Rows of annot2 and annot3, under the set's own names."""
_OTHER_NAMES = {"Torso": "spine"}
FRAMES = (
    "imageFrames/video_{camera}/frame_{number:06d}.jpg",
    "imageSequence/video_{camera}/frame_{number:06d}.jpg",
    "imageSequence/video_{camera}/img_{number:06d}.jpg",
    "imageSequence/video_{camera}/frame{number:06d}.jpg",
    "imageSequence/img_{camera}_{number:06d}.jpg",
    "images/{sequence}_V{camera}/img_{sequence}_V{camera}_{number:06d}.jpg",
)
"""Names of unpacked frames below a sequence's folder; `sequence` is S<n>_Seq<m>."""
VIDEO = "imageSequence/video_{camera}.avi"


def _mi17_rows() -> list[int]:
    def theirs(name: str) -> str:
        return _OTHER_NAMES.get(name, name.replace("L_", "left_").replace("R_", "right_").lower())

    return [JOINTS28.index(theirs(name)) for name in MI17.joints]


@dataclass(frozen=True)
class Sequence:
    """Sequence `name` (S<n>_Seq<m>) in `folder`, below `root`."""

    root: Path
    folder: Path
    name: str
    part: FrameSplit

    def items(self) -> Iterator[Found]:
        """Every person of the wanted cameras. RawDataError if annot.mat is damaged; a camera that is wrong costs itself."""
        content = read_mat(self.folder / "annot.mat", "annot2", "annot3")
        annot2, annot3 = cells(content["annot2"]), cells(content["annot3"])
        for number in sorted(self.part.cameras):
            frames = max(len(_rows_or_none(cell, number)) for cell in (annot2, annot3))
            try:
                image_NJ2, cam_NJ3 = _rows(annot2, number, 2), _rows(annot3, number, 3) / 1000
                if len(image_NJ2) != len(cam_NJ3):
                    raise RawDataError(f"annot2 has {len(image_NJ2)} frames, annot3 {len(cam_NJ3)}")
            except RawDataError as error:
                yield self._unreadable(number, "annotation_unreadable", f"{self.folder}/annot.mat: camera {number}: {error}", frames)
                continue
            yield from self._view(number, image_NJ2, cam_NJ3)
        unwanted = set(range(len(annot2))) - set(self.part.cameras)
        if left_out := sum(len(_rows_or_none(annot2, number)) for number in sorted(unwanted)):
            yield SkippedInstances("not_sampled", left_out)

    def _view(self, number: int, image_NJ2: np.ndarray, cam_NJ3: np.ndarray) -> Iterator[Found]:
        """Frames of one camera, which has to project the 3D joints onto the 2D ones."""
        wanted = np.arange(0, len(image_NJ2), self.part.every_nth)
        finite_N = np.isfinite(image_NJ2[wanted]).all((1, 2)) & np.isfinite(cam_NJ3[wanted]).all((1, 2))
        judged = wanted[finite_N]
        try:
            view = self._camera(number)
        except (MissingInput, RawDataError) as error:
            reason = "calibration_missing" if isinstance(error, MissingInput) else "calibration_wrong"
            yield self._unreadable(number, reason, str(error), len(image_NJ2))
            return
        off_px = disagreement_px(view.camera.to_image(cam_NJ3[judged]), image_NJ2[judged])
        wrong = wrong_size(cam_NJ3[judged])
        if off_px > DISAGREEMENT * max(view.width, view.height):
            wrong = (
                f"expected annot3 to project onto annot2, found a median distance of {off_px:.0f} px; is it another sequence's calibration?"
            )
        if wrong:
            yield self._unreadable(number, "calibration_wrong", f"{self.folder}: camera {number}: {wrong}", len(image_NJ2))
            return
        source = self._source(number)
        pinhole = Camera(focal=rounded(view.camera.focal), princpt=rounded(view.camera.princpt))
        for frame, finite in zip(wanted.tolist(), finite_N.tolist(), strict=True):
            image_path, image = source(frame)
            key = f"{self.name}_video_{number}_F{frame:06d}"
            inside_J = ((image_NJ2[frame] >= 0) & (image_NJ2[frame] < (view.width, view.height))).all(1)
            front = bool((cam_NJ3[frame, :, 2] > 0).all())
            if not finite or not front or not inside_J.any():
                yield SkippedInstances("invalid_annotation" if not finite else "outside_image" if front else "behind_camera")
                continue
            bbox = tight_box(image_NJ2[frame].tolist(), inside_J.tolist())
            if degenerate(bbox, view.width, view.height):
                yield SkippedInstances("degenerate_box")
                continue
            person = make_instance(
                annotation_id=key, bbox_xywh=bbox, skeleton=MI17.name, joints_img=rounded(image_NJ2[frame]),
                joints_valid=(True,) * len(MI17), joints_cam=rounded(cam_NJ3[frame]), camera=pinhole,
            )  # fmt: skip
            yield person if isinstance(person, SkippedInstances) else RawItem(key, image_path, image, view.width, view.height, (person,))
        if left_out := len(image_NJ2) - len(wanted):
            yield SkippedInstances("not_sampled", left_out)

    def _camera(self, number: int) -> CalibratedCamera:
        path = self.folder / CALIBRATION
        view = read_calibration(path).get(number, "is not in it")
        if isinstance(view, str):
            raise RawDataError(f"{path}: camera {number}: {view}")
        return view

    def _source(self, number: int) -> Callable[[int], tuple[str, ImageSource]]:
        """Where a camera's frames are: unpacked, if anything is, else in its video."""
        for pattern in FRAMES:
            found = self._first_number(pattern, number)
            if found is not None:
                return lambda frame, pattern=pattern: self._file(pattern.format(camera=number, number=frame + found, sequence=self.name))
        return lambda frame: self._video_frame(VIDEO.format(camera=number), frame)

    def _first_number(self, pattern: str, camera: int) -> int | None:
        """The number that frame 0 has in a pattern, or None where no frame goes by it."""

        def path(number: int) -> Path:
            return self.folder / pattern.format(camera=camera, number=number, sequence=self.name)

        if path(0).exists():
            return 0
        stem, digits = path(1).stem[:-6], "[0-9]" * 6
        return 1 if path(1).exists() or next(path(1).parent.glob(f"{stem}{digits}.jpg"), None) else None

    def _file(self, relative: str) -> tuple[str, ImageSource]:
        path = self.folder / relative
        return path.relative_to(self.root).as_posix(), ImageFile(path)

    def _video_frame(self, relative: str, frame: int) -> tuple[str, ImageSource]:
        path = self.folder / relative
        return f"{path.relative_to(self.root).as_posix()}#{frame}", VideoFrame(path, frame)

    def _unreadable(self, camera: int, reason: str, message: str, instances: int) -> Unreadable:
        return Unreadable(f"{self.name}_video_{camera}", reason, message, instances)


def _rows_or_none(annotation: list, number: int) -> np.ndarray:
    value = annotation[number] if number < len(annotation) else None
    return value if isinstance(value, np.ndarray) and value.ndim == 2 else np.empty((0, 0))


def _rows(annotation: list, number: int, dimensions: int) -> np.ndarray:
    """A camera's 17 joints, (N, J, dimensions) in the file's unit. RawDataError if its cell is not N x 28 * dimensions numbers."""
    value = _rows_or_none(annotation, number)
    if value.shape[1] != len(JOINTS28) * dimensions or value.dtype.kind not in "fiu":
        raise RawDataError(f"expected a cell of N x {len(JOINTS28) * dimensions} numbers, found {value.shape} of {value.dtype}")
    return value.astype(np.float64).reshape(-1, len(JOINTS28), dimensions)[:, _mi17_rows()]
