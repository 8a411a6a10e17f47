"""A sequence file of 3DPW: a pickle of one or two persons' tracks and of the camera that follows them.

Everything is in the world frame, metres, with one camera a sequence that moves: x_cam = R x + t from `cam_poses`.

Legend: P persons, F frames, J the 24 SMPL joints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.datasets.base import Found, ImageFile, RawItem, SkippedInstances, make_instance, safe_key
from engine.datasets.geometry import carry_to_camera, degenerate, is_camera, rounded, tight_box
from engine.datasets.threedpw_person import MAX_ROOT_M, gender_of, in_picture, project
from engine.errors import RawDataError
from schemas.sample import Camera, Instance
from schemas.skeletons import SMPL24

OPENPOSE18 = (
    "Nose",
    "Neck",
    *(f"{s}_{part}" for s in "RL" for part in ("Shoulder", "Elbow", "Wrist")),
    *(f"{s}_{part}" for s in "RL" for part in ("Hip", "Knee", "Ankle")),
    *("R_Eye", "L_Eye", "R_Ear", "L_Ear"),
)
"""Rows of `poses2d`."""
_LIMBS = tuple(name for name in OPENPOSE18 if name in SMPL24 and name not in ("Neck", "L_Hip", "R_Hip"))
"""The joints that a detector and SMPL put in the same place, but for centimetres."""
_MIN_DETECTIONS = 24
MAX_OFF = 0.15
"""Median distance of projected joints from detected ones, over the person's height in pixels; a detector's own error is about 0.03."""


class RawSequence:
    """A sequence file's content. RawDataError names what is missing or odd; nothing is found out later than here but single frames."""

    def __init__(self, path: Path, content: Any) -> None:
        self.path = path
        try:
            self.name = str(content["sequence"])
            self.cam_poses_F44 = np.asarray(content["cam_poses"], np.float64).reshape(-1, 4, 4)
            self.frames = len(self.cam_poses_F44)
            K = np.asarray(content["cam_intrinsics"], np.float64).reshape(3, 3)
            self.camera = Camera(focal=rounded(K[[0, 1], [0, 1]]), princpt=rounded(K[:2, 2]))
            people = len(content["poses"])
            self._persons = [_Person(f"{self.name}_{index}", index, content, self.frames) for index in range(people)]
            if not self.frames or not people:
                raise ValueError(f"it has {people} persons and {self.frames} frames")
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
            raise RawDataError(f"{path}: expected a 3DPW sequence, found a missing or odd entry: {error!r}") from None

    @property
    def instances(self) -> int:
        """Persons annotated, one for every frame of every track."""
        return self.frames * len(self._persons)

    def image_path(self, frame: int) -> str:
        return f"imageFiles/{self.name}/image_{frame:05d}.jpg"

    def wrong_calibration(self, image_wh: tuple[int, int]) -> str | None:
        """What is wrong with `cam_intrinsics` for images of this size and the detections in `poses2d`, or None."""
        (fx, fy), (cx, cy) = self.camera.focal, self.camera.princpt
        if not is_camera(self.camera) or not all(0.2 < c / side < 0.8 for c, side in zip((cx, cy), image_wh, strict=True)):
            return (
                f"expected cam_intrinsics of a camera with its principal point near the middle of images of {image_wh[0]}x{image_wh[1]}, "
                f"found focal {fx}, {fy} and principal point {cx}, {cy}; they are of another size of image"
            )
        off = np.concatenate([person.off_detections(self.cam_poses_F44, self.camera) for person in self._persons])
        if len(off) < _MIN_DETECTIONS or np.median(off) <= MAX_OFF:
            return None
        return (
            f"expected projected joints near the detections in poses2d, found them {np.median(off):.2f} of a person's height away; "
            "cam_intrinsics or cam_poses belong to other images"
        )

    def items(self, image_wh: tuple[int, int], image_file: Callable[[str], Path]) -> Iterator[Found]:
        for frame, cam_pose_44 in enumerate(self.cam_poses_F44):
            kept: list[Instance] = []
            for person in self._persons:
                found = person.in_frame(frame, cam_pose_44, self.camera, image_wh)
                if isinstance(found, SkippedInstances):
                    yield found
                else:
                    kept.append(found)
            if kept:
                image_path = self.image_path(frame)
                key = safe_key(f"{self.name}_{frame:05d}", f"{self.path.stem}_{frame:05d}")
                yield RawItem(key, image_path, ImageFile(image_file(image_path)), *image_wh, tuple(kept))


class _Person:
    """One person's track through a sequence, in the world frame."""

    def __init__(self, identity: str, index: int, content: dict[str, Any], frames: int) -> None:
        self.id = identity
        self.poses_F72 = np.asarray(content["poses"][index], np.float64).reshape(frames, 72)
        self.trans_F3 = np.asarray(content["trans"][index], np.float64).reshape(frames, 3)
        self.joints_FJ3 = np.asarray(content["jointPositions"][index], np.float64).reshape(frames, len(SMPL24), 3)
        self.camera_valid_F = np.asarray(content["campose_valid"][index]).reshape(frames).astype(bool)
        self.betas_10 = np.asarray(content["betas"][index], np.float64).reshape(-1)[:10]
        if len(self.betas_10) != 10:
            raise ValueError(f"person {index} has {len(self.betas_10)} betas, expected 10 or more")
        self.gender = gender_of(content["genders"][index])
        # The fitted body's own pelvis joint less its translation is its rest pelvis, so no gendered body model is needed here.
        self.pelvis_F3 = self.joints_FJ3[:, SMPL24.index("Pelvis")] - self.trans_F3
        self.apart_F = np.linalg.norm(self.pelvis_F3, axis=1)
        apart = self.apart_F[np.isfinite(self.apart_F)]
        if len(apart) and np.median(apart) > MAX_ROOT_M:
            raise ValueError(f"trans and jointPositions of person {index} are of different bodies, {np.median(apart):.2f} m apart")
        self.detections_F183 = _detections(content, index, frames)

    def off_detections(self, cam_poses_F44: np.ndarray, camera: Camera) -> np.ndarray:
        """Distances of projected limb joints from detected ones, over the height of the person in the image."""
        if self.detections_F183 is None:
            return np.empty(0)
        cam_FJ3 = np.einsum("fij,fpj->fpi", cam_poses_F44[:, :3, :3], self.joints_FJ3) + cam_poses_F44[:, None, :3, 3]
        image_FJ2 = project(cam_FJ3, camera.focal, camera.princpt)
        height_F = np.ptp(image_FJ2, axis=1).max(-1)
        detected = self.detections_F183[:, [OPENPOSE18.index(name) for name in _LIMBS]]
        off = np.linalg.norm(detected[..., :2] - image_FJ2[:, [SMPL24.index(name) for name in _LIMBS]], axis=-1) / height_F[:, None]
        return off[(detected[..., 2] > 0) & np.isfinite(off) & self.camera_valid_F[:, None]]

    def in_frame(self, frame: int, cam_pose_44: np.ndarray, camera: Camera, image_wh: tuple[int, int]) -> Instance | SkippedInstances:
        if not self.camera_valid_F[frame]:
            return SkippedInstances("invalid_camera")
        R, t = cam_pose_44[:3, :3], cam_pose_44[:3, 3]
        cam_J3 = self.joints_FJ3[frame] @ R.T + t
        if not all(np.isfinite(values).all() for values in (cam_J3, self.poses_F72[frame], self.trans_F3[frame], self.betas_10)):
            return SkippedInstances("invalid_annotation")
        if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
            return SkippedInstances("invalid_camera")
        if self.apart_F[frame] > MAX_ROOT_M:
            return SkippedInstances("invalid_annotation")
        image_J2 = np.nan_to_num(project(cam_J3, camera.focal, camera.princpt))
        valid_J = in_picture(cam_J3, image_J2, image_wh)
        if not valid_J.any():
            return SkippedInstances("outside_image")
        bbox = tight_box(image_J2.tolist(), valid_J.tolist())
        if degenerate(bbox, *image_wh):
            return SkippedInstances("degenerate_box")
        smpl = carry_to_camera(
            self.poses_F72[frame], self.betas_10, self.trans_F3[frame], self.pelvis_F3[frame], R, t, gender=self.gender
        )  # fmt: skip
        return make_instance(
            annotation_id=f"{self.id}_{frame}", bbox_xywh=bbox, skeleton=SMPL24.name, joints_img=rounded(image_J2),
            joints_valid=tuple(valid_J.tolist()), joints_cam=rounded(cam_J3), smpl=smpl, camera=camera,
        )  # fmt: skip


def _detections(content: dict[str, Any], index: int, frames: int) -> np.ndarray | None:
    """A person's `poses2d`, (F, 18, 3) x, y, confidence; None where the file has none or odd ones, for they only serve to check."""
    try:
        found = np.asarray(content["poses2d"][index], np.float64).reshape(frames, 3, len(OPENPOSE18))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return found.transpose(0, 2, 1)
