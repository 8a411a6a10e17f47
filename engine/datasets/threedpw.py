"""3DPW in its raw layout: in-the-wild video with SMPL parameters measured by body-worn sensors.

Files: `sequenceFiles/<split>/<sequence>.pkl` and `imageFiles/<sequence>/image_%05d.jpg`. Everything is in the world
frame, metres, with one camera a sequence that moves: x_cam = R x + t from `cam_poses`.

Legend: F frames, J the 24 SMPL joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from engine.datasets.base import ImageFile, RawDataset, RawItem, SkippedInstances, make_instance
from engine.datasets.geometry import carry_to_camera, degenerate, rounded
from engine.datasets.pickles import read_pickle
from engine.errors import MissingInput, RawDataError
from schemas.sample import Camera, Instance, Supervision
from schemas.skeletons import SMPL24

GENDERS: dict[str, Literal["male", "female", "neutral"]] = {"m": "male", "f": "female", "n": "neutral"}
BOX_SCALE = 1.2
"""Box side over that of the tight box of the joints inside the image (section 3DPW of the authors' converter)."""


class ThreeDPW(RawDataset):
    """Instances have skeleton smpl24 with 2D and 3D joints and gendered SMPL in the camera frame.

    `joints_valid` is for joints in front of the camera and inside the image. Betas are those of the body of the person's gender;
    what they may teach a neutral one is for training to say. annotation_id is '<sequence>_<person>_<frame>'.
    """

    supervision: ClassVar[Supervision] = "itw3d"

    def annotation_files(self) -> list[Path]:
        folder = self.require("sequenceFiles", self.split)
        files = sorted(folder.glob("*.pkl"), key=lambda path: path.stem + "_")
        if not files:
            raise MissingInput(f"dataset {self.name}: {folder} holds no sequence (*.pkl); unpack sequenceFiles.zip there")
        return files

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        self.require("imageFiles")
        for path in self.annotation_files():
            try:
                yield from self._sequence(read_pickle(path))
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                raise RawDataError(f"{path}: expected a 3DPW sequence, found a missing or odd entry: {error!r}") from None

    def _sequence(self, content: dict[str, Any]) -> Iterator[RawItem | SkippedInstances]:
        name = str(content["sequence"])
        cam_poses_F44 = np.asarray(content["cam_poses"], np.float64).reshape(-1, 4, 4)
        persons = [_Person(name, index, content, len(cam_poses_F44)) for index in range(len(content["poses"]))]
        K = np.asarray(content["cam_intrinsics"], np.float64).reshape(3, 3)
        camera = Camera(focal=rounded(K[[0, 1], [0, 1]]), princpt=rounded(K[:2, 2]))
        paths = [f"imageFiles/{name}/image_{frame:05d}.jpg" for frame in range(len(cam_poses_F44))]
        width, height = self._image_size(name, paths)
        for frame, cam_pose_44 in enumerate(cam_poses_F44):
            kept: list[Instance] = []
            for person in persons:
                found = person.in_frame(frame, cam_pose_44, camera, (width, height))
                if isinstance(found, SkippedInstances):
                    yield found
                else:
                    kept.append(found)
            if kept:
                file = ImageFile(self.image_file(paths[frame]))
                yield RawItem(f"{name}_{frame:05d}", paths[frame], file, width, height, tuple(kept))

    def _image_size(self, name: str, paths: list[str]) -> tuple[int, int]:
        """Width and height of a sequence's frames, which the sequence file does not say: from the first image with a header."""
        for path in paths:
            try:
                with Image.open(self.image_file(path)) as image:
                    return image.size
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue
        raise MissingInput(
            f"dataset {self.name}: none of the {len(paths)} images of sequence {name} is readable in {self.root}/imageFiles/{name}"
        )


class _Person:
    """One person's track through a sequence, in the world frame."""

    def __init__(self, sequence: str, index: int, content: dict[str, Any], frames: int) -> None:
        self.id = f"{sequence}_{index}"
        self.poses_F72 = np.asarray(content["poses"][index], np.float64).reshape(frames, 72)
        self.trans_F3 = np.asarray(content["trans"][index], np.float64).reshape(frames, 3)
        self.joints_FJ3 = np.asarray(content["jointPositions"][index], np.float64).reshape(frames, len(SMPL24), 3)
        self.camera_valid_F = np.asarray(content["campose_valid"][index]).reshape(frames).astype(bool)
        self.betas_10 = np.asarray(content["betas"][index], np.float64).reshape(-1)[:10]
        self.gender = GENDERS[content["genders"][index]]

    def in_frame(self, frame: int, cam_pose_44: np.ndarray, camera: Camera, image_wh: tuple[int, int]) -> Instance | SkippedInstances:
        if not self.camera_valid_F[frame]:
            return SkippedInstances("invalid_camera")
        R, t = cam_pose_44[:3, :3], cam_pose_44[:3, 3]
        joints_J3 = self.joints_FJ3[frame]
        cam_J3 = joints_J3 @ R.T + t
        if not all(np.isfinite(values).all() for values in (cam_J3, self.poses_F72[frame], self.trans_F3[frame], self.betas_10)):
            return SkippedInstances("invalid_annotation")
        front_J = cam_J3[:, 2] > 0
        image_J2 = np.zeros((len(cam_J3), 2))
        image_J2[front_J] = cam_J3[front_J, :2] / cam_J3[front_J, 2:] * camera.focal + camera.princpt
        valid_J = front_J & (image_J2 >= 0).all(1) & (image_J2 < image_wh).all(1)
        if not valid_J.any():
            return SkippedInstances("outside_image")
        low, high = image_J2[valid_J].min(0), image_J2[valid_J].max(0)
        bbox = rounded(np.concatenate([(low + high) / 2 - (high - low) * BOX_SCALE / 2, (high - low) * BOX_SCALE]))
        if degenerate(bbox, *image_wh):
            return SkippedInstances("degenerate_box")
        # The fitted body's own pelvis joint less its translation is its rest pelvis, so no gendered body model is needed here.
        pelvis_3 = joints_J3[SMPL24.index("Pelvis")] - self.trans_F3[frame]
        if np.linalg.norm(pelvis_3) > 1:
            raise RawDataError(
                f"{self.id}, frame {frame}: trans and jointPositions are of different bodies ({np.linalg.norm(pelvis_3):.2f} m apart)"
            )
        smpl = carry_to_camera(
            self.poses_F72[frame],
            self.betas_10,
            self.trans_F3[frame],
            pelvis_3,
            R,
            t,
            gender=self.gender,
        )
        return make_instance(
            annotation_id=f"{self.id}_{frame}", bbox_xywh=bbox, skeleton=SMPL24.name, joints_img=rounded(image_J2),
            joints_valid=tuple(valid_J.tolist()), joints_cam=rounded(cam_J3), smpl=smpl, camera=camera,
        )  # fmt: skip
