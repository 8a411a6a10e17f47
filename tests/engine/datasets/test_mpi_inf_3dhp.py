"""MPI-INF-3DHP: the authors' JSON files, sequences as downloaded, and the test set; what is damaged or wrong costs itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, Found, ImageFile, RawItem, SkippedInstances, Unreadable, VideoFrame
from engine.datasets.matlab import read_mat
from engine.datasets.mpi_inf_3dhp_raw import JOINTS28, _mi17_rows
from engine.datasets.mpi_inf_3dhp_testset import solve_camera
from engine.datasets.options import FrameSplit, Mpi3dhpOptions
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import mpi_inf_3dhp as layout
from engine.synthetic.layouts.matlab import write_mat
from engine.synthetic.shots import Shot, make_shots
from schemas.skeletons import H36M17, MI17
from tests.engine.datasets.round_trip import assert_round_trip

PUBLISHED_17 = (8, 6, 15, 16, 17, 10, 11, 12, 24, 25, 26, 19, 20, 21, 5, 4, 7)
"""The 28 -> 17 selection as it is published, from 1."""


def _items(
    root: Path, split: str = "train", *, subjects: tuple[int, ...] = (1,), every_nth: int = 1, test: tuple[int, ...] = (1,)
) -> list[Found]:
    part = FrameSplit(subjects=subjects, every_nth=every_nth, cameras=(0, 1, 2))
    options = Mpi3dhpOptions(train=part, test=test)
    return list(open_dataset(DatasetConfig(name="mpi_inf_3dhp", root=str(root), split=split, mpi_inf_3dhp=options)).items())


def _of(found: list[Found], kind: type) -> list[Any]:
    return [item for item in found if isinstance(item, kind)]


def _skipped(found: list[Found]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in _of(found, SkippedInstances):
        counts[item.reason] = counts.get(item.reason, 0) + item.instances
    return counts


@pytest.fixture(scope="module")
def shots(mannequin: Mannequin) -> list[Shot]:
    return make_shots(mannequin, 7, 4, people=(1, 1), views=3)


def _two_sequences(root: Path, shots: list[Shot], **variant: Any) -> list:
    return layout.write_raw(root, shots, **variant) + layout.write_raw(root, shots, sequence=2, **variant)


def test_28_joints_become_17_by_name() -> None:
    assert [row + 1 for row in _mi17_rows()] == list(PUBLISHED_17)
    assert JOINTS28[4] == "pelvis" and len(set(JOINTS28)) == 28


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 999))
def test_what_is_written_as_json_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    root = tmp_path_factory.mktemp("mi")
    written = make_shots(mannequin, seed, 3, people=(1, 1), views=3)
    truth = layout.write_json(root, written)
    found = _items(root, every_nth=3)
    assert_round_trip(found, truth)
    assert sorted(item.key for item in _of(found, RawItem)) == sorted(
        f"S1_Seq1_video_{camera}_F{frame:06d}" for camera in (0, 1, 2) for frame in (0, 3, 6)
    )
    shot, item = written[4], found[4]
    assert item.instances[0].smpl is not None
    smpl = next(i for i in found if i.key == f"S1_Seq1_video_{layout.CAMERAS[shot.view]}_F{shot.instant * 3:06d}").instances[0].smpl
    pose, betas = (torch.tensor([v], dtype=torch.float32) for v in (smpl.pose, smpl.betas))
    joints = mannequin.body.joints(pose, betas, skeleton="h36m17")[0].numpy() + smpl.transl
    np.testing.assert_allclose(joints, shot.joints_cam(0, H36M17.joints), atol=5e-4)


def test_json_is_sampled_by_its_frame_numbers_and_fits_may_be_missing(shots: list[Shot], tmp_path: Path) -> None:
    truth = layout.write_json(tmp_path, shots, step=2, fits=False)
    found = _items(tmp_path, every_nth=3)  # of the frames 0, 2, 4 and 6
    assert_round_trip(_of(found, RawItem), [image for image in truth if image.image_path[-5] in "06"])
    assert _skipped(found) == {"not_sampled": 6}
    assert all(item.instances[0].smpl is None for item in _of(found, RawItem))
    (tmp_path / "MPI-INF-3DHP_joint_3d.json").write_text('{"1": {"1": {"0": [[1')
    with pytest.raises(RawDataError, match=r"joint_3d\.json"):
        _items(tmp_path)


@pytest.mark.parametrize("frames", ["imageFrames", "folders", "flat", "hybrik"])
@pytest.mark.parametrize("first_number", [0, 1])
def test_unpacked_frames_are_found_under_their_names(shots: list[Shot], tmp_path: Path, frames: str, first_number: int) -> None:
    truth = _two_sequences(tmp_path, shots, frames=frames, first_number=first_number)
    found = _items(tmp_path)
    assert_round_trip(_of(found, RawItem), truth)
    for item in _of(found, RawItem):
        assert isinstance(item.image, ImageFile) and item.image.path == tmp_path / item.image_path and item.image.path.is_file()
        assert (item.width, item.height) == (320, 320)
    assert _skipped(found) == {"not_sampled": 2 * 4 * 11}  # the cameras nobody asked for


def test_frames_unpacked_in_part_count_from_1(shots: list[Shot], tmp_path: Path) -> None:
    _two_sequences(tmp_path, shots, frames="imageFrames")
    for number in (1, 3, 4):
        (tmp_path / f"S1/Seq2/imageFrames/video_1/frame_{number:06d}.jpg").unlink()
    found = {item.key: item.image_path for item in _of(_items(tmp_path), RawItem)}
    assert found["S1_Seq2_video_1_F000000"] == "S1/Seq2/imageFrames/video_1/frame_000001.jpg"
    assert found["S1_Seq2_video_1_F000001"] == "S1/Seq2/imageFrames/video_1/frame_000002.jpg"


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_frames_of_videos_show_what_is_annotated(shots: list[Shot], tmp_path: Path, version: str) -> None:
    truth = _two_sequences(tmp_path, shots, frames="videos", version=version)
    found = _of(_items(tmp_path, every_nth=2), RawItem)
    assert_round_trip(found, [image for image in truth if int(image.image_path[-1]) % 2 == 0])
    item = next(item for item in found if item.key == "S1_Seq2_video_2_F000002")
    assert item.image == VideoFrame(tmp_path / "S1/Seq2/imageSequence/video_2.avi", 2)
    with av.open(str(item.image.path)) as video:
        decoded = [frame.to_ndarray(format="bgr24").astype(float) for frame in video.decode(video=0)]
    (shot,) = (s for s in shots if (layout.CAMERAS[s.view], s.instant) == (2, 2))
    picture = cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR).astype(float)
    assert np.argmin([np.abs(frame - picture).mean() for frame in decoded]) == 2


def test_boxes_are_those_of_the_joints_inside_the_image(shots: list[Shot], tmp_path: Path) -> None:
    _two_sequences(tmp_path, shots)
    content = read_mat(tmp_path / "S1/Seq1/annot.mat")
    # Camera 1's people move to the right, so that joints leave a picture of 320 px.
    joints, pixels = content["annot3"][1, 0], content["annot2"][1, 0]
    pixels[:, 0::2] += 160
    joints[:, 0::3] += 160 / shots[1].camera.focal[0] * joints[:, 2::3]
    write_mat(tmp_path / "S1/Seq1/annot.mat", content)
    partly = 0
    for item in _of(_items(tmp_path), RawItem):
        (person,) = item.instances
        places = np.array(person.joints_img)
        inside = places[((places >= 0) & (places < 320)).all(1)]
        partly += len(inside) < len(places)
        x, y, w, h = person.bbox_xywh
        np.testing.assert_allclose([x + w / 2, y + h / 2], (inside.min(0) + inside.max(0)) / 2, atol=1e-4)
        np.testing.assert_allclose([w, h], np.ptp(inside, axis=0) * 1.2, atol=1e-4)
        assert all(person.joints_valid)
    assert partly
    pixels[:, 0::2] += 1000
    joints[:, 0::3] += 1000 / shots[1].camera.focal[0] * joints[:, 2::3]
    write_mat(tmp_path / "S1/Seq1/annot.mat", content)
    assert _skipped(_items(tmp_path))["outside_image"] == 4


def _respoil(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "S1/Seq1/annot.mat"
    content = read_mat(path)
    change(content)
    write_mat(path, content)


def test_a_frame_with_nan_costs_itself_and_a_camera_of_another_shape_costs_itself(shots: list[Shot], tmp_path: Path) -> None:
    _two_sequences(tmp_path, shots)

    def spoil(content: dict[str, Any]) -> None:
        content["annot3"][0, 0][1, 3 * JOINTS28.index("pelvis")] = np.nan
        content["annot3"][0, 0][2, 3 * JOINTS28.index("left_clavicle")] = np.nan  # not one of the 17
        content["annot2"][1, 0] = content["annot2"][1, 0][:, :54]
        content["annot3"][2, 0] = content["annot3"][2, 0][:3]

    _respoil(tmp_path, spoil)
    found = _items(tmp_path)
    assert _skipped(found)["invalid_annotation"] == 1
    assert [(item.key, item.reason, item.instances) for item in _of(found, Unreadable)] == [
        ("S1_Seq1_video_1", "annotation_unreadable", 4),
        ("S1_Seq1_video_2", "annotation_unreadable", 4),
    ]
    assert len(_of(found, RawItem)) == 3 + 12


def test_a_wrong_calibration_costs_its_cameras(shots: list[Shot], tmp_path: Path) -> None:
    truth = _two_sequences(tmp_path, shots)
    path = tmp_path / "S1/Seq1/camera.calibration"
    lines = path.read_text().splitlines()
    lines[lines.index("name          1") + 4] = "  intrinsic   900 0 160 0 0 900 160 0 0 0 1 0 0 0 0 1"
    lines[lines.index("name          2") + 5] = "  extrinsic   nan"
    path.write_text("\n".join(lines))
    found = _items(tmp_path)
    wrong = _of(found, Unreadable)
    assert [(item.key, item.reason, item.instances) for item in wrong] == [
        ("S1_Seq1_video_1", "calibration_wrong", 4),
        ("S1_Seq1_video_2", "calibration_wrong", 4),
    ]
    assert "expected annot3 to project onto annot2" in wrong[0].message
    assert_round_trip(_of(found, RawItem), [i for i in truth if "Seq2" in i.image_path or "video_0" in i.image_path])
    path.unlink()
    assert {(item.reason, item.instances) for item in _of(_items(tmp_path), Unreadable)} == {("calibration_missing", 4)}


def test_other_units_are_named(shots: list[Shot], tmp_path: Path) -> None:
    _two_sequences(tmp_path, shots)
    _respoil(tmp_path, lambda content: content["annot3"].__setitem__((0, 0), content["annot3"][0, 0] / 1000))
    (wrong,) = _of(_items(tmp_path), Unreadable)
    assert "another than millimetres" in wrong.message and wrong.key == "S1_Seq1_video_0"


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "other"])
def test_a_damaged_file_costs_its_sequence(shots: list[Shot], tmp_path: Path, damage: str) -> None:
    truth = _two_sequences(tmp_path, shots)
    path = tmp_path / "S1/Seq2/annot.mat"
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "text": b"not a mat", "pickle": b"\x80\x02cos\nsystem\n.", "other": b""}[damage])
    *found, last = _items(tmp_path)
    assert_round_trip(_of(found, RawItem), [image for image in truth if "Seq1" in image.image_path])
    assert (last.key, last.reason) == ("S1_Seq2_annot", "annotation_unreadable") and str(path) in last.message


def test_what_is_absent_is_named(shots: list[Shot], tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"neither MPI-INF-3DHP_1k\.json .* nor S1/Seq1/annot\.mat"):
        _items(tmp_path)
    layout.write_raw(tmp_path, shots)
    with pytest.raises(MissingInput, match=r"S1/Seq2/annot\.mat"):
        _items(tmp_path)
    with pytest.raises(MissingInput, match=r"TS1/annot_data\.mat"):
        _items(tmp_path, "test")
    with pytest.raises(ConfigError, match="split 'val'"):
        _items(tmp_path, "val")


def test_files_and_settings_of_each_layout(shots: list[Shot], tmp_path: Path) -> None:
    options = Mpi3dhpOptions(train=FrameSplit(subjects=(1,), every_nth=3, cameras=(0, 1)), test=(1,))
    _two_sequences(tmp_path, shots)
    layout.write_test(tmp_path, shots[::3])

    def dataset(split: str) -> Any:
        return open_dataset(DatasetConfig(name="mpi_inf_3dhp", root=str(tmp_path), split=split, mpi_inf_3dhp=options))

    names = [path.relative_to(tmp_path).as_posix() for path in dataset("train").annotation_files()]
    assert names == ["S1/Seq1/annot.mat", "S1/Seq2/annot.mat", "S1/Seq1/camera.calibration", "S1/Seq2/camera.calibration"]
    assert dataset("train").settings() == {"subjects": [1], "every_nth": 3, "cameras": [0, 1], "layout": "raw"}
    assert [path.name for path in dataset("test").annotation_files()] == ["annot_data.mat"]
    assert dataset("test").settings() == {"sequences": [1]}
    layout.write_json(tmp_path, shots)
    assert len(dataset("train").annotation_files()) == 4 and dataset("train").settings()["layout"] == "json"


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(1, 4), folder=st.booleans())
def test_the_test_set_and_its_solved_camera(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, frames: int, folder: bool
) -> None:
    root = tmp_path_factory.mktemp("ts")
    written = make_shots(mannequin, seed, frames, people=(1, 1), views=2)[::2]
    invalid = (frames - 1,) if frames > 1 else ()
    truth = layout.write_test(root, written, invalid=invalid)
    if not folder:
        root = root / "mpi_inf_3dhp_test_set"
        truth = [type(image)(image.image_path.split("/", 1)[1], image.persons) for image in truth]
    found = _items(root, "test")
    assert_round_trip(_of(found, RawItem), truth)
    assert _skipped(found) == ({"invalid_frame": 1} if invalid else {})
    for number, item in enumerate(_of(found, RawItem)):
        (person,) = item.instances
        np.testing.assert_allclose(person.camera.focal, written[0].camera.focal, rtol=1e-5)
        np.testing.assert_allclose(person.camera.princpt, written[0].camera.princpt, atol=1e-2)
        univ = np.array([joint for joint in person.joints_univ])
        np.testing.assert_allclose(univ, written[number].joints_cam(0, MI17.joints) * layout.UNIVERSAL, atol=2e-6)
        assert (item.key, item.width) == (f"TS1_F{number + 1:06d}", None) and item.image.path.is_file()


def test_a_few_wrong_frames_do_not_move_the_camera() -> None:
    rng = np.random.default_rng(0)
    cam_NJ3 = rng.normal((0, 0, 4), 0.6, (60, 17, 3))
    image_NJ2 = cam_NJ3[..., :2] / cam_NJ3[..., 2:] * (1500, 1490) + (1020, 1050) + rng.normal(0, 1, (60, 17, 2))
    image_NJ2[:3] += 400
    camera, off_px = solve_camera(image_NJ2, cam_NJ3)
    np.testing.assert_allclose(camera.focal + camera.princpt, (1500, 1490, 1020, 1050), atol=3)
    assert off_px < 2
    cam_NJ3[5, 3, 2], image_NJ2[6, 2] = 1e-320, 1e300
    camera, off_px = solve_camera(image_NJ2, cam_NJ3)
    np.testing.assert_allclose(camera.focal + camera.princpt, (1500, 1490, 1020, 1050), atol=3)
    assert off_px < 2


def test_a_test_sequence_that_is_damaged_or_does_not_agree_costs_itself(shots: list[Shot], tmp_path: Path) -> None:
    truth = layout.write_test(tmp_path, shots[::3], sequence=1)
    for number in (2, 3, 4):
        layout.write_test(tmp_path, shots[::3], sequence=number)
    folder = tmp_path / "mpi_inf_3dhp_test_set"
    damaged, disagrees, nan = (folder / f"TS{n}/annot_data.mat" for n in (2, 3, 4))
    damaged.write_bytes(damaged.read_bytes()[:3000])
    content = read_mat(disagrees)
    write_mat(disagrees, content | {"annot2": content["annot2"][:, ::-1]}, "7.3")
    content = read_mat(nan)
    content["univ_annot3"][0, 0, 0, 1] = np.nan
    write_mat(nan, content, "7.3")
    found = _items(tmp_path, "test", test=(1, 2, 3, 4))
    assert_round_trip([item for item in _of(found, RawItem) if item.key.startswith("TS1")], truth)
    assert [(item.key, item.reason, item.instances) for item in _of(found, Unreadable)] == [
        ("mpi_inf_3dhp_test_set_TS2_annot_data", "annotation_unreadable", 0),
        ("mpi_inf_3dhp_test_set_TS3", "calibration_wrong", 4),
    ]
    assert _skipped(found) == {"invalid_annotation": 1} and len(_of(found, RawItem)) == 4 + 3
    shutil.rmtree(folder / "TS3")
    with pytest.raises(RawDataError, match="TS2"):
        _items(tmp_path, "test", test=(2,))


def test_odd_records_of_the_json_layout_cost_themselves(shots: list[Shot], tmp_path: Path) -> None:
    layout.write_json(tmp_path, shots)
    path = tmp_path / "MPI-INF-3DHP_joint_3d.json"
    joints = json.loads(path.read_text())
    joints["1"]["1"]["3"][16][2] = float("nan")
    path.write_text(json.dumps(joints))
    found = _items(tmp_path, every_nth=3)
    assert _skipped(found) == {"invalid_annotation": 3} and len(_of(found, RawItem)) == 9
