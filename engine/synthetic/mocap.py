"""The studio set, in Human3.6M's layout: few subjects in tight suits, four fixed cameras, plain walls, narrow poses.

Written as the published JSON files are: world z up, millimetres, `x_cam = R x_world + t`; SMPL fits in world coordinates,
metres, one a time instant and shared by the cameras. Frames carry numbers that the usual subsampling keeps: multiples of
5 for training subjects, multiples of 64 seen by camera 4 for test subjects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import studio_place
from engine.synthetic.camera import PinholeCamera, aim
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.images import mask_box, write_jpeg
from engine.synthetic.layouts.human36m import camera_file, write_subject
from engine.synthetic.layouts.studio import fit_record, world_mm
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
    return {
        "subject": subject,
        "action_name": ACTIONS[action][0],
        "action_idx": action + 2,
        "subaction_idx": subaction,
        "frame_idx": frame,
        "images": images,
        "joints": world_mm(cast.bodies.joints["h36m17"][0] + transl_P3[0]),
        "fit": fit_record(cast.pose_P72[0], cast.betas_P10[0], transl_P3[0], cast.bodies.root_P3[0]),
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
    identity = 0
    for subject in (*TRAIN_SUBJECTS, *TEST_SUBJECTS):
        mine = [r for r in records if r["subject"] == subject]
        if mine:
            cameras = {n: studio_camera(config, subject, n) for n in (1, 2, 3, 4)}
            write_subject(root / "human36m", mine, camera_file(cameras), config.mocap_hw, first_id=identity)
            identity += sum(len(r["images"]) for r in mine)
