"""3DPW as downloaded: moving cameras, several persons a frame, genders, SMPL carried to the camera frame without a body model, damage."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from engine.body.smpl import BodyConfig, load_body
from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.pickles import read_pickle
from engine.datasets.registry import open_dataset
from engine.errors import MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import threedpw
from engine.synthetic.shots import make_shots
from engine.synthetic.threedpw import python2_pickle
from tests.engine.datasets.round_trip import assert_round_trip

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


def _items(root: Path, split: str = "test") -> list[Found]:
    return list(open_dataset(DatasetConfig(name="3dpw", root=str(root), split=split)).items())


def _edit(root: Path, change: Callable[[dict[str, Any]], None], name: str = "downtown_bar_00") -> None:
    """Change what a sequence file says; 64-bit floats stay as they are."""
    path = root / f"sequenceFiles/test/{name}.pkl"
    content = read_pickle(path)
    change(content)
    path.write_bytes(python2_pickle(content))


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
    (lost,) = _items(tmp_path)
    assert isinstance(lost, Unreadable) and (lost.reason, lost.instances) == ("image_missing", P * F)
    assert "none of the 3 images of sequence park_00" in lost.message


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999), views=st.integers(2, 3), split=st.sampled_from(["train", "validation", "test"]))
def test_what_is_written_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, views: int, split: str) -> None:
    root = tmp_path_factory.mktemp("3dpw")
    shots = make_shots(mannequin, seed, 2, people=(1, 2), views=views)
    lost = frozenset({(0, 0)})
    truth = threedpw.write_raw(root, shots, split, lost=lost)
    found = _items(root, split)
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {"invalid_camera": 2}
    items = [item for item in found if isinstance(item, RawItem)]
    assert_round_trip(items, truth)
    for item in items:
        sequence, frame = item.key.rsplit("_", 1)
        shot = shots[int(sequence[-2:]) * views + int(frame)]
        for person in item.instances:
            p = int(person.annotation_id.split("_")[-2])
            assert person.smpl.gender == ("female", "male")[p]
            posed = BODY(*(torch.tensor([v], dtype=torch.float32) for v in (person.smpl.pose, person.smpl.betas, person.smpl.transl)))
            np.testing.assert_allclose(posed.joints_B243[0], person.joints_cam, atol=1e-3)
            h36m = BODY.regress(posed.vertices_BV3, "h36m17")[0].numpy()
            np.testing.assert_allclose(h36m, shot.camera.to_camera(shot.persons[p].by_skeleton["h36m17"]), atol=1e-3)


class Run:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.system, (self._command,)


def test_a_damaged_sequence_costs_itself(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = threedpw.write_raw(tmp_path, make_shots(mannequin, 5, 7, people=(2, 2), views=2))
    folder, marker = tmp_path / "sequenceFiles/test", tmp_path / "ran"
    (folder / "downtown_bar_00.pkl").write_bytes(pickle.dumps({"sequence": "x", "poses": Run(f"touch {marker}")}, protocol=2))
    (folder / "downtown_bar_01.pkl").write_bytes((folder / "downtown_bar_01.pkl").read_bytes()[:5000])
    _edit(tmp_path, lambda c: c.pop("trans"), "downtown_bar_02")
    for image in (tmp_path / "imageFiles/downtown_bar_03").iterdir():
        image.unlink()
    _edit(tmp_path, lambda c: c["cam_intrinsics"].__imul__(2), "downtown_bar_04")
    (folder / "downtown_bar_05 copy.pkl").write_bytes((folder / "downtown_bar_05.pkl").read_bytes())
    (folder / "empty.pkl").write_bytes(b"")
    found = _items(tmp_path)
    unreadable = {item.key: item for item in found if isinstance(item, Unreadable)}
    assert {key.removeprefix("sequenceFiles_test_"): (u.reason, u.instances) for key, u in unreadable.items()} == {
        "downtown_bar_00": ("annotation_unsafe", 0),
        "downtown_bar_01": ("annotation_unreadable", 0),
        "downtown_bar_02": ("annotation_unreadable", 0),
        "downtown_bar_03": ("image_missing", 4),
        "downtown_bar_04": ("calibration_wrong", 4),
        "downtown_bar_05_copy": ("annotation_unreadable", 0),
        "empty": ("annotation_unreadable", 0),
    }
    for key, words in {
        "00": "posix.system",
        "01": "incomplete",
        "02": "'trans'",
        "04": "cam_intrinsics",
        "05_copy": "remove the copy",
    }.items():
        assert words in unreadable[f"sequenceFiles_test_downtown_bar_{key}"].message
    assert not marker.exists()
    good = [image for image in truth if image.image_path.split("/")[1][-2:] in ("05", "06")]
    assert_round_trip([item for item in found if isinstance(item, RawItem)], good)


def test_a_bad_frame_costs_the_person_alone(mannequin: Mannequin, tmp_path: Path) -> None:
    threedpw.write_raw(tmp_path, make_shots(mannequin, 6, 1, people=(2, 2), views=5))

    def spoil(content: dict[str, Any]) -> None:
        content["poses"][0][0, 3] = np.nan
        content["trans"][1][1] = np.inf
        content["cam_poses"][2, 0, 0] = np.nan
        content["cam_poses"][3, :3, :3] *= 1.5
        content["jointPositions"][0][4] += 30

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {"invalid_annotation": 5, "invalid_camera": 2}
    assert [p.annotation_id[-3:] for item in found if isinstance(item, RawItem) for p in item.instances] == ["1_0", "0_1", "1_4"]


def test_images_that_are_not_there_are_for_ingest_to_find(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = threedpw.write_raw(tmp_path, make_shots(mannequin, 7, 1, views=3))
    (tmp_path / truth[0].image_path).unlink()
    assert_round_trip(_items(tmp_path), truth)


@pytest.mark.parametrize(("scale", "seen"), [((0.5, 0.5), True), ((2.0, 2.0), True), ((2.2, 1.0), True), ((1.02, 1.0), False)], ids=str)
def test_a_wrong_calibration_is_seen_by_the_detections(
    mannequin: Mannequin, tmp_path: Path, scale: tuple[float, float], seen: bool
) -> None:
    threedpw.write_raw(tmp_path, make_shots(mannequin, 8, 1, people=(2, 2), views=4))

    def spoil(content: dict[str, Any]) -> None:
        content["cam_intrinsics"][[0, 1], [0, 1]] *= scale[0]
        content["cam_intrinsics"][:2, 2] *= scale[1]

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert [u.reason for u in found if isinstance(u, Unreadable)] == ["calibration_wrong"] * seen
    _edit(tmp_path, lambda content: content.pop("poses2d"))
    assert (scale[1] == 2.0) == any(isinstance(u, Unreadable) for u in _items(tmp_path))


@pytest.mark.parametrize("spelling", ["m", "male", "M", "f", "female", "n", "neutral"])
def test_genders_by_any_spelling(tmp_path: Path, spelling: str) -> None:
    _write(tmp_path, _sequence(genders=[spelling, "n"]))
    (gender,) = {
        p.smpl.gender for item in _items(tmp_path) if isinstance(item, RawItem) for p in item.instances if "_0_" in p.annotation_id
    }
    assert gender[0] == spelling.lower()[0] and len(gender) > 3
