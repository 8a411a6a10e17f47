"""CLIFF's npz files: imgname, center, scale, part, annot_id, pose, shape, has_smpl, global_t, focal_l, S.

Its camera is one for the whole photograph: focal_l is the diagonal in px, the principal point the middle, and global_t smplx's `transl`,
m. Such a camera comes in exactly and goes out again exactly. A release's own cameras, one a person, do not: see cliff_camera.py.
Source: CLIFF (Li et al., ECCV 2022), its files and how MMHuman3D reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.config import Config
from engine.errors import SampleRejected
from engine.exchange.base import INVALID_FIT, Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.cliff_camera import diagonal_camera, to_cliff
from engine.exchange.columns import ColumnWriter, Npz, text
from engine.exchange.files import only_file
from engine.exchange.spin_joints import centre_scale, image_name, part_24

if TYPE_CHECKING:
    from engine.body.smpl import Body

CAPABILITIES = Capabilities(
    camera=False,
    notes=(
        "one camera a photograph: a person of another camera is turned to where CLIFF's looks from, and still moves by the perspective of "
        "the nearer camera, 2 % of the box in the median of ordinary persons; the column moved_px says how far the farthest joint did",
        "a release that came from CLIFF's files goes back exactly",
        "S, joints in 3D, are zeros with confidence 0",
        "no latent, no quality figures",
    ),
)
_SAME_PX = 0.02
_REACH_M = 2.0
_COLUMNS = {
    "center": ("f8", (2,)),
    "scale": ("f8", ()),
    "part": ("f8", (24, 3)),
    "annot_id": ("i8", ()),
    "pose": ("f8", (72,)),
    "shape": ("f8", (10,)),
    "has_smpl": ("f8", ()),
    "global_t": ("f8", (3,)),
    "focal_l": ("f8", ()),
    "S": ("f8", (24, 4)),
    "moved_px": ("f8", ()),
}


class Options(Config):
    """CLIFF's files."""


class CliffWriter:
    wants_images = False

    def __init__(self, path: Path, load_body: LoadBody) -> None:
        self._path, self._load_body = path, load_body
        self._columns = ColumnWriter(_COLUMNS, texts="imgname")
        self._numbered = True
        """Whether every annotation id so far is a number, as COCO's are; the files of other datasets have no annot_id."""

    def add(self, person: Person) -> None:
        focal, pose, transl, moved = self._placed(person)
        identity = person.instance.annotation_id
        self._numbered &= identity.isdecimal() and str(int(identity)) == identity and int(identity) < 1 << 63
        centre, scale = centre_scale(person.instance)
        values = {
            "center": centre,
            "scale": scale,
            "part": part_24(person.instance),
            "annot_id": int(identity) if self._numbered else 0,
            "pose": pose,
            "shape": person.betas_10,
            "has_smpl": 1,
            "global_t": transl,
            "focal_l": focal,
            "moved_px": moved,
        }
        self._columns.put(self._columns.rows, values, image_name(person.sample))

    def close(self) -> list[str]:
        self._columns.save_npz(self._path, leave_out=() if self._numbered else ("annot_id",))
        self._columns.close()
        return [self._path.name]

    def _placed(self, person: Person) -> tuple[float, np.ndarray, np.ndarray, float]:
        """(focal, pose (72,), transl (3,), px that the farthest joint moved) before CLIFF's camera."""
        focal, princpt = diagonal_camera(person.sample.width, person.sample.height)
        pose, transl = person.pose_72.astype(np.float64), person.transl_3.astype(np.float64)
        away = np.abs(person.focal_2 - focal).max() * (np.abs(transl[:2]).max() + _REACH_M) / max(transl[2], 1e-9)
        away += np.abs(person.princpt_2 - princpt).max()
        if away < _SAME_PX and transl[2] > 0:
            return focal, pose, transl, 0.0
        joints_J3, pelvis_3 = _body_points(self._load_body(), person)
        camera_J3 = joints_J3 + transl
        if camera_J3[:, 2].min() <= 0:
            raise SampleRejected("behind_camera", "a joint is not before the release's camera")
        seen_J2 = camera_J3[:, :2] / camera_J3[:, 2:] * person.focal_2 + person.princpt_2
        placed = to_cliff(joints_J3, pelvis_3, seen_J2, focal, princpt)
        pose[:3] = _turned(placed.rotation_33, pose[:3])
        return focal, pose, placed.transl_3, placed.moved_px


class CliffReader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def fits(self) -> Iterator[Fit | Unmapped]:
        npz = Npz(self._path)
        shapes = {"imgname": (), "center": (2,), "pose": (72,), "shape": (10,), "global_t": (3,), "focal_l": ()}
        optional = {name: () for name in ("annot_id", "has_smpl") if name in npz.names}
        row = 0
        for chunk in npz.chunks(shapes | optional, texts=("imgname", "annot_id")):
            for values in zip(*chunk.values(), strict=True):
                yield self._fit(f"{self._path.name}[{row}]", dict(zip(chunk, values, strict=True)))
                row += 1

    def _fit(self, name: str, row: dict[str, np.ndarray]) -> Fit | Unmapped:
        whose = {"image": text(row["imgname"]), "centre_2": row["center"].astype(np.float64)}
        if "annot_id" in row:
            whose = {"annotation_id": identity(row["annot_id"])}
        if not row.get("has_smpl", True):
            return Unmapped(name, INVALID_FIT, "has_smpl is 0", **whose)
        focal = float(row["focal_l"])
        if not focal > 0:
            return Unmapped(name, "invalid_camera", f"focal_l {focal:g}: expected a length above 0", **whose)
        pose, betas, transl = (row[part].astype(np.float64) for part in ("pose", "shape", "global_t"))
        return Fit(pose, betas, transl, np.array([focal, focal]), None, **whose)


def identity(value: np.generic) -> str:
    """An entry of a column of annotation ids, numbers or texts."""
    if isinstance(value, np.floating) and float(value).is_integer():
        value = int(value)
    return text(value)


def _body_points(body: Body, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Posed joints (J, 3) without translation and the pelvis (3,) the root turns about, m."""
    import torch

    pose, betas = (torch.from_numpy(values.astype(np.float32))[None] for values in (person.pose_72, person.betas_10))
    with torch.inference_mode():
        joints_J3 = body.joints(pose, betas)[0]
        pelvis_3 = body.rest_joints[0] + body.rest_joints_shape[0] @ betas[0]
    return joints_J3.double().numpy(), pelvis_3.double().numpy()


def _turned(rotation_33: np.ndarray, root_3: np.ndarray) -> np.ndarray:
    import torch

    from engine.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle

    return matrix_to_axis_angle(torch.from_numpy(rotation_33) @ axis_angle_to_matrix(torch.from_numpy(root_3))).numpy()


def open_writer(folder: Path, options: Options, info: ExportInfo) -> CliffWriter:
    return CliffWriter(folder / f"{info.dataset}_{info.split}_cliffGT.npz", info.load_body)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> CliffReader:
    return CliffReader(only_file(path, "*_cliffGT.npz"))
