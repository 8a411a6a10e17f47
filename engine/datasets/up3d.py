"""UP-3D: single people in photographs of LSP, LSPET, MPII and FashionPose, with SMPL fitted to their joints and silhouettes.

Files, in `up-3d/` or the root: `<split>.txt` (train, val, trainval, test; a line an image, as `/00000_image.png`), and for each
`<id>_image.png`, `<id>_joints.npy` (x and y of 14 joints, their confidence in a third row), `<id>_body.pkl` (pose, betas, trans and the
camera rt, t, f; written by Python 2) and `<id>_fit_crop_info.txt`: height and width of the image that was fitted, and the rows and columns
of the photograph it shows (y0 y1 x0 x1). The fit's principal point is that image's middle. Without the last file it is the whole image.

Legend: J the 14 joints of LSP, S the 24 of SMPL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from engine.body.smpl import Body, load_body
from engine.datasets.base import (
    DatasetConfig,
    Found,
    ImageFile,
    RawDataset,
    RawItem,
    SkippedInstances,
    Unreadable,
    make_instance,
)
from engine.datasets.geometry import carry_to_camera, is_camera, rounded, tight_box
from engine.datasets.npy import read_npy
from engine.datasets.pickles import read_pickle
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Camera, SmplParams, Supervision
from schemas.skeletons import LSP14, SMPL24, shared_joints

SPLITS = ("train", "val", "trainval", "test")
MAX_OFF = 0.15
"""Median distance of the fit's projected joints from the joints of the image, over the longer side of their box, for a fit to be kept."""
_MAX_JOINTS_BYTES, _MAX_TEXT_BYTES, _MAX_BODY_BYTES = 1 << 16, 16 << 20, 64 << 20
_ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


class Up3d(RawDataset):
    """Instances have skeleton lsp14 with 2D joints, and neutral SMPL in the camera frame where the fit falls on them.

    Boxes are 1.2 times the tight box of the labelled joints. annotation_id is the image's number. Licence: CC BY-NC 4.0.
    """

    supervision: ClassVar[Supervision] = "itw3d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "poor fits": f"many fits are poor: one whose joints are more than {MAX_OFF} of the person away from those of the image (median) is "
        "left out, and the person kept with 2D joints alone",
        "crops": "photographs of MPII were cropped and resized for fitting: the camera is carried back to the photograph",
        "trans": "trans is always 0: the camera's t moves the body; both are applied",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if config.split not in SPLITS:
            raise ConfigError(f"dataset {self.name}: split {config.split!r} is not one of {', '.join(SPLITS)}")
        self._options = config.up3d

    @cached_property
    def body(self) -> Body:
        return load_body(self._options.body)

    def settings(self) -> dict[str, Any]:
        return {"body": self.body.digest}

    @cached_property
    def folder(self) -> str:
        """Where the files are, below the root, with its slash: up-3d/ or the root itself."""
        return "up-3d/" if (self.root / "up-3d").is_dir() else ""

    def annotation_files(self) -> list[Path]:
        """The split's list, and the files of all its persons that are there."""
        path = self.require(*([self.folder] if self.folder else []), f"{self.split}.txt")
        kinds = ("joints.npy", "body.pkl", "fit_crop_info.txt")
        files = [self._file(number, kind) for number in self._numbers(path) if number for kind in kinds]
        return [path, *(file for file in files if file.is_file())]

    def items(self) -> Iterator[Found]:
        path = self.require(*([self.folder] if self.folder else []), f"{self.split}.txt")
        for number in self._numbers(path):
            if number is None:
                yield SkippedInstances("invalid_annotation")
                continue
            try:
                yield self._item(number)
            except (RawDataError, UnsafeInput, MissingInput) as error:
                reasons = {UnsafeInput: "annotation_unsafe", MissingInput: "annotation_missing"}
                reason = reasons.get(type(error), "annotation_unreadable")
                yield Unreadable(self.part_key(self.root / self.folder / number), reason, str(error), 1)

    def _numbers(self, path: Path) -> list[str | None]:
        """The ids of a split's list in order, each once; None for a line that is none."""
        if not path.is_file():
            raise RawDataError(f"{path}: expected a list of images, found what is no file")
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise UnsafeInput(f"{path}: expected a list of some thousand images, found {path.stat().st_size} bytes")
        lines = [line.split()[0] for line in path.read_text("latin1").splitlines() if line.strip()]
        if not lines:
            raise RawDataError(f"{path}: expected a line an image, such as /00000_image.png, found none; the download may be incomplete")
        matches = [re.fullmatch(r"/?(\d{5,8})_image\.png", line) for line in lines]
        if not any(matches):
            raise RawDataError(f"{path}: expected lines such as /00000_image.png, found {lines[0][:60]!r}")
        return list(dict.fromkeys(match[1] for match in matches if match)) + [None] * sum(match is None for match in matches)

    def _file(self, number: str, kind: str) -> Path:
        return self.root / f"{self.folder}{number}_{kind}"

    def _item(self, number: str) -> RawItem | SkippedInstances:
        image_path = f"{self.folder}{number}_image.png"
        image_J2, valid_J = _read_joints(self._file(number, "joints.npy"))
        if not valid_J.any():
            return SkippedInstances("no_keypoints")
        bbox = tight_box(image_J2.tolist(), valid_J.tolist())
        if min(bbox[2:]) <= 0:
            return SkippedInstances("degenerate_box")
        smpl, camera = self._fit(number, image_path, image_J2, valid_J, max(bbox[2:]) / 1.2)
        person = make_instance(
            annotation_id=number, bbox_xywh=bbox, skeleton=LSP14.name, joints_img=rounded(image_J2),
            joints_valid=tuple(valid_J.tolist()), smpl=smpl, camera=camera,
        )  # fmt: skip
        if isinstance(person, SkippedInstances):
            return person
        return RawItem(number, image_path, ImageFile(self.image_file(image_path)), None, None, (person,))

    def _fit(
        self, number: str, image_path: str, image_J2: np.ndarray, valid_J: np.ndarray, size_px: float
    ) -> tuple[SmplParams | None, Camera | None]:
        """SMPL parameters in the camera frame and the camera, or neither: without a fit, or where it is not on the person."""
        path = self._file(number, "body.pkl")
        if not path.is_file():
            return None, None
        if path.stat().st_size > _MAX_BODY_BYTES:
            raise UnsafeInput(f"{path}: {path.stat().st_size} bytes is more than a fit has ({_MAX_BODY_BYTES})")
        content = read_pickle(path)
        try:
            pose, betas, trans, rt, t = (
                np.asarray(content[name], np.float64).reshape(-1)[:size].reshape(size)
                for name, size in (("pose", 72), ("betas", 10), ("trans", 3), ("rt", 3), ("t", 3))
            )
            focal = float(np.asarray(content["f"], np.float64).reshape(-1)[0])
        except _ODD as error:
            raise RawDataError(f"{path}: expected a fit with pose, betas, trans, rt, t and f, found an odd one: {error!r}") from None
        window = self._window(number, image_path)
        if window is None or not all(np.isfinite(values).all() for values in (pose, betas, trans, rt, t, focal)):
            return None, None
        camera = window.camera(focal)
        R = Rotation.from_rotvec(rt).as_matrix()
        with torch.inference_mode():
            tensors = (torch.tensor(np.stack([v]), dtype=torch.float32) for v in (pose, betas))
            joints_S3 = self.body(*tensors).joints_B243[0].double().numpy()
        cam_S3 = (joints_S3 + trans) @ R.T + t
        ours, theirs = shared_joints(SMPL24.name, LSP14.name)
        both = valid_J[list(theirs)]
        near_3 = cam_S3[list(ours)][both]
        if not is_camera(camera) or not len(near_3) or not (cam_S3[:, 2] > 0).all():
            return None, None
        projected = near_3[:, :2] / near_3[:, 2:] * camera.focal + camera.princpt
        off = np.median(np.linalg.norm(projected - image_J2[list(theirs)][both], axis=1)) / size_px
        if not off <= MAX_OFF:
            return None, None
        return carry_to_camera(pose, betas, trans, joints_S3[SMPL24.index("Pelvis")], R, t), camera

    def _window(self, number: str, image_path: str) -> _FittedWindow | None:
        path = self._file(number, "fit_crop_info.txt")
        if path.is_file():
            try:
                with open(path, "rb") as file:
                    height, width, y0, y1, x0, x1 = (int(value) for value in file.read(4096).split())
            except ValueError:
                raise RawDataError(f"{path}: expected six whole numbers (height width y0 y1 x0 x1), found others") from None
            if min(height, width, y1 - y0, x1 - x0) <= 0:
                raise RawDataError(f"{path}: expected a window with an area, found {height} {width} {y0} {y1} {x0} {x1}")
            return _FittedWindow((width, height), (x0, y0), (x1 - x0, y1 - y0))
        try:
            with Image.open(self.image_file(image_path)) as image:
                return _FittedWindow(image.size, (0, 0), image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None


class _FittedWindow:
    """The part of a photograph that was fitted: its size as fitted, and where it begins and how large it is in the photograph."""

    def __init__(self, fitted_wh: tuple[int, int], origin_xy: tuple[int, int], shown_wh: tuple[int, int]) -> None:
        self._fitted, self._origin, self._shown = (np.array(v, np.float64) for v in (fitted_wh, origin_xy, shown_wh))

    def camera(self, focal: float) -> Camera:
        """The photograph's camera, from the fitted image's: focal length `focal` and its middle for principal point."""
        scale = self._shown / self._fitted
        return Camera(focal=rounded(focal * scale), princpt=rounded(self._fitted / 2 * scale + self._origin))


def _read_joints(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places (J, 2) in pixels, 0 for those that are not valid, and which are: finite and above 0 in all rows."""
    joints = read_npy(path, _MAX_JOINTS_BYTES).astype(np.float64)
    if joints.shape not in ((3, len(LSP14)), (2, len(LSP14))):
        raise RawDataError(f"{path}: expected joints as 3x{len(LSP14)} or 2x{len(LSP14)} numbers, found {joints.shape}")
    valid_J = (np.isfinite(joints) & (joints > 0)).all(axis=0)
    return np.where(valid_J[:, None], joints[:2].T, 0.0), valid_J
