"""MPII's layouts: the original .mat with what is irregular in it, the JSON in COCO's layout, the JSON list, and MPII-TRB.

Coordinates are MATLAB's, from 1, in all of them, with four decimals.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.synthetic.layouts.coco import write_json
from engine.synthetic.layouts.matlab import struct_array, write_mat
from engine.synthetic.shots import Shot, TrueImage, true_person
from schemas.skeletons import CROWDPOSE14, MPII16

MAT = "mpii_human_pose_v1_u12_1.mat"
COCO_NAMES = ["r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "pelvis", "throax", "upper_neck", "head_top",
              "r_wrist", "r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist"]  # fmt: skip
TRB_NAMES = ["left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
             "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck", "right_neck", "left_neck"]  # fmt: skip
_EMPTY = np.zeros((0, 0))


def image_name(i: int) -> str:
    return f"{15_601_864 + 7 * i:09d}.jpg"


def from_one(shot: Shot, person: int, names: tuple[str, ...]) -> np.ndarray:
    """Joints (J, 2) in MATLAB's coordinates."""
    return np.round(shot.joints_img(person, names) + 1, 4)


def write_mpii_mat(root: Path, shots: list[Shot], *, test_images: int = 0, version: Literal["5", "7.3"] = "5") -> list[TrueImage]:
    """The .mat and the photographs of its training images; `test_images` more have persons without points.

    From image to image `is_visible` is a number, text, [] or missing, `objpos` and `scale` are there, [] or missing. The first image has
    three persons more: without annopoints, with [] and with the single point of the published file. One image has no annorect.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    images, truth = [], []
    for i, shot in enumerate(shots):
        name = image_name(i)
        (root / "images" / name).write_bytes(shot.jpeg)
        persons = [_mat_person(shot, p, i) for p in range(len(shot.persons))]
        if i == 0:
            nothing = {field: _EMPTY for field in persons[0]}
            head = struct_array([{"x": 30.0, "y": 40.0, "id": np.uint8(9), "is_visible": _EMPTY}])
            persons += [nothing, nothing | {"annopoints": {"point": _EMPTY}}, nothing | {"annopoints": {"point": head}}]
        images.append({"image": {"name": name}, "annorect": struct_array(persons), "frame_sec": _EMPTY, "vididx": _EMPTY})
        truth.append(_true_image(f"images/{name}", shot, MPII16.joints))
    for i in range(len(shots), len(shots) + test_images):
        person = {"scale": 2.5, "objpos": {"x": 100.0, "y": 90.0}}
        images.append({"image": {"name": image_name(i)}, "annorect": struct_array([person]), "frame_sec": 3.0, "vididx": 1.0})
    images.append({"image": {"name": image_name(len(images))}, "annorect": _EMPTY, "frame_sec": _EMPTY, "vididx": _EMPTY})
    in_train = np.array([[1] * len(shots) + [0] * test_images + [1]], np.uint8)
    release = {"annolist": struct_array(images), "img_train": in_train, "version": "12", "single_person": _EMPTY}
    write_mat(root / MAT, {"RELEASE": release}, version)
    return truth


def _mat_person(shot: Shot, p: int, image: int) -> dict[str, Any]:
    points = []
    for j, (xy, inside) in enumerate(zip(from_one(shot, p, MPII16.joints), shot.inside(p, MPII16.joints), strict=True)):
        if inside:
            visible = (np.uint8(1), "0", _EMPTY)[(image + j) % 3]
            points.append({"x": xy[0], "y": xy[1], "id": np.uint8(j), "is_visible": visible})
    if image % 4 == 3:
        points = [{name: value for name, value in point.items() if name != "is_visible"} for point in points]
    points = [points[k] for k in np.random.default_rng(image).permutation(len(points))]
    person: dict[str, Any] = {"x1": 1.0, "y1": 1.0, "x2": 9.0, "y2": 9.0, "annopoints": {"point": struct_array(points)}}
    if image % 3 != 1:
        person |= {"scale": 2.5 if image % 3 else _EMPTY, "objpos": {"x": 100.0, "y": 90.0} if image % 3 else _EMPTY}
    return person


def write_mpii_coco(root: Path, shots: list[Shot]) -> list[TrueImage]:
    """`annotations/train.json` in COCO's layout; file names begin with `images/`."""
    return _write_coco(root, shots, "annotations/train.json", "images/", MPII16.joints, COCO_NAMES)


def write_mpii_trb(root: Path, shots: list[Shot]) -> list[TrueImage]:
    """`annotations/mpii_trb_train.json`: 14 joints by other names, then 26 points of the outline; no boxes, file names without folder."""
    outline = [f"medial_left_outline_{k}" for k in range(24)]
    return _write_coco(root, shots, "annotations/mpii_trb_train.json", "", CROWDPOSE14.joints, TRB_NAMES + outline)


def _write_coco(root: Path, shots: list[Shot], path: str, prefix: str, names: tuple[str, ...], published: list[str]) -> list[TrueImage]:
    (root / "images").mkdir(parents=True, exist_ok=True)
    images, annotations, truth = [], [], []
    for i, shot in enumerate(shots):
        (root / "images" / image_name(i)).write_bytes(shot.jpeg)
        images.append({"id": i, "file_name": f"{prefix}{image_name(i)}", "width": shot.hw[1], "height": shot.hw[0]})
        ids = []
        for p in range(len(shot.persons)):
            labelled = np.where(shot.inside(p, names)[:, None], np.column_stack([from_one(shot, p, names), np.ones(len(names))]), 0)
            keypoints = [*labelled.ravel().tolist(), *[7.0, 8.0, 2.0] * (len(published) - len(names))]
            ids.append(str(len(annotations)))
            annotation = {"id": len(annotations), "image_id": i, "category_id": 1, "iscrowd": 0, "keypoints": keypoints}
            annotations.append(annotation | ({"bbox": [1, 2, 3, 4], "num_keypoints": int(labelled[:, 2].sum())} if prefix else {}))
        truth.append(_true_image(f"images/{image_name(i)}", shot, names, ids))
    write_json(root / path, images, annotations, {"supercategory": "person", "id": 1, "name": "person", "keypoints": published})
    return truth


def write_mpii_list(root: Path, shots: list[Shot], *, path: str = "annot/train.json", test_persons: int = 0) -> list[TrueImage]:
    """The JSON list of persons of Simple Baselines; those of the test set have neither joints nor labels."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    persons: list[dict[str, Any]] = [{"image": image_name(99), "center": [5.0, 6.0], "scale": 1.0} for _ in range(test_persons)]
    for i, shot in enumerate(shots):
        (root / "images" / image_name(i)).write_bytes(shot.jpeg)
        for p in range(len(shot.persons)):
            inside = shot.inside(p, MPII16.joints)
            joints = np.where(inside[:, None], from_one(shot, p, MPII16.joints), -1).tolist()
            labels = inside.astype(int).tolist()
            persons.append({"joints_vis": labels, "joints": joints, "image": image_name(i), "scale": 3.4, "center": [100.0, 90.0]})
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(persons))
    return [_true_image(f"images/{image_name(i)}", shot, MPII16.joints) for i, shot in enumerate(shots)]


def _true_image(path: str, shot: Shot, names: tuple[str, ...], ids: list[str] | None = None) -> TrueImage:
    """Without ids of the file's own, `<image>_<n>`."""
    stem = Path(path).stem
    persons = [true_person(shot, p, names, ids[p] if ids else f"{stem}_{p}") for p in range(len(shot.persons))]
    return TrueImage(path, tuple(persons))
