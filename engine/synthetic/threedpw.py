"""The in-the-wild set with 3D truth, in 3DPW's raw layout: sequences of one or two persons in the street, a moving camera.

World: y up, metres; `cam_poses` take world to camera. Persons, clothes and place stay through a sequence; poses are drawn
anew for every frame, as if frames lay seconds apart, because a small set needs many poses more than it needs motion.
Genders are "n": the open body has one. Pickles are written as Python 2 wrote the real ones (protocol 2, byte strings).
"""

from __future__ import annotations

import codecs
import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import wild_place
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.images import write_jpeg
from engine.synthetic.outfits import casual_outfit
from engine.synthetic.render import render
from engine.synthetic.scene import OUTDOOR_POSES, Actor, Framing, Scene, choose_covers, choose_focal, choose_light, compose, strike_poses
from schemas.skeletons import COCO17, POSE2POSE33, SMPL24

SPLITS = ("train", "validation", "test")
FRAMING = Framing((0.5, 0.5), (150, 290), (5, 5, -5, 20), 0.06, 0.06, 0.0)
OPENPOSE18 = (
    "Nose",
    "Neck",
    "R_Shoulder",
    "R_Elbow",
    "R_Wrist",
    "L_Shoulder",
    "L_Elbow",
    "L_Wrist",
    "R_Hip",
    "R_Knee",
    "R_Ankle",
    "L_Hip",
    "L_Knee",
    "L_Ankle",
    "R_Eye",
    "L_Eye",
    "R_Ear",
    "L_Ear",
)
"""Order of the rows of `poses2d`."""
_POSE_LOST = 0.03
"""Chance that a person's camera pose is declared invalid in a frame."""


def sequences(config: SyntheticConfig) -> list[tuple[str, int, int]]:
    """Every sequence of the set: (split, number within the split, frames)."""
    found = []
    for split, images in zip(SPLITS, (config.itw3d_train_images, config.itw3d_validation_images, config.itw3d_test_images), strict=True):
        for number, first in enumerate(range(0, images, config.sequence_frames)):
            found.append((split, number, min(config.sequence_frames, images - first)))
    return found


def render_sequence(config: SyntheticConfig, mannequin: Mannequin, index: int, root: Path) -> dict[str, Any]:
    """Images and pickle of one sequence, written below `root`."""
    split, number, frames = sequences(config)[index]
    rng = np.random.default_rng([config.seed, 301, SPLITS.index(split), number])
    name = f"street_{split}_{number:02d}"
    hw = config.itw_hw[rng.integers(len(config.itw_hw))]
    focal, place, light, seat = choose_focal(rng, hw), wild_place(rng), choose_light(rng), rng.uniform(0.15, 0.8, 3)
    people = 1 + int(rng.choice(len(FRAMING.people), p=FRAMING.people))
    actors = tuple(Actor(casual_outfit(rng), np.clip(rng.normal(0, 1, 10), -2.5, 2.5)) for _ in range(people))
    exposure, walk, heading = rng.uniform(0.85, 1.15), rng.normal(0, 0.4, 2), rng.uniform(-np.pi, np.pi)
    shots = []
    for frame in range(frames):
        cast = strike_poses(rng, mannequin, actors, OUTDOOR_POSES)
        camera, transl_P3 = compose(rng, hw, focal, cast, FRAMING, heading + frame * rng.uniform(0, 0.12), walk * frame)
        covers = choose_covers(rng, camera, cast, transl_P3, FRAMING.covered)
        scene = Scene(hw, camera, place, light, cast, transl_P3, covers, rng.uniform(0.5, 3), rng.uniform(0, 0.6), exposure, seat)
        picture = render(scene, mannequin.atlas, rng)
        write_jpeg(root / "3dpw" / "imageFiles" / name / f"image_{frame:05d}.jpg", picture.image_HW3, config.jpeg_quality)
        shots.append((scene, [_detections(scene, p, rng) for p in range(people)], rng.random(people) >= _POSE_LOST))
    path = root / "3dpw" / "sequenceFiles" / split / f"{name}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(_contents(name, actors, shots)))
    return {"sequence": name, "images": frames}


def _contents(name: str, actors: tuple[Actor, ...], shots: list[tuple[Scene, list[np.ndarray], np.ndarray]]) -> dict[str, Any]:
    scenes = [scene for scene, _, _ in shots]
    persons = range(len(actors))
    cam_poses = np.tile(np.eye(4), (len(scenes), 1, 1))
    cam_poses[:, :3, :3] = [s.camera.rotation for s in scenes]
    cam_poses[:, :3, 3] = [s.camera.translation for s in scenes]
    first = scenes[0].camera
    return {
        "sequence": name,
        "genders": ["n" for _ in persons],
        "betas": [actors[p].betas_10.astype(np.float32).astype(np.float64) for p in persons],
        "poses": [np.stack([s.cast.pose_P72[p] for s in scenes]) for p in persons],
        "trans": [np.stack([s.transl_P3[p] for s in scenes]) for p in persons],
        "jointPositions": [np.stack([(s.cast.bodies.joints[SMPL24.name][p] + s.transl_P3[p]).ravel() for s in scenes]) for p in persons],
        "poses2d": [np.stack([found[p] for _, found, _ in shots]) for p in persons],
        "campose_valid": [np.array([float(valid[p]) for _, _, valid in shots]) for p in persons],
        "cam_poses": cam_poses,
        "cam_intrinsics": np.array([[first.focal[0], 0, first.princpt[0]], [0, first.focal[1], first.princpt[1]], [0, 0, 1]]),
        "img_frame_ids": np.arange(len(scenes)) * 2,
    }


def _detections(scene: Scene, p: int, rng: np.random.Generator) -> np.ndarray:
    """What a 2D detector might say: (3, 18) x, y, confidence; zeros outside the picture."""
    joints = {n: scene.cast.bodies.joints[POSE2POSE33.name][p][POSE2POSE33.index(n)] for n in OPENPOSE18}
    joints |= {n: scene.cast.bodies.joints[COCO17.name][p][i] for i, n in enumerate(COCO17.joints)}
    pixels = scene.camera.to_pixels(scene.camera.to_camera(np.stack([joints[n] for n in OPENPOSE18]) + scene.transl_P3[p]))
    pixels = pixels + rng.normal(0, 1, pixels.shape)
    inside = ((pixels >= 0) & (pixels <= np.array(scene.hw[::-1]) - 1)).all(1)
    return np.concatenate([pixels.T, rng.uniform(0.5, 0.95, (1, len(pixels)))]) * inside


class _Python2Pickler(pickle._Pickler):
    """Writes str and bytes as Python 2's str, which is what the real files hold."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def _save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        if not self.bin:
            self.write(pickle.STRING + b"'" + codecs.escape_encode(data)[0] + b"'\n")
        elif len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = _save_string
    dispatch[bytes] = _save_string


def python2_pickle(value: dict[str, Any], protocol: int = 2) -> bytes:
    """Bytes as Python 2 and numpy 1 wrote them: byte strings, and numpy's old module names. Protocol 0 was Python 2's default."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=protocol).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")
