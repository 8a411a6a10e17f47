"""One test sequence of MPI-INF-3DHP: `TS<n>/annot_data.mat` (version 7.3) and `TS<n>/imageSequence/img_%06d.jpg`, numbered from 1.

MATLAB's shapes are annot2 2x17x1xN (pixels), annot3 and univ_annot3 3x17x1xN (camera millimetres) and valid_frame 1xN; a single frame
has lost its last two dimensions. The file has no camera, but a pinhole's focal lengths and principal point are linear in what it has,
u = f x/z + c, so they are solved by least squares over the sequence; what is left over says whether 2D and 3D belong together.

Legend: N frames, J joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.datasets.base import Found, ImageFile, RawItem, SkippedInstances, Unreadable, make_instance
from engine.datasets.geometry import rounded, tight_box
from engine.datasets.matlab import read_mat
from engine.datasets.plausible import DISAGREEMENT, wrong_size
from engine.errors import RawDataError
from schemas.sample import Camera
from schemas.skeletons import MI17

ANNOTATION = "annot_data.mat"
_IMAGE_PX = 2048
"""The longer side of most of the sequences' images, for what counts as disagreement; annot_data.mat does not say it."""


@dataclass(frozen=True)
class Sequence:
    """The sequence in `folder`, whose name (TS<n>) begins its keys, below `root`."""

    root: Path
    folder: Path

    def items(self) -> Iterator[Found]:
        """The person of every valid frame. RawDataError if the file is damaged; a camera that cannot be solved costs the sequence."""
        path = self.folder / ANNOTATION
        content = read_mat(path, "annot2", "annot3", "univ_annot3", "valid_frame")
        image_NJ2, cam_NJ3, univ_NJ3 = (
            _joints(content, "annot2", 2),
            _joints(content, "annot3", 3) / 1000,
            _joints(content, "univ_annot3", 3) / 1000,
        )
        valid_N = np.asarray(content["valid_frame"]).ravel() == 1
        if not len(valid_N) == len(image_NJ2) == len(cam_NJ3) == len(univ_NJ3):
            counts = [len(valid_N), len(image_NJ2), len(cam_NJ3), len(univ_NJ3)]
            raise RawDataError(f"{path}: expected as many frames in valid_frame, annot2, annot3 and univ_annot3, found {counts}")
        finite_N = np.isfinite(image_NJ2).all((1, 2)) & np.isfinite(cam_NJ3).all((1, 2)) & np.isfinite(univ_NJ3).all((1, 2))
        usable_N = valid_N & finite_N & (cam_NJ3[..., 2] > 0).all(1)
        counts = {"invalid_frame": int((~valid_N).sum()), "invalid_annotation": int((valid_N & ~usable_N).sum())}
        yield from (SkippedInstances(reason, count) for reason, count in counts.items() if count)
        if not usable_N.any():
            return
        camera, off_px = solve_camera(image_NJ2[usable_N], cam_NJ3[usable_N])
        wrong = wrong_size(cam_NJ3[usable_N]) or wrong_size(univ_NJ3[usable_N])
        if off_px > DISAGREEMENT * _IMAGE_PX or min(camera.focal) <= 0:
            wrong = f"expected a pinhole camera that takes annot3 to annot2, the best one (focal {camera.focal}) is {off_px:.0f} px off"
        if wrong:
            yield Unreadable(
                "_".join(path.parent.relative_to(self.root).parts), "calibration_wrong", f"{path}: {wrong}", int(usable_N.sum())
            )
            return
        for frame in np.flatnonzero(usable_N).tolist():
            image = self.folder / "imageSequence" / f"img_{frame + 1:06d}.jpg"
            key = f"{self.folder.name}_F{frame + 1:06d}"
            person = make_instance(
                annotation_id=key, bbox_xywh=tight_box(image_NJ2[frame].tolist(), [True] * len(MI17)), skeleton=MI17.name,
                joints_img=rounded(image_NJ2[frame]), joints_valid=(True,) * len(MI17), joints_cam=rounded(cam_NJ3[frame]),
                joints_univ=rounded(univ_NJ3[frame]), camera=camera,
            )  # fmt: skip
            if isinstance(person, SkippedInstances):
                yield person
            else:
                yield RawItem(key, image.relative_to(self.root).as_posix(), ImageFile(image), None, None, (person,))


_BEYOND = 1e6
"""Pixels, and slopes of rays, that no joint in front of a camera has: least squares do not end with such numbers."""


def solve_camera(image_NJ2: np.ndarray, cam_NJ3: np.ndarray) -> tuple[Camera, float]:
    """The pinhole camera that takes joints in front of it to their pixels best, and the median distance that is left, pixels.

    Least squares, once more without the joints that are more than three median residuals off: a few wrong frames cost nothing.
    """
    with np.errstate(over="ignore"):
        x, u = (cam_NJ3[..., :2] / cam_NJ3[..., 2:]).reshape(-1, 2), image_NJ2.reshape(-1, 2)
    kept = sound = (np.abs(x) < _BEYOND).all(1) & (np.abs(u) < _BEYOND).all(1)
    for _ in range(2):
        lines = [np.linalg.lstsq(np.stack([x[kept, d], np.ones(kept.sum())], 1), u[kept, d], rcond=None)[0] for d in (0, 1)]
        (fx, cx), (fy, cy) = lines
        off = np.full(len(x), np.inf)
        off[sound] = np.linalg.norm(x[sound] * (fx, fy) + (cx, cy) - u[sound], axis=1)
        kept = sound & (off <= 3 * np.median(off) + 1e-9)
    return Camera(focal=rounded([fx, fy]), princpt=rounded([cx, cy])), float(np.median(off))


def _joints(content: dict[str, Any], name: str, dimensions: int) -> np.ndarray:
    """A variable's joints as (N, J, dimensions), in the file's unit."""
    value = content[name]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.shape[:2] != (dimensions, len(MI17)):
        found = f"{value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise RawDataError(f"{ANNOTATION}: expected {name} as {dimensions}x{len(MI17)}x1xN numbers, found {found}")
    return value.astype(np.float64).reshape(dimensions, len(MI17), -1).transpose(2, 1, 0)
