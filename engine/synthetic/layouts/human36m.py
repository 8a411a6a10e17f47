"""Human3.6M's layout, as the authors' JSON files have it: four files a subject, one person an image, four cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.synthetic.camera import PinholeCamera
from engine.synthetic.layouts.studio import extrinsics, fit_record, joints_box, whole_person, world_mm
from engine.synthetic.shots import Shot, TrueImage
from schemas.skeletons import H36M17


def write(
    root: Path, shots: list[Shot], *, subject: int = 1, step: int = 5, fits: bool = True, camera_place: bool = False, **order: bool
) -> list[TrueImage]:
    """Images and annotation files of one subject: the first person of every shot, frame number instant * step, view v as camera v + 1.

    `camera_place` writes cameras that mean R (x - t), as an older converter did. `order` is write_subject's.
    """
    records: dict[int, dict[str, Any]] = {}
    truth = []
    for shot in shots:
        person = shot.persons[0]
        folder = f"s_{subject:02d}_act_02_subact_01_ca_{shot.view + 1:02d}"
        image = {"file_name": f"{folder}/{folder}_{shot.instant * step + 1:06d}.jpg", "cam_idx": shot.view + 1}
        image["bbox"] = joints_box(shot.joints_img(0, H36M17.joints), 1.1)
        path = root / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shot.jpeg)
        instant = {"subject": subject, "action_name": "Directions", "action_idx": 2, "subaction_idx": 1, "frame_idx": shot.instant * step}
        joints, fit = world_mm(person.by_skeleton["h36m17"]), fit_record(person.pose_72, person.betas_10, person.transl_3, person.root_3)
        records.setdefault(shot.instant, instant | {"images": [], "joints": joints, "fit": fit})["images"].append(image)
        truth.append((f"images/{image['file_name']}", shot))
    cameras = {shot.view + 1: shot.camera for shot in shots}
    write_subject(root, list(records.values()), camera_file(cameras, camera_place), shots[0].hw, fits=fits, **order)
    return [TrueImage(path, (whole_person(shot, 0, H36M17.joints),)) for path, shot in truth]


def camera_file(cameras: Mapping[int, PinholeCamera], place: bool = False) -> dict[str, Any]:
    """Content of a subject's camera file from cameras of the y-up world."""
    return {str(n): {**extrinsics(c, place), "f": c.focal.tolist(), "c": c.princpt.tolist()} for n, c in cameras.items()}


def write_subject(
    root: Path,
    records: list[dict[str, Any]],
    cameras: dict[str, Any],
    hw: tuple[int, int],
    *,
    first_id: int = 0,
    fits: bool = True,
    annotations_first: bool = False,
) -> None:
    """The annotation files of one subject from records of its instants: the fields of an image, `images`, `joints` and `fit`.

    `annotations_first` puts the data file's arrays in the other order, which dictionaries of older Pythons did at will.
    """
    images, annotations, joints, fitted = [], [], {}, {}
    for record in sorted(records, key=lambda r: (r["action_idx"], r["subaction_idx"], r["frame_idx"])):
        action, subaction, frame = (str(record[k]) for k in ("action_idx", "subaction_idx", "frame_idx"))
        joints.setdefault(action, {}).setdefault(subaction, {})[frame] = record["joints"]
        fitted.setdefault(action, {}).setdefault(subaction, {})[frame] = record["fit"]
        about = {k: record[k] for k in ("subject", "action_name", "action_idx", "subaction_idx")}
        for image in record["images"]:
            identity = first_id + len(images)
            size = {"width": hw[1], "height": hw[0]}
            seen = {"cam_idx": image["cam_idx"], "frame_idx": record["frame_idx"]}
            images.append({"id": identity, "file_name": image["file_name"], **size, **about, **seen})
            annotations.append({"id": identity, "image_id": identity, "keypoints_vis": [True] * len(H36M17), "bbox": image["bbox"]})
    data = {"images": images, "annotations": annotations}
    contents = {"data": dict(reversed(data.items())) if annotations_first else data, "camera": cameras, "joint_3d": joints}
    if fits:
        contents["SMPL_NeuralAnnot"] = fitted
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for part, value in contents.items():
        (folder / f"Human36M_subject{records[0]['subject']}_{part}.json").write_text(json.dumps(value))
