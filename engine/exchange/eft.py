"""EFT's JSON files: {ver, data: [{parm_pose, parm_shape, parm_cam, bbox_scale, bbox_center, annotId, imageName, ...}]}.

parm_pose is 24 rotation matrices in SMPL's order, root first; parm_cam is [s, tx, ty] with the translation after scaling, in the crop
that bbox_center and bbox_scale name (eft_camera.py). Source: EFT (Joo et al., 3DV 2021), its files and how MMHuman3D reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import Config
from engine.datasets.json_stream import array_items, top_level
from engine.errors import RawDataError, SampleRejected
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.eft_camera import EftCamera, from_eft, to_eft
from engine.exchange.spin_joints import OPENPOSE, part_24
from schemas.sample import Instance
from schemas.skeletons import SKELETONS

CAPABILITIES = Capabilities(
    camera=True,
    notes=(
        "the camera is carried for readers with perspective, as EFT's own training and this project read it",
        "a reader that takes parm_cam as weak perspective moves vertices, by 0.4 % of the box in the median of ordinary persons",
        "only cameras with square pixels: rows of others are left out",
        "bbox_center and bbox_scale name the camera's crop, not the annotated box",
        "no latent, no quality figures",
    ),
)
OPENPOSE_18 = (
    "Nose",
    "Neck",
    *(f"{side}_{part}" for side in "RL" for part in ("Shoulder", "Elbow", "Wrist")),
    *(f"{side}_{part}" for side in "RL" for part in ("Hip", "Knee", "Ankle")),
    *("R_Eye", "L_Eye", "R_Ear", "L_Ear"),
)
"""OpenPose's COCO model, whose joints `joint_validity_openpose18` speaks of."""
OFF_ROTATION = 0.01
"""A matrix may be this far, in any entry, from the rotation nearest to it."""
_STRAY_PX = 0.05
_REACH_M = 2.0
"""No vertex is farther than this from smplx's `transl`."""


class Options(Config):
    """EFT's files."""


class EftWriter:
    wants_images = False

    def __init__(self, path: Path) -> None:
        self._path, self._comma = path, ""
        self._file = open(path, "w", encoding="ascii")  # noqa: SIM115  closed by `close`
        self._file.write('{"ver": 1.0, "data": [')

    def add(self, person: Person) -> None:
        record = json.dumps(_record(person), separators=(",", ":"), allow_nan=False)
        self._file.write(f"{self._comma}\n{record}")
        self._comma = ","

    def close(self) -> list[str]:
        self._file.write("\n]}\n")
        self._file.close()
        return [self._path.name]


class EftReader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def fits(self) -> Iterator[Fit | Unmapped]:
        keys = top_level(self._path)
        if keys != "[" and keys.get("data") != "[":
            raise RawDataError(
                f"{self._path}: expected EFT's {{ver, data: [...]}}, found {', '.join(sorted(keys)[:5]) or 'an empty object'}"
            )
        for number, record in enumerate(array_items(self._path, None if keys == "[" else "data")):
            yield _fit(f"{self._path.name}[{number}]", record)


def _record(person: Person) -> dict[str, Any]:
    focal, z = person.focal_2.astype(np.float64), float(person.transl_3[2])
    if not z > 0:
        raise SampleRejected("behind_camera", f"depth {z:g} m: EFT's camera has a scale of 1 / depth, which is above 0")
    stray = abs(focal[0] - focal[1]) / 2 * (np.abs(person.transl_3[:2]).max() + _REACH_M) / z
    if stray > _STRAY_PX:
        raise SampleRejected(
            "not_square_pixels", f"focal {focal.tolist()} px: EFT has one focal length; vertices would move by {stray:.2f} px"
        )
    camera = to_eft(person.transl_3, float(focal.mean()), person.princpt_2)
    identity = person.instance.annotation_id
    joints_49 = np.concatenate([np.zeros((OPENPOSE, 3)), part_24(person.instance)])
    return {
        "parm_pose": matrices(person.pose_72).tolist(),
        "parm_shape": person.betas_10.astype(np.float64).tolist(),
        "parm_cam": camera.cam_3.tolist(),
        "bbox_scale": camera.scale,
        "bbox_center": camera.centre_2.tolist(),
        "joint_validity_openpose18": validity_18(person.instance),
        "smpltype": "smpl",
        "annotId": int(identity) if str(identity).isdecimal() and str(int(identity)) == identity else identity,
        "imageName": Path(person.sample.image_path).name,
        "gt_keypoint_2d": joints_49.tolist(),
    }


def _fit(name: str, record: Any) -> Fit | Unmapped:
    try:
        identity, image = _identity(record.get("annotId")), record.get("imageName")
        matrices_2433 = np.asarray(record["parm_pose"], np.float64).reshape(24, 3, 3)
        betas = np.asarray(record["parm_shape"], np.float64).reshape(10)
        cam = np.asarray(record["parm_cam"], np.float64).reshape(3)
        scale, centre = float(record["bbox_scale"]), np.asarray(record["bbox_center"], np.float64).reshape(2)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Unmapped(name, "invalid_record", f"{error!r}"[:200])
    whose = {"annotation_id": identity} if identity else {"image": image if isinstance(image, str) else None, "centre_2": centre}
    if not np.isfinite(np.concatenate([matrices_2433.ravel(), betas, cam, [scale], centre])).all():
        return Unmapped(name, "non_finite", "a parameter or the camera is NaN or infinite", **(whose if identity else {}))
    if str(record.get("smpltype", "smpl")).lower() != "smpl":
        return Unmapped(name, "other_body", f"smpltype {record['smpltype']!r}: expected 'smpl'"[:200], **whose)
    if cam[0] <= 0 or scale <= 0:
        return Unmapped(name, "invalid_camera", f"parm_cam {cam.tolist()}, bbox_scale {scale:g}: expected scales above 0", **whose)
    pose, off = axis_angles(matrices_2433)
    if off > OFF_ROTATION:
        return Unmapped(name, "not_a_rotation", f"an entry of parm_pose is {off:.3g} from the nearest rotation's", **whose)
    transl, focal, princpt = from_eft(EftCamera(cam, scale, centre))
    return Fit(pose, betas, transl, np.array([focal, focal]), princpt, **whose)


def _identity(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) and str(value) else None


def matrices(pose_72: np.ndarray) -> np.ndarray:
    """Rotation matrices (24, 3, 3), float64, of an axis-angle pose."""
    import torch

    from engine.body.rotations import axis_angle_to_matrix

    return axis_angle_to_matrix(torch.from_numpy(pose_72.astype(np.float64).reshape(24, 3))).numpy()


def axis_angles(matrices_2433: np.ndarray) -> tuple[np.ndarray, float]:
    """Axis-angle pose (72,) of the rotations nearest to finite matrices, and how far the farthest entry was from them."""
    import roma
    import torch

    given = torch.from_numpy(matrices_2433)
    nearest = roma.special_procrustes(given)
    return roma.rotmat_to_rotvec(nearest).numpy().reshape(72), float((given - nearest).abs().max())


def validity_18(instance: Instance) -> list[bool]:
    """Which of OpenPose's 18 joints are annotated; the neck also where both shoulders are."""
    valid = dict(zip(SKELETONS[instance.skeleton].joints, instance.joints_valid, strict=True))
    neck = valid.get("Neck", False) or (valid.get("L_Shoulder", False) and valid.get("R_Shoulder", False))
    return [bool(neck if name == "Neck" else valid.get(name, False)) for name in OPENPOSE_18]


def open_writer(folder: Path, options: Options, info: ExportInfo) -> EftWriter:
    return EftWriter(folder / f"{info.dataset}_{info.split}_EFT.json")


def open_reader(path: Path, options: Options, load_body: LoadBody) -> EftReader:
    from engine.exchange.files import only_file

    return EftReader(only_file(path, "*_EFT.json"))
