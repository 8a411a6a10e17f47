"""COCO's layout, of 2014 and 2017, and COCO-WholeBody's: integer keypoints, boxes of two decimals, outlines nobody reads.

What the whole-body file knows beyond the 17 joints: feet and the fingers' first joints. All other points of hands and faces are written
at places where no joint is, so that a reader who counts wrongly is found out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from engine.synthetic.coco import CATEGORY
from engine.synthetic.shots import Shot, TrueImage, TruePerson
from schemas.skeletons import COCO17

FEET = tuple(f"{side}_{part}" for side in "LR" for part in ("Big_toe", "Small_toe", "Heel"))
FINGERS = {5: "Index_1", 9: "Middle_1", 13: "Ring_1", 17: "Pinky_1"}
"""Keypoint of a hand -> joint."""
_FIRST_ID = 9


def write(
    root: Path,
    shots: list[Shot],
    *,
    year: int = 2017,
    split: str = "train",
    wholebody: bool = False,
    annotations_first: bool = False,
    folder: str = "",
) -> list[TrueImage]:
    """`annotations/` and the photographs in `<folder><split><year>/`; what a loader has to find of them."""
    place = f"{folder}{split}{year}"
    (root / place).mkdir(parents=True, exist_ok=True)
    images, annotations, truth = [], [], []
    for i, shot in enumerate(shots):
        image_id = _FIRST_ID + 16 * i
        name = f"COCO_{split}{year}_{image_id:012d}.jpg" if year == 2014 else f"{image_id:012d}.jpg"
        (root / place / name).write_bytes(shot.jpeg)
        images.append(
            {
                "license": 1,
                "file_name": name,
                "coco_url": "",
                "height": shot.hw[0],
                "width": shot.hw[1],
                "date_captured": "",
                "id": image_id,
            }
        )
        persons = []
        for p in range(len(shot.persons)):
            annotation_id = 1000 * image_id + p
            annotation, person = _person(shot, p, annotation_id, wholebody)
            annotations.append({**annotation, "image_id": image_id, "category_id": 1, "id": annotation_id, "iscrowd": 0})
            persons += [person] if annotation["num_keypoints"] else []
        truth.append(TrueImage(f"{place}/{name}", tuple(persons)))
    name = f"coco_wholebody_{split}_v1.0.json" if wholebody else f"person_keypoints_{split}{year}.json"
    write_json(root / "annotations" / name, images, annotations, CATEGORY, annotations_first)
    return truth


def write_json(path: Path, images: list[dict], annotations: list[dict], category: dict[str, Any], annotations_first: bool = False) -> None:
    """A file in COCO's layout; its images come last with `annotations_first`, as some tools write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": [category]}
    if annotations_first:
        content = {name: content[name] for name in ("annotations", "categories", "images")}
    path.write_text(json.dumps(content))


def whole_keypoints(shot: Shot, person: int, names: tuple[str, ...]) -> list[int]:
    """Flat triples of whole pixels, 2 where a joint is inside the picture, (0, 0, 0) elsewhere."""
    inside = shot.inside(person, names)
    rows = np.where(inside[:, None], np.rint(np.column_stack([shot.joints_img(person, names), np.full(len(names), 2)])), 0)
    return [int(v) for v in rows.ravel()]


def joints_box(shot: Shot, person: int, names: tuple[str, ...]) -> list[float]:
    """Smallest box [x, y, w, h] of the joints inside the picture, a pixel wider on each side, two decimals."""
    pixels = shot.joints_img(person, names)[shot.inside(person, names)]
    if not len(pixels):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = pixels.min(0) - 1, pixels.max(0) + 1
    return [round(float(v), 2) for v in (*low, *(high - low))]


def _person(shot: Shot, p: int, annotation_id: int, wholebody: bool) -> tuple[dict[str, Any], TruePerson]:
    names = COCO17.joints
    keypoints = whole_keypoints(shot, p, names)
    annotation: dict[str, Any] = {
        "segmentation": [[1.5, 2.0, 3.0, 4.0, 5.0, 6.0]],
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "area": 100.25,
        "keypoints": keypoints,
        "bbox": joints_box(shot, p, names),
    }
    hips = ("L_Hip", "R_Hip")
    if wholebody:
        annotation |= {
            "foot_kpts": whole_keypoints(shot, p, FEET),
            "foot_valid": True,
            "face_kpts": [1.0, 2.0, 0.5] * 68,
            "face_valid": True,
        }
        for side, word in (("L", "left"), ("R", "right")):
            annotation |= {f"{word}hand_kpts": _hand(shot, p, side), f"{word}hand_valid": True}
        names = (*names, *FEET, *(f"{side}_{finger}" for side in "LR" for finger in FINGERS.values()))
    inside, pixels = shot.inside(p, names), shot.joints_img(p, names)
    joints = {name: pixels[i] for i, name in enumerate(names) if inside[i]}
    absent = {name for name in names if name not in joints}
    if wholebody and shot.inside(p, hips).all():
        joints["Pelvis"] = shot.joints_img(p, hips).mean(0)
    elif wholebody:
        absent.add("Pelvis")
    return annotation, TruePerson(str(annotation_id), joints, None, frozenset(absent))


def _hand(shot: Shot, p: int, side: str) -> list[float]:
    names = tuple(f"{side}_{finger}" for finger in FINGERS.values())
    flat = [3.0, 4.0, 1.0] * 21
    for place, (x, y), inside in zip(FINGERS, shot.joints_img(p, names), shot.inside(p, names), strict=True):
        flat[3 * place : 3 * place + 3] = [round(float(x), 1), round(float(y), 1), 0.7] if inside else [0.0, 0.0, 0.0]
    return flat
