"""InstaVariety: tracks of the published form and its variants against their truth, and what damage costs."""

from __future__ import annotations

import io
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.datasets.base import DatasetConfig, Found, ImageSlice, RawItem, SkippedInstances, Unreadable
from engine.datasets.instavariety import InstaVariety
from engine.datasets.options import InstaVarietyOptions
from engine.datasets.registry import open_dataset
from engine.datasets.tfrecord import Example, records
from engine.errors import MissingInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts.instavariety import TrackFiles, write
from engine.synthetic.layouts.tfrecord import encode_example, write_records
from engine.synthetic.shots import make_shots
from schemas.skeletons import INSTAVARIETY25
from tests.engine.datasets.round_trip import assert_round_trip

JOINTS = INSTAVARIETY25.joints


def _found(root: Path, split: str = "train", every_nth: int = 1) -> list[Found]:
    options = InstaVarietyOptions(every_nth=every_nth)
    return list(open_dataset(DatasetConfig(name="instavariety", root=str(root), split=split, instavariety=options)).items())


def _skipped(found: list[Found]) -> Counter[str]:
    total: Counter[str] = Counter()
    for item in found:
        if isinstance(item, SkippedInstances):
            total[item.reason] += item.instances
    return total


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 50),
    layout=st.builds(
        TrackFiles,
        files=st.integers(1, 2),
        tracks=st.integers(1, 3),
        frames=st.integers(1, 5),
        phis=st.booleans(),
        toes=st.booleans(),
        face=st.booleans(),
        time_pts=st.booleans(),
    ),
)
def test_tracks_come_back_as_they_were_written(mannequin: Mannequin, tmp_path_factory: Any, seed: int, layout: TrackFiles) -> None:
    root = tmp_path_factory.mktemp("insta")
    shots = make_shots(mannequin, seed, 3, people=(1, 1), hw=(224, 224) if layout.phis else (300, 280))
    truth = write(root, shots, layout=layout)
    found = _found(root)
    assert_round_trip(found, truth)
    items = [item for item in found if isinstance(item, RawItem)]
    assert len({item.key for item in items}) == len(items) == layout.files * layout.tracks * layout.frames
    for number, item in enumerate(items):
        assert isinstance(item.image, ImageSlice)
        with open(item.image.path, "rb") as file:
            file.seek(item.image.offset)
            assert file.read(item.image.size) == shots[number % 3].jpeg
        assert (item.height, item.width) == shots[0].hw


def test_a_box_is_the_visible_joints_times_1_2_within_the_crop(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 3, 1, people=(1, 1), hw=(224, 224))
    write(tmp_path, shots, layout=TrackFiles(tracks=1, frames=1))
    (item,) = _found(tmp_path)
    assert isinstance(item, RawItem)
    pixels = shots[0].joints_img(0, JOINTS)[shots[0].inside(0, JOINTS)]
    size = np.ptp(pixels, axis=0)
    left, top = np.maximum(pixels.min(0) - 0.1 * size, 0)
    right, bottom = np.minimum(pixels.max(0) + 0.1 * size, 224)
    np.testing.assert_allclose(item.instances[0].bbox_xywh, (left, top, right - left, bottom - top), atol=1e-4)


def test_keys_image_paths_and_every_nth_frame(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 1, 2, people=(1, 1), hw=(224, 224))
    write(tmp_path, shots, split="test", layout=TrackFiles(files=1, tracks=2, frames=5))
    found = _found(tmp_path, "test", every_nth=2)
    items = [item for item in found if isinstance(item, RawItem)]
    name = "insta_variety_00_copy00_hmr_noS5"
    assert [item.key for item in items] == [f"{name}_ckpt-642561_{t}_{f}" for t in (0, 1) for f in (0, 2, 4)]
    assert items[4].image_path == f"test/{name}.ckpt-642561.tfrecord#1/2"
    assert items[4].instances[0].annotation_id == items[4].key
    assert _skipped(found) == {"not_sampled": 4}


def test_the_published_folder_a_bare_folder_and_none(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 1, 1, people=(1, 1), hw=(224, 224))
    write(tmp_path / "a", shots, split="insta_variety/train")
    write(tmp_path / "b", shots, split=".")
    assert len(_found(tmp_path / "a")) == len(_found(tmp_path / "b")) == 10
    (tmp_path / "c").mkdir()
    with pytest.raises(MissingInput, match=r"no \*\.tfrecord in .*c/train"):
        _found(tmp_path / "c")


def test_the_keys_types_and_shapes_are_the_published_ones(mannequin: Mannequin, tmp_path: Path) -> None:
    write(tmp_path, make_shots(mannequin, 1, 2, people=(1, 1), hw=(224, 224)), layout=TrackFiles(tracks=1, frames=4))
    (path,) = InstaVariety(DatasetConfig(name="instavariety", root=str(tmp_path), split="train")).annotation_files()
    (record,) = records(path)
    example = Example(record.payload)
    shapes = {
        "image/xys": (4, 2, 14),
        "image/face_pts": (4, 3, 5),
        "image/toe_pts": (4, 3, 6),
        "image/phis": (4, 2048),
        "image/cams": (4, 3),
    }
    shapes |= {"image/scale_factors": (4, 2), "mosh/shape": (10,), "mosh/poses": (4, 72), "mosh/gt3ds": (4, 14, 3)}
    for name, shape in shapes.items():
        assert np.abs(example.floats(name, shape)[:1]).max() <= 1.5, name
    for name in ("image/heightwidths", "image/centers", "image/crop_pts"):
        example.ints(name, (4, 2))
    assert example.ints("image/visibilities", (4, 1, 14)).all()
    assert [int(example.ints(f"meta/{name}", (1,))[0]) for name in ("N", "has_3d", "has_3d_joints")] == [4, 0, 0]
    assert len(example.spans("image/filenames")) == 11 and len(example.spans("image/encoded")) == 4
    assert (example.floats("mosh/poses", (4, 72)) == -1).all()


def _jpeg(width: int = 120, height: int = 100) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "JPEG")
    return out.getvalue()


def _track(frames: int = 1, **changes: Any) -> bytes:
    """A track in pixels whose joint j of every frame is at (20 + j, 10 + 2 j)."""
    place = np.arange(25)
    labels = np.tile(np.stack([20.0 + place, 10 + 2 * place, place * 0 + 1]), (frames, 1, 1))
    features: dict[str, Any] = {
        "meta/N": np.array([frames]),
        "image/encoded": [_jpeg()] * frames,
        "image/xys": labels[:, :2, :14],
        "image/visibilities": labels[:, 2, :14].astype(int),
        "image/face_pts": labels[..., 14:19],
        "image/toe_pts": labels[..., 19:],
    } | changes
    return encode_example({name: value for name, value in features.items() if value is not None})


def _of(root: Path, *tracks: bytes) -> list[Found]:
    write_records(root / "train/a.tfrecord", tracks)
    return _found(root)


def test_joints_are_mapped_by_name_and_invisible_ones_hold_nothing(tmp_path: Path) -> None:
    visible = np.ones((1, 14), int)
    visible[0, 3] = 0
    face = np.array([[[1.0] * 5, [2.0] * 5, [0, 0, 1, 0, 0.4]]])
    (item,) = _of(tmp_path, _track(**{"image/visibilities": visible, "image/face_pts": face, "image/toe_pts": None}))
    assert isinstance(item, RawItem)
    person = dict(zip(JOINTS, zip(item.instances[0].joints_img, item.instances[0].joints_valid, strict=True), strict=True))
    assert person["R_Heel"] == ((20, 10), True) and person["R_Hip"] == ((22, 14), True) and person["L_Hip"] == ((0, 0), False)
    assert person["L_Heel"] == ((25, 20), True) and person["L_Wrist"] == ((31, 32), True) and person["Neck"] == ((32, 34), True)
    assert person["L_Eye"] == ((0, 0), False) and person["R_Eye"] == ((1, 2), True) and person["R_Ear"] == ((1, 2), True)
    assert not any(person[name][1] for name in ("L_Big_toe", "R_Big_toe", "L_Small_toe", "R_Small_toe", "L_Ankle", "R_Ankle"))


def test_normalised_coordinates_go_by_the_stored_jpeg(tmp_path: Path) -> None:
    xy = np.zeros((1, 2, 14))
    xy[0, :, 1] = 0.5, -0.5
    xy[0, :, 2] = 1.2, 0
    changes = {"image/xys": xy, "image/phis": np.zeros((1, 2048)), "image/face_pts": None, "image/toe_pts": None}
    (item,) = _of(tmp_path, _track(**changes))
    assert isinstance(item, RawItem) and (item.width, item.height) == (120, 100)
    person = item.instances[0]
    assert person.joints_img[JOINTS.index("R_Heel")] == (60, 50)
    assert person.joints_img[JOINTS.index("R_Knee")] == (90, 25)
    assert not person.joints_valid[JOINTS.index("R_Hip")]


def test_a_frame_that_cannot_be_used_costs_itself(tmp_path: Path) -> None:
    xy, seen = np.tile(30.0 + np.arange(14), (6, 2, 1)), np.ones((6, 14), int)
    xy[1, 0, 2] = np.nan
    seen[2] = 0
    xy[3] += 500
    seen[4] = [1] + [0] * 13
    changes = {"image/xys": xy, "image/visibilities": seen, "image/face_pts": None, "image/toe_pts": None}
    found = _of(tmp_path, _track(6, **changes, **{"image/encoded": [_jpeg()] * 5 + [b"no image"]}))
    assert _skipped(found) == {"invalid_annotation": 1, "no_keypoints": 1, "outside_image": 1, "degenerate_box": 1}
    (item,) = [f for f in found if isinstance(f, RawItem)]
    (lost,) = [f for f in found if isinstance(f, Unreadable)]
    assert item.key == "a_0_0"
    assert (lost.key, lost.reason, lost.instances) == (
        "a_0_5",
        "image_undecodable",
        1,
    ) and "a.tfrecord#0/5: expected a JPEG" in lost.message


@pytest.mark.parametrize(
    ("changes", "frames", "message"),
    [
        ({"meta/N": None}, 0, "meta/N: expected a list of int64, found none"),
        ({"meta/N": np.array([1.0])}, 0, "meta/N: expected a list of int64, found float"),
        ({"meta/N": np.array([0])}, 0, "expected 1 to 10000 frames, found 0"),
        ({"meta/N": np.array([2**40])}, 0, "found 1099511627776"),
        ({"image/xys": np.zeros((1, 2, 13))}, 1, "image/xys: expected 28 floats, found 26"),
        ({"image/toe_pts": np.zeros((1, 3, 5))}, 1, "image/toe_pts: expected 18 floats, found 15"),
        ({"image/encoded": None}, 1, "image/encoded: expected a list of bytes, found none"),
        ({"image/encoded": [_jpeg()] * 2}, 1, "expected 1 byte strings, found 2"),
        (
            {"image/phis": np.zeros((1, 2048))},
            1,
            r"expected coordinates in \[-1, 1\], as image/phis are there, found a median magnitude of 3",
        ),
        ({"image/xys": np.zeros((1, 2, 14)), "image/face_pts": None, "image/toe_pts": None}, 1, "in pixels, as image/phis are not there"),
    ],
)
def test_a_track_that_cannot_be_read_costs_itself(tmp_path: Path, changes: dict, frames: int, message: str) -> None:
    found = _of(tmp_path, _track(), _track(**changes), _track())
    assert [f.key for f in found if isinstance(f, RawItem)] == ["a_0_0", "a_2_0"]
    (lost,) = [f for f in found if isinstance(f, Unreadable)]
    assert (lost.key, lost.reason, lost.instances) == ("a_1", "annotation_unreadable", frames)
    assert re.search(message, lost.message), lost.message


def test_damaged_files_cost_what_is_behind_the_damage(tmp_path: Path) -> None:
    files = {name: tmp_path / f"train/{name}.tfrecord" for name in ("bytes", "cut", "empty", "length", "sound")}
    write_records(files["sound"], [_track(), _track(), _track()])
    whole = files["sound"].read_bytes()
    second = (len(whole) // 3) + 100
    files["bytes"].write_bytes(whole[:second] + bytes([whole[second] ^ 1]) + whole[second + 1 :])
    files["cut"].write_bytes(whole[:second])
    files["empty"].write_bytes(b"")
    files["length"].write_bytes(b"\xff" * 8 + whole[8:])
    found = _found(tmp_path)
    assert Counter(f.key.split("_")[0] for f in found if isinstance(f, RawItem)) == {"sound": 3, "bytes": 2, "cut": 1}
    lost = {f.key: f.message for f in found if isinstance(f, Unreadable)}
    assert sorted(lost) == ["bytes_1", "cut", "empty", "length"]
    assert (
        "checksum" in lost["bytes_1"] and "ends before" in lost["cut"] and "no bytes" in lost["empty"] and "no TFRecord" in lost["length"]
    )


def test_names_that_would_not_be_unique_keys_are_numbered(tmp_path: Path) -> None:
    write_records(tmp_path / "train/a.b.tfrecord", [_track()])
    for name in ("a_b", "c", "x" * 80):
        shutil.copy(tmp_path / "train/a.b.tfrecord", tmp_path / f"train/{name}.tfrecord")
    found = _found(tmp_path)
    assert [item.key for item in found if isinstance(item, RawItem)] == ["file-00000_0_0", "file-00001_0_0", "c_0_0", "file-00003_0_0"]
