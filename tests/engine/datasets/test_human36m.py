"""Human3.6M: cameras, millimetres, sampling, and fits that stand in the camera frame where they stood in the world."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.body.smpl import Body, BodyConfig, load_body
from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.options import FrameSplit, Human36mOptions
from engine.datasets.registry import open_dataset
from engine.datasets.smpl_fits import RestPelvis
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import human36m
from engine.synthetic.shots import make_shots
from schemas.skeletons import H36M17
from tests.engine.datasets.round_trip import assert_round_trip

RNG = np.random.default_rng(0)
R, T_MM = Rotation.from_rotvec([0.4, 2.2, -1.9]).as_matrix(), np.array([120.0, -300.0, 4800.0])
FOCAL, PRINCPT = np.array([1145.0, 1143.0]), np.array([512.5, 515.4])
JOINTS_MM = RNG.normal(0, 400, (17, 3))
FIT = {"pose": RNG.normal(0, 0.4, 72).tolist(), "shape": RNG.normal(0, 1, 10).tolist(), "trans": RNG.normal(0, 1, 3).tolist()}


@pytest.fixture(scope="module")
def open_body() -> Body:
    return load_body(BodyConfig())


def _write(
    root: Path, subject: int = 1, frames: tuple[int, ...] = (0, 3, 5), cameras: tuple[int, ...] = (1, 4), fits: Any = FIT, **extra: Any
) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    images, annotations = [], []
    for frame in frames:
        for cam in cameras:
            folder = f"s_{subject:02d}_act_02_subact_01_ca_{cam:02d}"
            number = len(images)
            image = {"id": number, "file_name": f"{folder}/{folder}_{frame + 1:06d}.jpg", "width": 1000, "height": 1002, "subject": subject}
            images.append(image | {"action_name": "Directions", "action_idx": 2, "subaction_idx": 1, "cam_idx": cam, "frame_idx": frame})
            annotations.append({"id": 100 + number, "image_id": number, "keypoints_vis": [1] * 17, "bbox": [300.0, 200.0, 300.0, 500.0]})
    camera = {"R": R.tolist(), "t": T_MM.tolist(), "f": FOCAL.tolist(), "c": PRINCPT.tolist()}
    content = {
        "data": {"images": images, "annotations": annotations},
        "camera": {str(c): camera for c in cameras},
        "joint_3d": {"2": {"1": {str(f): JOINTS_MM.tolist() for f in frames}}},
    } | extra
    if fits is not None:
        content["SMPL_NeuralAnnot"] = {"2": {"1": {"0": fits}}}
    for kind, value in content.items():
        (root / f"annotations/Human36M_subject{subject}_{kind}.json").write_text(json.dumps(value))


def _items(root: Path, split: str = "train", **options: Any) -> list[Found]:
    part = FrameSplit(subjects=(1,), every_nth=5, cameras=(1, 2, 3, 4))
    config = DatasetConfig(name="human36m", root=str(root), split=split, human36m=Human36mOptions(**({"train": part} | options)))
    return list(open_dataset(config).items())


def test_joints_go_to_the_camera_in_metres_and_to_the_image(tmp_path: Path) -> None:
    _write(tmp_path)
    item = _items(tmp_path)[0]
    assert isinstance(item, RawItem)
    assert (item.key, item.image_path) == (
        "s_01_act_02_subact_01_ca_01_000001",
        "images/s_01_act_02_subact_01_ca_01/s_01_act_02_subact_01_ca_01_000001.jpg",
    )
    (person,) = item.instances
    for joint, world_mm in enumerate(JOINTS_MM):
        x, y, z = R @ world_mm + T_MM
        np.testing.assert_allclose(person.joints_cam[joint], [x / 1000, y / 1000, z / 1000], atol=2e-6)
        np.testing.assert_allclose(person.joints_img[joint], [FOCAL[0] * x / z + PRINCPT[0], FOCAL[1] * y / z + PRINCPT[1]], atol=1e-4)
    assert (person.skeleton, person.bbox_xywh, person.annotation_id) == ("h36m17", (300, 200, 300, 500), "100")


def test_a_fit_s_mesh_is_where_the_rotated_world_mesh_is(tmp_path: Path, open_body: Body) -> None:
    _write(tmp_path)
    smpl = _items(tmp_path)[0].instances[0].smpl

    def vertices(pose: Any, betas: Any, transl: Any) -> np.ndarray:
        return open_body(*(torch.tensor([v], dtype=torch.float32) for v in (pose, betas, transl))).vertices_BV3[0].numpy()

    world = vertices(FIT["pose"], FIT["shape"], FIT["trans"])
    camera = vertices(smpl.pose, smpl.betas, smpl.transl)
    np.testing.assert_allclose(camera, world @ R.T + T_MM / 1000, atol=1e-5)
    assert (smpl.gender, smpl.pose_valid, smpl.betas_valid) == ("neutral", True, True)


def test_rest_pelvis_is_affine_in_betas(open_body: Body) -> None:
    betas = RNG.normal(0, 2, (5, 10))
    direct = open_body(torch.zeros(5, 72), torch.tensor(betas, dtype=torch.float32)).joints_B243[:, 0]
    np.testing.assert_allclose(RestPelvis(open_body)(betas), direct, atol=1e-6)


def test_frames_cameras_and_subjects_follow_the_config(tmp_path: Path) -> None:
    _write(tmp_path)
    found = _items(tmp_path)
    assert [item.key[-13:] for item in found if isinstance(item, RawItem)] == [
        "_ca_01_000001",
        "_ca_01_000006",
        "_ca_04_000001",
        "_ca_04_000006",
    ]
    assert [item for item in found if isinstance(item, SkippedInstances)] == [SkippedInstances("not_sampled", 2)]
    part = FrameSplit(subjects=(1,), every_nth=1, cameras=(4,))
    found = _items(tmp_path, train=part, excluded=("s_01_act_02_subact_01_ca_04",))
    assert found == [SkippedInstances("excluded", 3), SkippedInstances("not_sampled", 3)]
    with pytest.raises(MissingInput, match=r"subject9_data\.json"):
        _items(tmp_path, split="test")
    with pytest.raises(ConfigError, match="split 'val'"):
        _items(tmp_path, split="val")


@pytest.mark.parametrize("fits", [None, FIT | {"trans": [float("nan")] * 3}])
def test_a_missing_or_broken_fit_leaves_the_joints(tmp_path: Path, fits: Any) -> None:
    _write(tmp_path, fits=fits)
    (person,) = _items(tmp_path)[0].instances
    assert person.smpl is None
    assert person.joints_cam is not None


def test_one_person_behind_the_camera_is_skipped(tmp_path: Path) -> None:
    camera = {"R": R.tolist(), "t": [0, 0, -4800.0], "f": FOCAL.tolist(), "c": PRINCPT.tolist()}
    _write(tmp_path, frames=(0,), cameras=(1,), camera={"1": camera})
    assert _items(tmp_path) == [SkippedInstances("behind_camera")]


@pytest.mark.parametrize(
    "joints", [{"2": {}}, {"2": {"1": {"0": [[0, 0]] * 17}}}, {"2": {"1": {"0": [[0.0, 0, 0]] * 16 + [[0, 0, float("nan")]]}}}]
)
def test_an_instant_without_sound_joints_costs_its_persons(tmp_path: Path, joints: dict[str, Any]) -> None:
    _write(tmp_path, frames=(0,), joint_3d=joints)
    assert _items(tmp_path) == [SkippedInstances("invalid_annotation", 2)]


def _edit(root: Path, kind: str, change: Callable[[Any], None], subject: int = 1) -> None:
    path = root / f"annotations/Human36M_subject{subject}_{kind}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_odd_records_cost_their_own_persons(tmp_path: Path) -> None:
    _write(tmp_path, frames=(0, 5, 10, 15, 20), cameras=(1,))

    def spoil(data: dict[str, Any]) -> None:
        images, annotations = data["images"], data["annotations"]
        annotations[0]["bbox"] = [1, 2, 3]
        annotations[1]["bbox"][0] = float("nan")
        del images[2]["frame_idx"]
        annotations[3]["image_id"] = 77
        annotations.append({"id": 9, "image_id": "many", "bbox": None})

    _edit(tmp_path, "data", spoil)
    found = _items(tmp_path)
    assert [type(item) for item in found] == [RawItem, SkippedInstances, SkippedInstances]
    assert found[1:] == [SkippedInstances("invalid_annotation", 4), SkippedInstances("unknown_image", 1)]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), views=st.integers(2, 4), place=st.booleans(), order=st.booleans())
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, views: int, place: bool, order: bool
) -> None:
    root = tmp_path_factory.mktemp("h36m")
    truth = human36m.write(root, make_shots(mannequin, seed, 4, people=(1, 1), views=views), camera_place=place, annotations_first=order)
    assert_round_trip(_items(root), truth)


def test_fits_pose_the_body_in_the_pictures(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 1, 2, people=(1, 1), views=4)
    human36m.write(tmp_path, shots)
    found = {item.image_path: item.instances[0] for item in _items(tmp_path) if isinstance(item, RawItem)}
    assert len(found) == len(shots)
    for shot in shots:
        folder = f"s_01_act_02_subact_01_ca_{shot.view + 1:02d}"
        smpl = found[f"images/{folder}/{folder}_{shot.instant * 5 + 1:06d}.jpg"].smpl
        pose, betas = (torch.tensor([v], dtype=torch.float32) for v in (smpl.pose, smpl.betas))
        joints = mannequin.body.joints(pose, betas, skeleton="h36m17")[0].numpy() + smpl.transl
        np.testing.assert_allclose(joints, shot.joints_cam(0, H36M17.joints), atol=5e-4)


def test_a_wrong_camera_costs_its_own_persons(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = human36m.write(tmp_path, make_shots(mannequin, 2, 10, people=(1, 1), views=4))

    def spoil(cameras: dict[str, Any]) -> None:
        cameras["2"] = cameras["3"] | {"f": cameras["2"]["f"]}
        cameras["4"]["R"][0] = [0, 0, 0]

    _edit(tmp_path, "camera", spoil)
    found = _items(tmp_path)
    wrong = [item for item in found if isinstance(item, Unreadable)]
    assert [(item.key, item.reason, item.instances) for item in wrong] == [
        ("subject1_camera_2", "calibration_wrong", 10),
        ("subject1_camera_4", "calibration_wrong", 10),
    ]
    assert "0% under R x + t and 0% under R (x - t)" in wrong[0].message and "not a rotation" in wrong[1].message
    kept = [image for image in truth if "ca_01" in image.image_path or "ca_03" in image.image_path]
    assert_round_trip((item for item in found if isinstance(item, RawItem)), kept)


@pytest.mark.parametrize("kind", ["data", "camera", "joint_3d", "SMPL_NeuralAnnot"])
def test_a_truncated_file_costs_its_subject(mannequin: Mannequin, tmp_path: Path, kind: str) -> None:
    shots = make_shots(mannequin, 3, 1, people=(1, 1), views=2)
    truth = human36m.write(tmp_path, shots) + human36m.write(tmp_path, shots, subject=5)
    path = tmp_path / f"annotations/Human36M_subject5_{kind}.json"
    path.write_bytes(path.read_bytes()[:-40])
    both = FrameSplit(subjects=(1, 5), every_nth=5, cameras=(1, 2))
    *found, last = _items(tmp_path, train=both)
    assert_round_trip(found, truth[:2])
    assert (last.key, last.reason) == ("subject5", "annotation_unreadable") and path.name in last.message
    with pytest.raises(RawDataError, match=path.name):
        _items(tmp_path, train=FrameSplit(subjects=(5,), every_nth=5, cameras=(1, 2)))


def test_joints_in_metres_and_images_outside_the_root_are_refused(mannequin: Mannequin, tmp_path: Path) -> None:
    human36m.write(tmp_path, make_shots(mannequin, 4, 1, people=(1, 1), views=2))
    _edit(tmp_path, "data", lambda data: data["images"][0].update(file_name="../../s.jpg"))
    with pytest.raises(UnsafeInput, match=r"\.\./\.\./s\.jpg"):
        _items(tmp_path)
    _edit(tmp_path, "joint_3d", lambda joints: joints["2"]["1"].update({"0": (np.array(joints["2"]["1"]["0"]) / 1000).tolist()}))
    with pytest.raises(RawDataError, match=r"found 0\.00\d+ m; the unit of its joints is another than millimetres"):
        _items(tmp_path)


def test_settings_name_the_body_and_only_the_split_in_use(tmp_path: Path, open_body: Body) -> None:
    chosen = open_dataset(DatasetConfig(name="human36m", root=str(tmp_path), split="test")).settings()
    assert chosen["body"] == open_body.digest
    assert (chosen["subjects"], chosen["every_nth"], chosen["cameras"]) == ([9, 11], 64, [4])
