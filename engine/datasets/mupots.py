"""MuPoTS-3D: 20 sequences of two or three people, a test set, as downloaded or as the authors' JSON.

Raw: `MultiPersonTestSet/TS<n>/annot.mat` (a cell of frames x persons with annot2 2x17 in pixels, annot3 and univ_annot3 3x17 in camera
millimetres, isValidFrame) and `img_%06d.jpg`, numbered from 0. The cameras are not in it: the pinhole camera of a sequence is solved from
its 2D and 3D joints, which is linear in focal lengths and principal point. `occlusion.mat` is not read: the protocol counts every joint.
JSON: `MuPoTS-3D.json` (intrinsic, keypoints_cam in millimetres, keypoints_img, bbox, is_valid), without the universal skeleton.
Raw wins where both are there.

Legend: F frames, P persons, J joints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engine.datasets.base import (
    DatasetConfig,
    Found,
    ImageFile,
    RawDataset,
    RawItem,
    SkippedInstances,
    Unreadable,
    make_instance,
    safe_key,
)
from engine.datasets.geometry import rounded, tight_box
from engine.datasets.matlab import number, read_mat
from engine.datasets.mpi_inf_3dhp_testset import solve_camera
from engine.datasets.mupots_json import ConvertedFile
from engine.datasets.plausible import wrong_size
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Camera, Supervision
from schemas.skeletons import MI17

IMAGES = "MultiPersonTestSet"
JSON = "MuPoTS-3D.json"
MAX_OFF_PX = 10.0
"""Median distance of joints that the solved camera projects from annot2; images are 2048 x 2048 or 1920 x 1080."""
J = len(MI17)


class Mupots(RawDataset):
    """Instances have skeleton mi17 with 2D and 3D joints; `joints_univ` from the raw layout. Every joint is valid, hidden or not.

    Boxes are the JSON's, or 1.2 times the tight box of the 17 joints for the raw layout. Raw annotation ids are TS<n>_<frame>_<person>.
    """

    supervision: ClassVar[Supervision] = "itw3d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "isValidFrame": "persons in frames that are not valid are left out, person by person",
        "cameras": "annot.mat does not say the cameras: they are solved from its 2D and 3D joints",
        "joint names": "the joints called Thorax and Spine in some of the authors' code are MPI-INF-3DHP's Neck and Torso",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if config.split != "test":
            raise ConfigError(f"dataset {self.name}: split {config.split!r} is not test, the only one")

    @cached_property
    def folder(self) -> str:
        """Where the sequences are, below the root, with its slash: MultiPersonTestSet/ or the root itself."""
        return f"{IMAGES}/" if (self.root / IMAGES).is_dir() else ""

    @cached_property
    def layout(self) -> str:
        """'raw' or 'json'. MissingInput if the root holds neither."""
        if any((self.root / self.folder / name / "annot.mat").is_file() for name in self._sequences()):
            return "raw"
        if (self.root / JSON).is_file():
            return "json"
        raise MissingInput(
            f"dataset {self.name}: {self.root} has neither {IMAGES}/TS1/annot.mat (the download) nor {JSON} (the authors' JSON); "
            "check dataset.root"
        )

    def settings(self) -> dict[str, Any]:
        return {"layout": self.layout}

    def annotation_files(self) -> list[Path]:
        if self.layout == "json":
            return [self.root / JSON]
        files = [self.root / self.folder / name / "annot.mat" for name in self._sequences()]
        return [path for path in files if path.is_file()]

    def items(self) -> Iterator[Found]:
        if self.layout == "json":
            yield from ConvertedFile(self.root / JSON, lambda name: f"{self.folder}{name}", self.image_file).items()
            return
        names = self._sequences()
        for name in names:
            path = self.root / self.folder / name / "annot.mat"
            try:
                yield from self._sequence(name, path)
            except (RawDataError, UnsafeInput, MissingInput) as error:
                if len(names) == 1:
                    raise
                reasons = {UnsafeInput: "annotation_unsafe", MissingInput: "annotation_missing"}
                yield Unreadable(self.part_key(path), reasons.get(type(error), "annotation_unreadable"), str(error))

    def _sequences(self) -> list[str]:
        top = self.root / self.folder
        names = [entry.name for entry in top.iterdir() if re.fullmatch(r"TS\d{1,3}", entry.name) and entry.is_dir()]
        return sorted(names, key=lambda name: int(name[2:]))

    def _sequence(self, name: str, path: Path) -> Iterator[Found]:
        cells_FP = read_mat(path, "annotations")["annotations"]
        if isinstance(cells_FP, dict):  # version 5 does not tell a struct from a cell of one
            cells_FP = np.array([[cells_FP]], object)
        if not isinstance(cells_FP, np.ndarray) or cells_FP.dtype != object or cells_FP.ndim != 2:
            found = getattr(cells_FP, "shape", type(cells_FP).__name__)
            raise RawDataError(f"{path}: expected annotations as a cell of frames x persons, found {found}")
        persons, skipped = [], {"invalid_frame": 0, "invalid_annotation": 0}
        for (frame, place), cell in np.ndenumerate(cells_FP):
            joints = _joints(cell)
            if isinstance(joints, str):
                skipped[joints] += 1
            else:
                persons.append((frame, place, *joints))
        yield from (SkippedInstances(reason, count) for reason, count in skipped.items() if count)
        if not persons:
            return
        image_NJ2, cam_NJ3, univ_NJ3 = (np.stack(values) for values in list(zip(*persons, strict=True))[2:])
        camera, off_px = solve_camera(image_NJ2, cam_NJ3)
        wrong = wrong_size(cam_NJ3) or wrong_size(univ_NJ3)
        if not off_px <= MAX_OFF_PX or min(camera.focal) <= 0:
            focal = ", ".join(f"{value:.0f}" for value in camera.focal)
            wrong = f"expected a pinhole camera that takes annot3 to annot2, the best one (focal {focal}) is {off_px:.0f} px off (median)"
        if wrong:
            yield Unreadable(self.part_key(path), "calibration_wrong", f"{path}: {wrong}", len(persons))
            return
        for frame, place, image_J2, cam_J3, univ_J3 in persons:
            yield self._item(name, frame, place, image_J2, cam_J3, univ_J3, camera)

    def _item(
        self, name: str, frame: int, place: int, image_J2: np.ndarray, cam_J3: np.ndarray, univ_J3: np.ndarray, camera: Camera
    ) -> Found:
        image_path = f"{self.folder}{name}/img_{frame:06d}.jpg"
        person = make_instance(
            annotation_id=f"{name}_{frame:06d}_{place}", bbox_xywh=tight_box(image_J2.tolist(), [True] * J), skeleton=MI17.name,
            joints_img=rounded(image_J2), joints_valid=(True,) * J, joints_cam=rounded(cam_J3), joints_univ=rounded(univ_J3), camera=camera,
        )  # fmt: skip
        if isinstance(person, SkippedInstances):
            return person
        return RawItem(safe_key(f"{name}_{frame:06d}", name), image_path, ImageFile(self.image_file(image_path)), None, None, (person,))


def _joints(cell: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Pixels (J, 2), camera and universal joints (J, 3) in metres of a cell; why there are none otherwise."""
    try:
        valid = number(cell["isValidFrame"])
        if valid is None:
            return "invalid_annotation"
        if not valid:
            return "invalid_frame"
        image_2J, cam_3J, univ_3J = (
            np.asarray(cell[field], np.float64).reshape(rows, J) for field, rows in (("annot2", 2), ("annot3", 3), ("univ_annot3", 3))
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return "invalid_annotation"
    if not (np.isfinite(image_2J).all() and np.isfinite(cam_3J).all() and np.isfinite(univ_3J).all() and (cam_3J[2] > 0).all()):
        return "invalid_annotation"
    return image_2J.T, cam_3J.T / 1000, univ_3J.T / 1000
