"""The studio set, in Human3.6M's layout: few subjects in tight suits, four fixed cameras, plain walls, narrow poses.

Written as the published JSON files are: world z up, millimetres, `x_cam = R x_world + t`; SMPL fits in world coordinates,
metres, one a time instant and shared by the cameras. Frames carry numbers that the usual subsampling keeps: multiples of
5 for training subjects, multiples of 64 seen by camera 4 for test subjects.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import studio_place
from engine.synthetic.camera import PinholeCamera, aim
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.images import mask_box, write_jpeg
from engine.synthetic.outfits import studio_outfit
from engine.synthetic.render import render
from engine.synthetic.scene import Actor, PoseStyle, Scene, strike_poses, studio_light

TRAIN_SUBJECTS, TEST_SUBJECTS = (1, 5, 6, 7, 8), (9, 11)
TRAIN_STEP, TEST_STEP, TEST_CAMERA = 5, 64, 4
ACTIONS = (
    ("Directions", ("gesturing", "standing")),
    ("Discussion", ("gesturing",)),
    ("Eating", ("sitting",)),
    ("Greeting", ("reaching up", "gesturing")),
    ("Phoning", ("sitting", "gesturing")),
    ("Posing", ("hands on hips", "standing")),
    ("Purchases", ("standing", "gesturing")),
    ("Sitting", ("sitting",)),
    ("SittingDown", ("sitting",)),
    ("Smoking", ("sitting", "standing")),
    ("Photo", ("gesturing", "standing")),
    ("Waiting", ("standing", "crossed arms")),
    ("Walking", ("walking",)),
    ("WalkDog", ("walking",)),
    ("WalkTogether", ("walking",)),
)
"""Human3.6M's actions (numbered from 2) and the pose modes that stand for them."""
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From this package's y-up world to Human3.6M's z-up one."""


def instants(config: SyntheticConfig) -> list[tuple[int, int, tuple[int, ...]]]:
    """Every time instant of the set: (subject, number within the subject, cameras 1 to 4 that see it)."""
    found = []
    left, number = config.mocap_images, 0
    while left > 0:
        views = min(config.mocap_views, left)
        cameras = tuple(sorted((number + k * 4 // views) % 4 + 1 for k in range(views)))
        found.append((TRAIN_SUBJECTS[number % len(TRAIN_SUBJECTS)], number // len(TRAIN_SUBJECTS), cameras))
        left, number = left - views, number + 1
    for i in range(config.mocap_test_images):
        found.append((TEST_SUBJECTS[i % len(TEST_SUBJECTS)], i // len(TEST_SUBJECTS), (TEST_CAMERA,)))
    return found


def render_instant(config: SyntheticConfig, mannequin: Mannequin, index: int, root: Path) -> dict[str, Any]:
    """Pictures of one instant, written below `root`; its part of the annotation files."""
    subject, number, cameras = instants(config)[index]
    rng = np.random.default_rng([config.seed, 101, index])
    looks = np.random.default_rng([config.seed, 102, subject])
    actor = Actor(studio_outfit(looks), np.clip(looks.normal(0, 1, 10), -2, 2))
    number, action = number // len(ACTIONS), number % len(ACTIONS)
    subaction, frame = number % 2 + 1, number // 2 * (TEST_STEP if subject in TEST_SUBJECTS else TRAIN_STEP)
    cast = strike_poses(rng, mannequin, (actor,), PoseStyle(ACTIONS[action][1], 3.0, 0.0))
    transl_P3 = cast.placed(rng.uniform(-0.7, 0.7, (1, 2)))
    name = f"s_{subject:02d}_act_{action + 2:02d}_subact_{subaction:02d}_ca_"
    images = []
    for number in cameras:
        camera = studio_camera(config, subject, number)
        scene = Scene(
            config.mocap_hw, camera, studio_place(), studio_light(), cast, transl_P3, (), 1.5, 0.4, 1.0, np.array([0.45, 0.42, 0.4])
        )
        picture = render(scene, mannequin.atlas, rng)
        file_name = f"{name}{number:02d}/{name}{number:02d}_{frame + 1:06d}.jpg"
        write_jpeg(root / "human36m" / "images" / file_name, picture.image_HW3, config.jpeg_quality)
        images.append({"file_name": file_name, "cam_idx": number, "bbox": mask_box(picture.owner_HW == 0)})
    joints_mm = (cast.bodies.joints["h36m17"][0] + transl_P3[0]) @ Z_UP.T * 1000
    pose = cast.pose_P72[0].copy()
    pose[:3] = Rotation.from_matrix(Z_UP @ Rotation.from_rotvec(pose[:3]).as_matrix()).as_rotvec()
    pelvis = cast.bodies.root_P3[0]
    fit = {"pose": pose.tolist(), "shape": cast.betas_P10[0].tolist(), "trans": (Z_UP @ (pelvis + transl_P3[0]) - pelvis).tolist()}
    return {
        "subject": subject,
        "action_name": ACTIONS[action][0],
        "action_idx": action + 2,
        "subaction_idx": subaction,
        "frame_idx": frame,
        "images": images,
        "joints": joints_mm.tolist(),
        "fit": fit,
    }


def studio_camera(config: SyntheticConfig, subject: int, number: int) -> PinholeCamera:
    """Camera 1 to 4 of a subject's session: in the studio's corners, a little elsewhere for every subject."""
    rng = np.random.default_rng([config.seed, 103, subject, number])
    corner = np.array([(-1, 1), (1, 1), (-1, -1), (1, -1)][number - 1]) * 3.6 + rng.uniform(-0.25, 0.25, 2)
    position = np.array([corner[0], rng.uniform(1.5, 1.8), corner[1]])
    yaw = np.arctan2(-corner[0], -corner[1])
    return aim(
        position, yaw + rng.normal(0, 0.02), 0.14 + rng.normal(0, 0.01), rng.normal(0, 0.01), 1.75 * config.mocap_hw[0], config.mocap_hw
    )


def write_annotations(config: SyntheticConfig, records: list[dict[str, Any]], root: Path) -> None:
    """The four JSON files of every subject that occurs."""
    folder = root / "human36m" / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    height, width = config.mocap_hw
    identity = 0
    for subject in (*TRAIN_SUBJECTS, *TEST_SUBJECTS):
        images, annotations, joints, fits = [], [], {}, {}
        mine = [r for r in records if r["subject"] == subject]
        for record in sorted(mine, key=lambda r: (r["action_idx"], r["subaction_idx"], r["frame_idx"])):
            keys = tuple(str(record[k]) for k in ("action_idx", "subaction_idx", "frame_idx"))
            joints.setdefault(keys[0], {}).setdefault(keys[1], {})[keys[2]] = record["joints"]
            fits.setdefault(keys[0], {}).setdefault(keys[1], {})[keys[2]] = record["fit"]
            for image in record["images"]:
                about = {k: record[k] for k in ("subject", "action_name", "action_idx", "subaction_idx")}
                images.append(
                    {
                        "id": identity,
                        "file_name": image["file_name"],
                        "width": width,
                        "height": height,
                        **about,
                        "cam_idx": image["cam_idx"],
                        "frame_idx": record["frame_idx"],
                    }
                )
                annotations.append({"id": identity, "image_id": identity, "keypoints_vis": [True] * 17, "bbox": image["bbox"]})
                identity += 1
        if not images:
            continue
        cameras = {str(n): _camera_record(studio_camera(config, subject, n)) for n in (1, 2, 3, 4)}
        contents = {"data": {"images": images, "annotations": annotations}, "camera": cameras, "joint_3d": joints, "SMPL_NeuralAnnot": fits}
        for part, value in contents.items():
            (folder / f"Human36M_subject{subject}_{part}.json").write_text(json.dumps(value))


def _camera_record(camera: PinholeCamera) -> dict[str, Any]:
    rotation = camera.rotation @ Z_UP.T
    return {"R": rotation.tolist(), "t": (camera.translation * 1000).tolist(), "f": camera.focal.tolist(), "c": camera.princpt.tolist()}
