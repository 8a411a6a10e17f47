"""Human3.6M in the layout of the authors' JSON files: studio MoCap with 17 3D joints and SMPL fits.

Files: `annotations/Human36M_subject<N>_{data,camera,joint_3d,SMPL_NeuralAnnot}.json` and `images/`. Joints are in world
millimetres, x_cam = R x + t. Fits are in world metres; the fits file may be absent and single fits may be missing.

Legend: N fits, J joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch

from engine.body.smpl import Body, load_body
from engine.datasets.base import (
    DatasetConfig,
    ImageFile,
    RawDataset,
    RawItem,
    SkippedInstances,
    make_instance,
    read_json,
    safe_key,
)
from engine.datasets.geometry import carry_to_camera, degenerate, rounded
from engine.datasets.options import FrameSplit
from engine.errors import ConfigError, RawDataError
from schemas.sample import Camera, Instance, SmplParams, Supervision
from schemas.skeletons import H36M17

MM = 1e-3
PelvisMap = tuple[np.ndarray, np.ndarray]
"""Rest pelvis (3,) of the mean shape and its slope (10, 3) in the betas, metres."""


class Human36m(RawDataset):
    """Instances have skeleton h36m17 with 2D and 3D joints, and neutral SMPL in the camera frame where a fit exists."""

    supervision: ClassVar[Supervision] = "mocap"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.options = config.human36m
        splits = {"train": self.options.train, "test": self.options.test}
        if config.split not in splits:
            raise ConfigError(f"dataset human36m: split {config.split!r} is not one of {', '.join(splits)}")
        self.part: FrameSplit = splits[config.split]
        self._body: Body | None = None

    @property
    def body(self) -> Body:
        if self._body is None:
            self._body = load_body(self.options.body)
        return self._body

    def settings(self) -> dict[str, Any]:
        return {**self.part.model_dump(mode="json"), "excluded": list(self.options.excluded), "body": self.body.digest}

    def annotation_files(self) -> list[Path]:
        files = [self._annotation(s, kind) for s in self.part.subjects for kind in ("data", "camera", "joint_3d")]
        return files + [fits for s in self.part.subjects if (fits := self._fits_path(s)).exists()]

    def _annotation(self, subject: int, kind: str) -> Path:
        return self.require("annotations", f"Human36M_subject{subject}_{kind}.json")

    def _fits_path(self, subject: int) -> Path:
        return self.root / "annotations" / f"Human36M_subject{subject}_SMPL_NeuralAnnot.json"

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        self.require("images")
        to_pelvis = rest_pelvis(self.body)
        for subject in sorted(self.part.subjects):
            try:
                yield from self._subject(subject, to_pelvis)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise RawDataError(f"{self.root}: annotations of subject {subject} lack or spoil an entry: {error!r}") from None

    def _subject(self, subject: int, to_pelvis: PelvisMap) -> Iterator[RawItem | SkippedInstances]:
        data = read_json(self._annotation(subject, "data"))
        cameras = read_json(self._annotation(subject, "camera"))
        joints = read_json(self._annotation(subject, "joint_3d"))
        fits = read_json(self._fits_path(subject)) if self._fits_path(subject).exists() else {}
        persons: dict[Any, list[dict]] = {}
        for annotation in data["annotations"]:
            persons.setdefault(annotation["image_id"], []).append(annotation)
        for key, image in sorted(((_key(image), image) for image in data["images"]), key=lambda pair: pair[0]):
            reason = self._unwanted(image)
            kept = []
            for annotation in persons.get(image["id"], []):
                person = SkippedInstances(reason) if reason else _person(annotation, image, cameras, joints, fits, to_pelvis)
                if isinstance(person, SkippedInstances):
                    yield person
                else:
                    kept.append(person)
            if kept:
                image_path = f"images/{image['file_name']}"
                file = ImageFile(self.image_file(image_path))
                yield RawItem(key, image_path, file, int(image["width"]), int(image["height"]), tuple(kept))

    def _unwanted(self, image: dict[str, Any]) -> str | None:
        if image["frame_idx"] % self.part.every_nth or image["cam_idx"] not in self.part.cameras:
            return "not_sampled"
        return "excluded" if PurePosixPath(image["file_name"]).parent.name in self.options.excluded else None


def _key(image: dict[str, Any]) -> str:
    return safe_key(PurePosixPath(image["file_name"]).stem, fallback=f"s_{image['subject']:02d}_image_{image['id']}")


def _person(annotation: dict, image: dict, cameras: dict, joints: dict, fits: dict, to_pelvis: PelvisMap) -> Instance | SkippedInstances:
    if degenerate(annotation["bbox"], image["width"], image["height"]):
        return SkippedInstances("degenerate_box")
    action, subaction, frame, cam = (str(image[k]) for k in ("action_idx", "subaction_idx", "frame_idx", "cam_idx"))
    camera = cameras[cam]
    R, t = np.asarray(camera["R"], np.float64).reshape(3, 3), np.asarray(camera["t"], np.float64).reshape(3) * MM
    world_J3 = np.asarray(joints[action][subaction][frame], np.float64).reshape(len(H36M17), 3) * MM
    cam_J3 = world_J3 @ R.T + t
    if not (cam_J3[:, 2] > 0).all():
        return SkippedInstances("behind_camera")
    focal, princpt = np.asarray(camera["f"], np.float64), np.asarray(camera["c"], np.float64)
    image_J2 = cam_J3[:, :2] / cam_J3[:, 2:] * focal + princpt
    fit = fits.get(action, {}).get(subaction, {}).get(frame)
    return make_instance(
        annotation_id=str(annotation["id"]), bbox_xywh=tuple(annotation["bbox"]), skeleton=H36M17.name,
        joints_img=rounded(image_J2), joints_valid=(True,) * len(H36M17), joints_cam=rounded(cam_J3),
        smpl=_smpl(fit, R, t, to_pelvis), camera=Camera(focal=rounded(focal), princpt=rounded(princpt)),
    )  # fmt: skip


def rest_pelvis(body: Body) -> PelvisMap:
    """Affine map from betas to the pelvis of the body at rest: p = mean_3 + betas_10 @ slope_103, metres.

    SMPL's joints are linear in its betas, so eleven bodies give the map exactly.
    """
    betas = torch.cat([torch.zeros(1, 10), torch.eye(10)])
    with torch.no_grad():
        pelvis = body(torch.zeros(11, 72), betas).joints_B243[:, 0].double().numpy()
    return pelvis[0], pelvis[1:] - pelvis[0]


def _smpl(fit: dict[str, Any] | None, R: np.ndarray, t: np.ndarray, to_pelvis: PelvisMap) -> SmplParams | None:
    if fit is None:
        return None
    pose, betas, trans = (np.asarray(fit[name], np.float64).reshape(size) for name, size in (("pose", 72), ("shape", 10), ("trans", 3)))
    if not all(np.isfinite(values).all() for values in (pose, betas, trans)):
        return None
    return carry_to_camera(pose, betas, trans, to_pelvis[0] + betas @ to_pelvis[1], R, t)
