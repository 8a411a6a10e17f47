"""3DPW: moving cameras, several persons a frame, genders, and SMPL carried to the camera frame without a body model."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from engine.body.smpl import BodyConfig, load_body
from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import MissingInput, RawDataError, UnsafeInput

BODY = load_body(BodyConfig())
F, P, W, H = 3, 2, 108, 192
K = np.array([[180.0, 0, 54.5], [0, 182.0, 95.5], [0, 0, 1]])


def _sequence(**changes: Any) -> dict[str, Any]:
    """Two persons 4 m in front of a camera that turns and moves; world y is up."""
    rng = np.random.default_rng(1)
    poses, betas = rng.normal(0, 0.2, (P, F, 72)), rng.normal(0, 1, (P, 10))
    cam_poses = np.tile(np.eye(4), (F, 1, 1))
    for frame in range(F):
        cam_poses[frame, :3, :3] = (Rotation.from_euler("x", np.pi) * Rotation.from_rotvec([0.02 * frame, 0.05, 0])).as_matrix()
        cam_poses[frame, :3, 3] = [0.05 * frame, -0.1, 4]
    trans = rng.normal(0, 0.2, (P, F, 3))
    joints = [
        BODY(*(torch.tensor(a, dtype=torch.float32) for a in (poses[p], np.tile(betas[p], (F, 1)), trans[p])))
        .joints_B243.numpy()
        .reshape(F, 72)
        for p in range(P)
    ]
    return {
        "sequence": "park_00",
        "betas": [np.pad(b, (0, 290)) for b in betas],
        "poses": list(poses),
        "trans": list(trans),
        "jointPositions": joints,
        "genders": ["m", "n"],
        "campose_valid": [np.array([1, 1, 0]), np.ones(F, int)],
        "cam_poses": cam_poses,
        "cam_intrinsics": K,
        "poses2d": [np.zeros((F, 3, 18))] * P,
        "img_frame_ids": np.arange(F),
    } | changes


def _write(root: Path, content: dict[str, Any]) -> None:
    (root / "sequenceFiles/test").mkdir(parents=True, exist_ok=True)
    (root / "imageFiles/park_00").mkdir(parents=True, exist_ok=True)
    (root / "sequenceFiles/test/park_00.pkl").write_bytes(pickle.dumps(content, protocol=2))
    Image.new("RGB", (W, H)).save(root / "imageFiles/park_00/image_00001.jpg")


def _items(root: Path) -> list[RawItem | SkippedInstances]:
    return list(open_dataset(DatasetConfig(name="3dpw", root=str(root), split="test")).items())


def test_frames_hold_their_persons(tmp_path: Path) -> None:
    _write(tmp_path, _sequence())
    found = _items(tmp_path)
    items = [item for item in found if isinstance(item, RawItem)]
    assert [item.key for item in items] == ["park_00_00000", "park_00_00001", "park_00_00002"]
    assert items[0].image_path == "imageFiles/park_00/image_00000.jpg"
    assert [[p.annotation_id for p in item.instances] for item in items] == [
        ["park_00_0_0", "park_00_1_0"],
        ["park_00_0_1", "park_00_1_1"],
        ["park_00_1_2"],
    ]
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {"invalid_camera": 1}
    assert {(item.width, item.height) for item in items} == {(W, H)}


def test_numbers_against_the_camera_of_each_frame(tmp_path: Path) -> None:
    sequence = _sequence()
    _write(tmp_path, sequence)
    for frame, item in enumerate(i for i in _items(tmp_path) if isinstance(i, RawItem)):
        for person in item.instances:
            p = int(person.annotation_id.split("_")[2])
            extrinsics = sequence["cam_poses"][frame]
            world = np.c_[sequence["jointPositions"][p][frame].reshape(24, 3), np.ones(24)]
            camera = (extrinsics @ world.T).T[:, :3]
            pixels = (K @ camera.T).T
            np.testing.assert_allclose(person.joints_cam, camera, atol=2e-6)
            np.testing.assert_allclose(person.joints_img, pixels[:, :2] / pixels[:, 2:], atol=1e-5)
            assert (person.camera.focal, person.camera.princpt) == ((180.0, 182.0), (54.5, 95.5))
            x, y = np.array(person.joints_img)[list(person.joints_valid)].T
            np.testing.assert_allclose(person.bbox_xywh[2:], [1.2 * np.ptp(x), 1.2 * np.ptp(y)], atol=1e-5)
            np.testing.assert_allclose(person.bbox_xywh[0] + person.bbox_xywh[2] / 2, (x.min() + x.max()) / 2, atol=1e-5)
            smpl = person.smpl
            joints = BODY(*(torch.tensor([v], dtype=torch.float32) for v in (smpl.pose, smpl.betas, smpl.transl))).joints_B243[0]
            np.testing.assert_allclose(joints, camera, atol=1e-5)
            assert (smpl.gender, smpl.pose_valid, smpl.betas_valid) == (("male", "neutral")[p], True, True)
            np.testing.assert_allclose(smpl.betas, sequence["betas"][p][:10], atol=1e-6)


def test_joints_outside_the_image_or_behind_the_camera_are_not_valid(tmp_path: Path) -> None:
    sequence = _sequence()
    sequence["cam_poses"][:, :3, 3] = [0.6, 0.2, 2.0]
    sequence["cam_poses"][1, :3, 3] = [0, 0, -2]
    sequence["cam_poses"][2, :3, 3] = [20, 0, 4]
    _write(tmp_path, sequence)
    found = _items(tmp_path)
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {"outside_image": 3, "invalid_camera": 1}
    (item,) = (i for i in found if isinstance(i, RawItem))
    for person in item.instances:
        assert 0 < sum(person.joints_valid) < 24
        for (x, y), (_, _, z), valid in zip(person.joints_img, person.joints_cam, person.joints_valid, strict=True):
            assert valid == (z > 0 and 0 <= x < W and 0 <= y < H)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="imageFiles does not exist"):
        _items(tmp_path)
    (tmp_path / "imageFiles").mkdir()
    with pytest.raises(MissingInput, match="sequenceFiles/test does not exist"):
        _items(tmp_path)
    _write(tmp_path, _sequence(genders=["m", "x"]))
    with pytest.raises(RawDataError, match=r"park_00.pkl.*'x'"):
        _items(tmp_path)
    _write(tmp_path, _sequence(trans=[np.full((F, 3), 9.0)] * P))
    with pytest.raises(RawDataError, match="different bodies"):
        _items(tmp_path)
    _write(tmp_path, _sequence(sequence="../../etc"))
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _items(tmp_path)
    _write(tmp_path, _sequence())
    (tmp_path / "imageFiles/park_00/image_00001.jpg").write_bytes(b"")
    with pytest.raises(MissingInput, match="none of the 3 images of sequence park_00"):
        _items(tmp_path)
