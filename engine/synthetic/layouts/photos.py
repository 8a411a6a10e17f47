"""A folder of photographs as people keep them, with a file of boxes in each of the forms, and videos."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from engine.synthetic.shots import Shot, TrueImage, TruePerson, true_person
from schemas.skeleton import Skeleton
from schemas.skeletons import COCO17

Form = Literal["coco", "short", "csv"]
_NAMES = ("img_{:04d}.jpg", "beach/IMG {:04d}.JPG", "beach/day 2/{:04d}.jpeg", "scans/photo.{:04d}.png")
_MARGIN = 0.1
"""Of a person's size, on each side of its joints."""


def write(
    root: Path, shots: list[Shot], form: Form = "coco", skeleton: Skeleton = COCO17, keypoints: bool = True, ids: bool = True
) -> list[TrueImage]:
    """One photograph a shot below the root and `boxes.json` or `boxes.csv`; CSV has no keypoints."""
    names = [_NAMES[i % len(_NAMES)].format(i) for i in range(len(shots))]
    for name, shot in zip(names, shots, strict=True):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(shot.jpeg) if path.suffix == ".png" else shot.jpeg)
    return write_boxes(root, dict(zip(names, shots, strict=True)), form, skeleton, keypoints and form != "csv", ids)


def write_videos(root: Path, shots: list[Shot]) -> list[TrueImage]:
    """`clip.mp4` of all shots and `boxes.json` in the short form for every frame of it."""
    write_video(root / "clip.mp4", map(pixels, shots))
    return write_boxes(root, {f"clip.mp4#{i}": shot for i, shot in enumerate(shots)}, "short")


def write_boxes(
    root: Path, shots: dict[str, Shot], form: Form, skeleton: Skeleton = COCO17, keypoints: bool = True, ids: bool = True
) -> list[TrueImage]:
    """The boxes file alone, for photographs and frames of these names, which are as they say."""
    persons = {name: [_person(shot, p, skeleton, keypoints) for p in range(len(shot.persons))] for name, shot in shots.items()}
    numbers = {name: [f"{name.replace('/', '-')} {p}" for p in range(len(found))] for name, found in persons.items()}
    if form == "csv":
        _write_csv(root / "boxes.csv", persons, numbers if ids else None)
    else:
        (root / "boxes.json").write_text(
            json.dumps(_coco(shots, persons, skeleton, keypoints) if form == "coco" else _short(persons, numbers if ids else None))
        )
    truth, number = [], 0
    for name, shot in shots.items():
        true = []
        for p in range(len(shot.persons)):
            number += 1
            told = {"coco": str(number), "short": numbers[name][p] if ids else str(p), "csv": numbers[name][p] if ids else str(number)}[
                form
            ]
            there = true_person(shot, p, skeleton.joints).joints_img if keypoints else {}
            true.append(TruePerson(told, there, None, frozenset(skeleton.joints) - set(there)))
        truth.append(TrueImage(name, tuple(true)))
    return truth


def write_video(path: Path, frames: Iterable[np.ndarray], rate: int = 10) -> None:
    """A video of these frames (H, W, 3) uint8 RGB, all of one size with even sides, in the container that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for pixels_HW3 in frames:
            if stream is None:
                stream = container.add_stream("mpeg4", rate=rate)
                stream.height, stream.width = pixels_HW3.shape[:2]
                stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HW3, "rgb24")))
        container.mux(stream.encode(None))


def pixels(shot: Shot) -> np.ndarray:
    """A shot's picture (H, W, 3), uint8 RGB."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def _png(jpeg: bytes) -> bytes:
    return cv2.imencode(".png", cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()


def _person(shot: Shot, p: int, skeleton: Skeleton, keypoints: bool) -> dict[str, Any]:
    places, inside = shot.joints_img(p, skeleton.joints), shot.inside(p, skeleton.joints)
    low, high = places.min(0), places.max(0)
    margin = (high - low) * _MARGIN
    person: dict[str, Any] = {"bbox": np.round(np.concatenate([low - margin, high - low + 2 * margin]), 3).tolist()}
    if keypoints:
        person["keypoints"] = [[float(x), float(y), 0.9 if ok else 0] for (x, y), ok in zip(np.round(places, 4), inside, strict=True)]
    return person


def _coco(shots: dict[str, Shot], persons: dict[str, list[dict]], skeleton: Skeleton, keypoints: bool) -> dict[str, Any]:
    images = [{"id": 70 + i, "file_name": name, "width": shot.hw[1], "height": shot.hw[0]} for i, (name, shot) in enumerate(shots.items())]
    annotations = []
    for image in images:
        for person in persons[image["file_name"]]:
            flat = (
                {"keypoints": [v if i < 2 else 2 * (v > 0) for triple in person["keypoints"] for i, v in enumerate(triple)]}
                if keypoints
                else {}
            )
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], "category_id": 4, "iscrowd": 0, **person, **flat})
    names = {
        "keypoints": [
            f"{n[:1].replace('L', 'left').replace('R', 'right')}_{n[2:]}".lower() if n[1] == "_" else n.lower() for n in skeleton.joints
        ]
    }
    categories = [{"id": 3, "name": "dog"}, {"id": 4, "name": "person", **(names if keypoints else {})}]
    return {"images": images, "categories": categories, "annotations": annotations}


def _short(persons: dict[str, list[dict]], ids: dict[str, list[str]] | None) -> dict[str, Any]:
    return {
        name: [{**person, **({"id": ids[name][p]} if ids else {})} for p, person in enumerate(found)] for name, found in persons.items()
    }


def _write_csv(path: Path, persons: dict[str, list[dict]], ids: dict[str, list[str]] | None) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "x", "y", "width", "height", *(["id"] if ids else [])])
        for name, found in persons.items():
            for p, person in enumerate(found):
                rows.writerow([name, *person["bbox"], *([ids[name][p]] if ids else [])])
