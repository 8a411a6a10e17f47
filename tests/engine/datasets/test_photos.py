"""Your own photographs and videos: boxes in every form, orientations, names, and a detector in their stead."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable, VideoFrame
from engine.datasets.detectors import Detection
from engine.datasets.options import PhotosOptions
from engine.datasets.photos import Photos, key_of
from engine.datasets.registry import open_dataset
from engine.datasets.video import Video
from engine.errors import ConfigError, MissingInput, UnsafeInput
from engine.shards.images import ImageConfig, settle
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts.photos import pixels, write, write_boxes, write_video
from engine.synthetic.shots import make_shots
from schemas.skeletons import COCO17, LSP14
from tests.engine.datasets.round_trip import assert_round_trip


def _open(root: Path, split: str = "all", **options: Any) -> Photos:
    dataset = open_dataset(DatasetConfig(name="photos", root=str(root), split=split, photos=PhotosOptions(**options)))
    assert isinstance(dataset, Photos)
    return dataset


def _found(root: Path, split: str = "all", **options: Any) -> list[Found]:
    return list(_open(root, split, **options).items())


def _skipped(found: list[Found]) -> Counter[str]:
    return Counter(item.reason for item in found if isinstance(item, SkippedInstances))


def _unreadable(found: list[Found]) -> dict[str, str]:
    return {item.key: item.reason for item in found if isinstance(item, Unreadable)}


def _picture(path: Path, width: int = 60, height: int = 40, orientation: int | None = None, mark: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), 30, np.uint8)
    if mark:
        image[5:35, 10:20] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(image).save(path, quality=95, exif=exif)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    form=st.sampled_from(["coco", "short", "csv"]),
    skeleton=st.sampled_from([COCO17, LSP14]),
    keypoints=st.booleans(),
    ids=st.booleans(),
)
def test_every_form_comes_back(
    mannequin: Mannequin, tmp_path_factory: Any, seed: int, form: Any, skeleton: Any, keypoints: bool, ids: bool
) -> None:
    root = tmp_path_factory.mktemp("photos")
    shots = make_shots(mannequin, seed, 5, people=(1, 3), hw=(120, 160))
    truth = write(root, shots, form, skeleton, keypoints, ids)
    found = _found(root, boxes="boxes.csv" if form == "csv" else "boxes.json", skeleton=skeleton.name)
    assert_round_trip(found, truth, tolerance_px=1e-3)
    for item in found:
        assert isinstance(item, RawItem) and item.image.path.is_file() and (item.width, item.height) == (160, 120)
    assert len({item.key for item in found if isinstance(item, RawItem)}) == 5


def test_boxes_for_nothing_and_photographs_without_boxes_are_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", ".hidden.jpg", ".thumbs/c.jpg", "notes.txt.jpg"):
        _picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photograph")
    box = {"bbox": [5, 5, 20, 30]}
    people = {"a.jpg": [box, {"bbox": [70, 5, 20, 30]}, {"bbox": [5, 5, 0, 30]}], "gone.jpg": [box, box], "notes.txt": [box]}
    (tmp_path / "boxes.json").write_text(json.dumps(people))
    found = _found(tmp_path, boxes="boxes.json")
    assert _skipped(found) == {"degenerate_box": 2, "unknown_image": 3}
    assert _unreadable(found) == {"b": "no_boxes", key_of("notes.txt.jpg"): "no_boxes"}
    (item,) = [item for item in found if isinstance(item, RawItem)]
    assert (item.key, item.image_path, item.instances[0].annotation_id, item.instances[0].bbox_xywh) == ("a", "a.jpg", "0", (5, 5, 20, 30))
    assert item.instances[0].skeleton == "coco17" and not any(item.instances[0].joints_valid)


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_size_says_on_which_orientation_boxes_are(tmp_path: Path, orientation: int | None) -> None:
    _picture(tmp_path / "a.jpg", 60, 40, orientation)
    (tmp_path / "boxes.json").write_text('{"a.jpg": [{"bbox": [5, 5, 20, 30]}]}')
    sizes = {}
    for coordinates in ("upright", "stored"):
        (item,) = _found(tmp_path, boxes="boxes.json", coordinates=coordinates)
        assert isinstance(item, RawItem) and item.width and item.height
        settled = settle(item.image.path.read_bytes(), (item.width, item.height), ImageConfig(ambiguous_orientation=coordinates))
        sizes[coordinates] = settled.width, settled.height
        assert sizes[coordinates] == (item.width, item.height)
    assert sizes == {"upright": (40, 60) if orientation in (6, 8) else (60, 40), "stored": (60, 40)}


def test_a_size_in_the_file_goes_before_the_option(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg", 60, 40, 6)
    images, annotations = [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}], [{"image_id": 1, "bbox": [5, 5, 20, 30]}]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (item,) = _found(tmp_path, boxes="boxes.json")
    assert isinstance(item, RawItem) and (item.width, item.height) == (60, 40)


def test_a_split_is_a_folder(tmp_path: Path) -> None:
    for name in ("beach/a.jpg", "city/a.jpg"):
        _picture(tmp_path / name)
    (tmp_path / "boxes.json").write_text('{"beach/a.jpg": [{"bbox": [5, 5, 20, 30]}], "city/a.jpg": [{"bbox": [5, 5, 20, 30]}]}')
    found = _found(tmp_path, "city", boxes="boxes.json")
    assert [item.image_path for item in found if isinstance(item, RawItem)] == ["city/a.jpg"] and _skipped(found) == {"unknown_image": 1}
    with pytest.raises(MissingInput, match="forest does not exist"):
        _open(tmp_path, "forest", boxes="boxes.json")


def test_keys_do_not_depend_on_what_else_is_there() -> None:
    assert key_of("IMG_0001.jpg") == "IMG_0001" and key_of("IMG_0001.jpg", 7) == "IMG_0001_000007"
    names = ["a.jpeg", "a.png", "a.JPG", "x/a.jpg", "x_a.png", "ü.jpg", " .jpg", "x" * 200 + ".jpg", "a b.jpg", "a_b.png"]
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == len(keys) and all(len(key_of(name, 123456)) <= 90 for name in names)
    assert keys[0].startswith("a_") and keys == [key_of(name) for name in names]


def test_names_that_are_not_text_cost_themselves(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg")
    try:
        os.rename(tmp_path / "a.jpg", os.fsencode(tmp_path) + b"/\xff.jpg")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    _picture(tmp_path / "b.jpg")
    (tmp_path / "boxes.json").write_text('{"b.jpg": [{"bbox": [5, 5, 20, 30]}]}')
    found = _found(tmp_path, boxes="boxes.json")
    assert [type(item) for item in found] == [Unreadable, RawItem] and list(_unreadable(found).values()) == ["odd_name"]


def test_what_is_wrong_with_a_config_is_said(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    for options, error, message in (
        ({}, ConfigError, "one of the two"),
        ({"boxes": "b.json", "detector": "ssdlite"}, ConfigError, "one of the two"),
        ({"boxes": "b.json", "skeleton": "coco18"}, ConfigError, "expected one of pose2pose33"),
        ({"boxes": "../b.json"}, ConfigError, "below the root"),
        ({"boxes": "b.json", "split": "empty"}, MissingInput, "no photograph or video"),
    ):
        with pytest.raises(error, match=message):
            _open(tmp_path, **options)
    with pytest.raises(MissingInput, match=r"b\.json does not exist"):
        _open(tmp_path, boxes="b.json").annotation_files()
    (tmp_path / "boxes.json").write_text('{"../../etc/a.jpg": [{"bbox": [5, 5, 20, 30]}]}')
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _found(tmp_path, boxes="boxes.json")


def test_settings_change_with_the_photographs(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg")
    before = _open(tmp_path, detector="ssdlite").settings()
    assert before == _open(tmp_path, detector="ssdlite").settings()
    _picture(tmp_path / "b.jpg")
    assert before != _open(tmp_path, detector="ssdlite").settings()


def test_frames_of_videos_by_number(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 5, 6, people=(1, 1), hw=(96, 128))
    for suffix in ("mp4", "avi", "mov"):
        write_video(tmp_path / f"clips/c.{suffix}", [pixels(shot) for shot in shots])
    names = {f"clips/c.{suffix}#{n}": shots[n] for suffix in ("mp4", "avi", "mov") for n in (0, 2, 3)}
    truth = write_boxes(tmp_path, names, "short")
    assert_round_trip(_found(tmp_path, boxes="boxes.json"), truth)
    found = _found(tmp_path, boxes="boxes.json", video_stride=2)
    items = [item for item in found if isinstance(item, RawItem)]
    assert [item.image_path.rpartition("#")[2] for item in items] == ["0", "2"] * 3 and _skipped(found) == {"not_sampled": 3}
    for item in items:
        assert isinstance(item.image, VideoFrame) and item.key == key_of(item.image.path.relative_to(tmp_path).as_posix(), item.image.frame)
        with Video(item.image.path) as video:
            frame = video.frame(item.image.frame).astype(float)
        errors = [np.abs(frame - pixels(shot)).mean() for shot in shots]
        assert int(np.argmin(errors)) == item.image.frame


def find_marks(image_HW3: np.ndarray) -> list[Detection]:
    """A detector of what is bright; it fails over what is all black, and is unsure of the image itself."""
    bright = image_HW3.min(2) > 128
    if not image_HW3.any():
        raise ZeroDivisionError("nothing but black")
    if not bright.any():
        return []
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    keypoints = [(columns[0], rows[0], 0.9), *[(1, 1, 0.0)] * 16]
    return [Detection((0, 0, *image_HW3.shape[1::-1]), 0.2), Detection(box, 0.8, keypoints), Detection((float("nan"), 0, 1, 1), 0.9)]


def test_a_detector_takes_the_place_of_boxes(tmp_path: Path) -> None:
    _picture(tmp_path / "a.jpg", mark=True)
    _picture(tmp_path / "dark.jpg")
    _picture(tmp_path / "turned.jpg", orientation=6, mark=True)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    Image.new("RGB", (9, 9)).save(tmp_path / "black.jpg")
    frames = np.full((4, 40, 60, 3), 30, np.uint8)
    frames[2, 5:35, 10:20] = 255
    write_video(tmp_path / "clip.mp4", list(frames))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:200])
    found = _found(tmp_path, detector=f"{__name__}:find_marks", video_stride=2)
    items = {item.image_path: item for item in found if isinstance(item, RawItem)}
    assert sorted(items) == ["a.jpg", "clip.mp4#2", "turned.jpg"]
    assert _skipped(found) == {"invalid_annotation": 3}
    reasons = {"broken": "image_undecodable", "black": "detector_failed", "dark": "nobody_found"}
    assert _unreadable(found) == reasons | {key_of("cut.mp4"): "video_undecodable", key_of("clip.mp4", 0): "nobody_found"}
    for name, size, box in (
        ("a.jpg", (60, 40), (10, 5, 10, 30)),
        ("turned.jpg", (40, 60), (5, 10, 30, 10)),
        ("clip.mp4#2", (60, 40), (10, 5, 10, 30)),
    ):
        item, (person,) = items[name], items[name].instances
        assert (item.width, item.height) == size
        np.testing.assert_allclose(person.bbox_xywh, box, atol=1)
        assert person.annotation_id == "0" and person.joints_valid == (True, *[False] * 16)
        np.testing.assert_allclose(person.joints_img[0], box[:2], atol=1)
    settled = settle((tmp_path / "turned.jpg").read_bytes(), (40, 60), ImageConfig())
    assert np.asarray(Image.open(io.BytesIO(settled.data)))[10:20, 5:35].min() > 128


def test_pixels_as_stored_are_detected_as_stored(tmp_path: Path) -> None:
    _picture(tmp_path / "turned.jpg", orientation=6, mark=True)
    found = _found(tmp_path, detector=f"{__name__}:find_marks", coordinates="stored")
    (item,) = [item for item in found if isinstance(item, RawItem)]
    assert (item.width, item.height) == (60, 40)
    np.testing.assert_allclose(item.instances[0].bbox_xywh, (10, 5, 10, 30), atol=1)
