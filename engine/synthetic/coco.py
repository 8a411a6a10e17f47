"""The in-the-wild set with 2D keypoints only, in COCO's layout, and its 3D truth beside it.

Broad looks, light, places and poses; one to four persons an image, some covered, some cut off; now and then a far-off crowd
(iscrowd = 1, run lengths) and persons whose keypoints nobody annotated, as in the real files. The truth that no annotator of
photographs could know lies apart, in `truth/`, and no loader of COCO ever sees it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial.transform import Rotation

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import wild_place
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.images import mask_box, mask_polygons, mask_run_lengths, write_jpeg
from engine.synthetic.outfits import casual_outfit
from engine.synthetic.render import Picture, render
from engine.synthetic.scene import WILD_POSES, Actor, Framing, Scene, choose_covers, choose_focal, choose_light, compose, strike_poses
from schemas.skeletons import COCO17

FRAMING = Framing((0.36, 0.34, 0.2, 0.1), (150, 300), (7, 8, -8, 32), 0.16, 0.13, 0.06)
_UNLABELLED = 0.03
_IDS_AN_IMAGE = 16
_FIRST_IMAGE_ID = 100
_FLAGS = np.array([0, 0.4, 0.1])
"""Chance that an annotator leaves out a joint that is: seen, covered by something else, behind the person's own body."""

CATEGORY = {
    "supercategory": "person", "id": 1, "name": "person",
    "keypoints": ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
                  "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"],
    "skeleton": [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11],
                 [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]],
}  # fmt: skip


def render_image(config: SyntheticConfig, mannequin: Mannequin, index: int, root: Path) -> dict[str, Any]:
    """One image, written below `root`: its `image` record, `annotations` and `truth` rows."""
    rng = np.random.default_rng([config.seed, 201, index])
    hw = config.itw_hw[rng.integers(len(config.itw_hw))]
    people = 1 + int(rng.choice(len(FRAMING.people), p=FRAMING.people))
    extras = 3 if rng.random() < FRAMING.company else 0
    actors = tuple(Actor(casual_outfit(rng), np.clip(rng.normal(0, 1, 10), -2.5, 2.5)) for _ in range(people + extras))
    cast = strike_poses(rng, mannequin, actors, WILD_POSES, extras)
    camera, transl_P3 = compose(rng, hw, choose_focal(rng, hw), cast, FRAMING, heading=rng.uniform(-np.pi, np.pi))
    scene = Scene(
        hw, camera, wild_place(rng), choose_light(rng), cast, transl_P3, choose_covers(rng, camera, cast, transl_P3, FRAMING.covered),
        rng.uniform(0.5, 4), rng.uniform(0, 0.7), rng.uniform(0.85, 1.2), rng.uniform(0.15, 0.8, 3),
    )  # fmt: skip
    picture = render(scene, mannequin.atlas, rng)
    image_id = _FIRST_IMAGE_ID + 7 * index
    file_name = f"{image_id:012d}.jpg"
    write_jpeg(root / "coco" / "train2017" / file_name, picture.image_HW3, config.jpeg_quality)
    annotations, truth = [], []
    for p in range(cast.first_extra):
        mask = picture.owner_HW == p
        if mask.sum() < 24:
            continue
        annotation_id = image_id * _IDS_AN_IMAGE + p
        keypoints, labelled = _keypoints(config, rng, scene, picture, p)
        annotations.append({
            "segmentation": mask_polygons(mask), "num_keypoints": labelled, "area": float(mask.sum()), "iscrowd": 0, "keypoints": keypoints,
            "image_id": image_id, "bbox": mask_box(mask), "category_id": 1, "id": annotation_id,
        })  # fmt: skip
        truth.append({"annotation_id": str(annotation_id), "file_name": file_name, **_truth(scene, p)})
    crowd = picture.owner_HW >= cast.first_extra
    if extras and crowd.any():
        annotations.append({
            "segmentation": mask_run_lengths(crowd), "num_keypoints": 0, "area": float(crowd.sum()), "iscrowd": 1, "keypoints": [0] * 51,
            "image_id": image_id, "bbox": mask_box(crowd), "category_id": 1, "id": image_id * _IDS_AN_IMAGE + _IDS_AN_IMAGE - 1,
        })  # fmt: skip
    record = {"license": 1, "file_name": file_name, "coco_url": "", "height": hw[0], "width": hw[1], "date_captured": "2017-01-01 00:00:00",
              "flickr_url": "", "id": image_id}  # fmt: skip
    return {"image": record, "annotations": annotations, "truth": truth}


def _keypoints(config: SyntheticConfig, rng: np.random.Generator, scene: Scene, picture: Picture, p: int) -> tuple[list[int], int]:
    """51 numbers as an annotator would give them, and how many joints are labelled."""
    joints = scene.cast.bodies.joints[COCO17.name][p] + scene.transl_P3[p]
    seen = scene.camera.to_camera(joints)
    pixels = scene.camera.to_pixels(seen)
    visible = picture.sees(p, pixels, seen[:, 2])
    height, width = scene.hw
    column, row = np.rint(pixels).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    other = picture.owner_HW[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] != p
    chance = _FLAGS[np.where(visible, 0, np.where(other, 1, 2))]
    labelled = inside & (rng.random(len(pixels)) >= chance)
    if rng.random() < _UNLABELLED or picture.seen_P[p] < 0.12 * picture.covered_P[p] or not visible.any():
        labelled[:] = False
    noisy = np.clip(np.rint(pixels + rng.normal(0, config.keypoint_noise_px, pixels.shape)), 0, (width - 1, height - 1)).astype(int)
    flags = np.where(labelled, np.where(visible, 2, 1), 0)
    rows = np.where(labelled[:, None], np.column_stack([noisy, flags]), 0)
    return [int(v) for v in rows.ravel()], int(labelled.sum())


def _truth(scene: Scene, p: int) -> dict[str, Any]:
    """SMPL parameters of a person in the camera frame, and the camera."""
    camera, pelvis = scene.camera, scene.cast.bodies.root_P3[p]
    pose = scene.cast.pose_P72[p].copy()
    pose[:3] = Rotation.from_matrix(camera.rotation @ Rotation.from_rotvec(pose[:3]).as_matrix()).as_rotvec()
    transl = camera.to_camera(pelvis + scene.transl_P3[p]) - pelvis
    return {
        "pose": pose.tolist(), "betas": scene.cast.betas_P10[p].tolist(), "transl": transl.tolist(), "focal": camera.focal.tolist(),
        "princpt": camera.princpt.tolist(),
    }  # fmt: skip


TRUTH_SCHEMA = pa.schema(
    [("annotation_id", pa.string()), ("file_name", pa.string())]
    + [(name, pa.list_(pa.float32(), size)) for name, size in (("pose", 72), ("betas", 10), ("transl", 3), ("focal", 2), ("princpt", 2))]
)


def write_annotations(config: SyntheticConfig, records: list[dict[str, Any]], root: Path) -> None:
    """The one JSON file of the set, and its truth as Parquet."""
    folder, truth = root / "coco" / "annotations", root / "truth"
    folder.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    contents = {
        "info": {
            "description": "Synthetic people in COCO's layout",
            "url": "",
            "version": "1.0",
            "year": 2017,
            "contributor": "pseudogt",
            "date_created": "",
        },
        "licenses": [{"url": "https://creativecommons.org/publicdomain/zero/1.0/", "id": 1, "name": "CC0 1.0"}],
        "images": [r["image"] for r in records],
        "annotations": [a for r in records for a in r["annotations"]],
        "categories": [CATEGORY],
    }
    (folder / "person_keypoints_train2017.json").write_text(json.dumps(contents))
    pq.write_table(pa.Table.from_pylist([t for r in records for t in r["truth"]], TRUTH_SCHEMA), truth / "coco_train2017.parquet")
