"""3DPW's two layouts: pickles as Python 2 wrote them, and the JSON of the authors' converters in both of its versions.

An instant is a sequence and its views are the frames: persons stand still, the camera moves. Write shots of one picture size a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from engine.synthetic.shots import Shot, TrueImage, TruePerson
from engine.synthetic.threedpw import OPENPOSE18, python2_pickle
from schemas.skeletons import SMPL24

GENDERS = ("f", "m")
NEUTRAL_ROOT_M = np.array([0.004, -0.011, 0.006])
"""From the gendered body's rest pelvis to the neutral one's, which the converters took for it."""


def write_raw(root: Path, shots: list[Shot], split: str = "test", *, lost: frozenset[tuple[int, int]] = frozenset()) -> list[TrueImage]:
    """`sequenceFiles/<split>/*.pkl` and `imageFiles/`; the camera of (frame, person) in `lost` was not aligned in any sequence."""
    truth = []
    for name, frames in _sequences(shots):
        persons = range(len(frames[0].persons))
        cam_poses = np.tile(np.eye(4), (len(frames), 1, 1))
        cam_poses[:, :3, :3] = [shot.camera.rotation for shot in frames]
        cam_poses[:, :3, 3] = [shot.camera.translation for shot in frames]
        (fx, fy), (cx, cy) = frames[0].camera.focal, frames[0].camera.princpt
        people = frames[0].persons
        content = {
            "sequence": name,
            "betas": [np.pad(people[p].betas_10, (0, 290 * (p % 2))) for p in persons],
            "poses": [np.stack([shot.persons[p].pose_72 for shot in frames]) for p in persons],
            "trans": [np.stack([shot.persons[p].transl_3 for shot in frames]) for p in persons],
            "poses_60Hz": [np.repeat(np.stack([shot.persons[p].pose_72 for shot in frames]), 2, axis=0) for p in persons],
            "trans_60Hz": [np.repeat(np.stack([shot.persons[p].transl_3 for shot in frames]), 2, axis=0) for p in persons],
            "betas_clothed": [people[p].betas_10 for p in persons],
            "genders": [GENDERS[p % 2] for p in persons],
            "poses2d": [np.stack([_openpose(shot, p).T for shot in frames]) for p in persons],
            "jointPositions": [np.stack([shot.persons[p].by_skeleton[SMPL24.name].ravel() for shot in frames]) for p in persons],
            "img_frame_ids": np.arange(len(frames)) * 2,
            "cam_poses": cam_poses,
            "campose_valid": [np.array([int((f, p) not in lost) for f in range(len(frames))]) for p in persons],
            "cam_intrinsics": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        }
        path = root / "sequenceFiles" / split / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(python2_pickle(content))
        truth += _images(root, name, frames, lost)
    return truth


def write_json(
    root: Path, shots: list[Shot], split: str = "test", *, extrinsics: bool = True, in_world: bool = False, name: str = "3DPW_{}.json"
) -> list[TrueImage]:
    """The converted file and `imageFiles/`. `extrinsics`: cameras have R and t; `in_world`: and what they still have to be applied to."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    truth = []
    for sequence, frames in _sequences(shots):
        for index, shot in enumerate(frames):
            camera = {"focal": shot.camera.focal.tolist(), "princpt": shot.camera.princpt.tolist()}
            if extrinsics:
                camera |= {"R": shot.camera.rotation.tolist(), "t": shot.camera.translation.tolist()}
            images.append(
                {
                    "id": len(images),
                    "file_name": f"image_{index:05d}.jpg",
                    "sequence": sequence,
                    "frame_idx": index,
                    "width": shot.hw[1],
                    "height": shot.hw[0],
                    "cam_param": camera,
                }
            )
            for p in range(len(shot.persons)):
                if _inside(shot, p).any():
                    annotations.append({"id": len(annotations), "image_id": images[-1]["id"], "person_id": p, **_person(shot, p, in_world)})
        truth += _images(root, sequence, frames, frozenset())
    (root / name.format(split)).write_text(json.dumps({"images": images, "annotations": annotations}))
    return truth


def _sequences(shots: list[Shot]) -> Iterator[tuple[str, list[Shot]]]:
    for instant, frames in groupby(shots, key=lambda shot: shot.instant):
        yield f"downtown_bar_{instant:02d}", list(frames)


def _joints(shot: Shot, p: int) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's own joints in the camera frame and in pixels."""
    cam_J3 = shot.camera.to_camera(shot.persons[p].by_skeleton[SMPL24.name])
    return cam_J3, shot.camera.to_pixels(cam_J3)


def _inside(shot: Shot, p: int) -> np.ndarray:
    cam_J3, image_J2 = _joints(shot, p)
    return (cam_J3[:, 2] > 0) & (image_J2 >= 0).all(1) & (image_J2 < shot.hw[::-1]).all(1)


def _person(shot: Shot, p: int, in_world: bool) -> dict[str, Any]:
    person, (cam_J3, image_J2) = shot.persons[p], _joints(shot, p)
    pose, _ = person.smpl_in_camera(shot.camera)
    neutral, R, t = person.root_3 + NEUTRAL_ROOT_M, shot.camera.rotation, shot.camera.translation
    trans = R @ person.transl_3 + t - neutral + R @ neutral
    joints = cam_J3
    if in_world:
        joints, pose, trans = person.by_skeleton[SMPL24.name], person.pose_72, person.transl_3
    inside = image_J2[_inside(shot, p)]
    low, high = inside.min(0), inside.max(0)
    return {
        "joint_cam": joints.tolist(),
        "joint_img": image_J2.tolist(),
        "fitted_joint_cam": (joints - joints[0] + neutral + trans).tolist(),
        "openpose_result": _openpose(shot, p).tolist(),
        "smpl_param": {
            "shape": person.betas_10.astype(np.float32).tolist(),
            "pose": pose.astype(np.float32).tolist(),
            "trans": trans.tolist(),
            "gender": "female" if GENDERS[p % 2] == "f" else "male",
        },
        "bbox": np.concatenate([(low + high) / 2 - (high - low) * 0.6, (high - low) * 1.2]).astype(np.float32).tolist(),
    }


def _openpose(shot: Shot, p: int) -> np.ndarray:
    """Detections (18, 3) x, y, confidence; zeros where there are fewer than six."""
    inside = shot.inside(p, OPENPOSE18)
    found = np.concatenate([shot.joints_img(p, OPENPOSE18), np.full((len(OPENPOSE18), 1), 0.8)], axis=1) * inside[:, None]
    return found if inside.sum() >= 6 else np.zeros_like(found)


def _images(root: Path, name: str, frames: list[Shot], lost: frozenset[tuple[int, int]]) -> list[TrueImage]:
    folder = root / "imageFiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    truth = []
    for index, shot in enumerate(frames):
        (folder / f"image_{index:05d}.jpg").write_bytes(shot.jpeg)
        persons = []
        for p in range(len(shot.persons)):
            if (index, p) in lost or not (inside := _inside(shot, p)).any():
                continue
            cam_J3, image_J2 = _joints(shot, p)
            names = SMPL24.joints
            persons.append(
                TruePerson(
                    f"{name}_{p}_{index}",
                    {joint: image_J2[i] for i, joint in enumerate(names) if inside[i]},
                    dict(zip(names, cam_J3, strict=True)),
                    frozenset(joint for i, joint in enumerate(names) if not inside[i]),
                )
            )
        truth.append(TrueImage(f"imageFiles/{name}/image_{index:05d}.jpg", tuple(persons)))
    return truth
