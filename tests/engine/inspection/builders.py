"""Small sources for the tests of inspection: a COCO folder with planted contradictions, and persons with 3D."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schemas.sample import Camera, Instance
from schemas.skeletons import H36M17

FOCAL, PRINCPT = (1000.0, 1000.0), (500.0, 500.0)

STANDING = {
    "Pelvis": (0.0, 0.0, 0.0), "R_Hip": (-0.13, 0.0, 0.0), "R_Knee": (-0.13, 0.43, -0.06), "R_Ankle": (-0.13, 0.82, 0.14),
    "L_Hip": (0.13, 0.0, 0.0), "L_Knee": (0.13, 0.43, -0.06), "L_Ankle": (0.13, 0.82, 0.14), "Torso": (0.0, -0.25, 0.0),
    "Neck": (0.0, -0.5, 0.0), "Head": (0.0, -0.6, -0.05), "Head_top": (0.0, -0.7, 0.0), "L_Shoulder": (0.17, -0.45, 0.0),
    "L_Elbow": (0.35, -0.3, 0.0), "L_Wrist": (0.42, -0.06, -0.05), "R_Shoulder": (-0.17, -0.45, 0.0), "R_Elbow": (-0.35, -0.3, 0.0),
    "R_Wrist": (-0.42, -0.06, -0.05),
}  # fmt: skip
"""Somebody who faces the camera with bent knees, metres from the pelvis, camera frame: the person's left is at positive x."""


def standing(x: float = 0.0, depth: float = 4.0) -> np.ndarray:
    """Joints (17, 3) of h36m17 in the camera frame."""
    return np.array([STANDING[name] for name in H36M17.joints]) + np.array([x, 0.1, depth])


def projected(cam_J3: np.ndarray) -> np.ndarray:
    return np.array([(FOCAL[0] * x / z + PRINCPT[0], FOCAL[1] * y / z + PRINCPT[1]) for x, y, z in cam_J3])


def solid_person(cam_J3: np.ndarray, image_J2: np.ndarray | None = None, annotation_id: str = "1", **fields: Any) -> Instance:
    """A person of h36m17 whose 2D joints are `image_J2`, by default where the 3D ones project to."""
    image_J2 = projected(cam_J3) if image_J2 is None else image_J2
    low, high = image_J2.min(0), image_J2.max(0)
    return Instance(
        **{
            "annotation_id": annotation_id,
            "bbox_xywh": (*low.tolist(), *(high - low).tolist()),
            "skeleton": "h36m17",
            "joints_img": tuple(map(tuple, image_J2.tolist())),
            "joints_valid": (True,) * 17,
            "joints_cam": tuple(map(tuple, cam_J3.tolist())),
            "camera": Camera(focal=FOCAL, princpt=PRINCPT),
        }
        | fields
    )


def encoded(wh: tuple[int, int] = (96, 64), seed: int = 0, kind: str = "JPEG", orientation: int | None = None, **options: Any) -> bytes:
    """A noisy image."""
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(wh, Image.Resampling.BICUBIC).save(out, kind, **options)
    return out.getvalue()


def annotation(number: int, image_id: int, **fields: Any) -> dict[str, Any]:
    """A COCO person well inside an image of 96x64, other joints for another number."""
    keypoints = [v for i in range(17) for v in (20 + 2 * i + number % 7, 12 + 2 * i, 2)]
    return {
        "id": number, "image_id": image_id, "iscrowd": 0, "bbox": [15, 8, 50, 45], "keypoints": keypoints, "num_keypoints": 17,
    } | fields  # fmt: skip


def write_coco(root: Path, images: dict[int, tuple[str, bytes | None, tuple[int, int]]], annotations: list[dict[str, Any]]) -> Path:
    """`images`: id -> file name, its bytes (None: no file) and the annotated width and height."""
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for name, data, _ in images.values():
        if data is not None:
            (root / "val" / name).write_bytes(data)
    records = [{"id": number, "file_name": name, "width": w, "height": h} for number, (name, _, (w, h)) in images.items()]
    content = {"images": records, "annotations": annotations}
    (root / "annotations" / "person_keypoints_val.json").write_text(json.dumps(content))
    return root
