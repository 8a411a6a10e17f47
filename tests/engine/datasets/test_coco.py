"""COCO: what is kept, what is skipped and why, and what a broken layout says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.skeletons import COCO17

LABELLED = [v for i in range(17) for v in (10.5 + i, 20, (2, 1, 0)[i % 3])]


def _annotation(**fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "image_id": 9,
        "iscrowd": 0,
        "bbox": [5, 6, 40, 50],
        "keypoints": LABELLED,
        "num_keypoints": 12,
        "category_id": 1,
    } | fields


def _coco(root: Path, annotations: list[dict], images: list[dict] | None = None) -> list[RawItem | SkippedInstances]:
    images = images or [{"id": 9, "file_name": "000000000009.jpg", "width": 64, "height": 80}]
    (root / "annotations").mkdir(exist_ok=True)
    (root / "train2017").mkdir(exist_ok=True)
    (root / "annotations/person_keypoints_train2017.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return list(open_dataset(DatasetConfig(name="coco", root=str(root), split="train2017")).items())


def _reasons(found: list[RawItem | SkippedInstances]) -> Counter[str]:
    return Counter(item.reason for item in found if isinstance(item, SkippedInstances))


def test_an_instance_holds_coco_s_numbers(tmp_path: Path) -> None:
    (item,) = _coco(tmp_path, [_annotation(id=908, segmentation=[[1, 2, 3, 4]])])
    assert isinstance(item, RawItem)
    assert (item.key, item.image_path, item.width, item.height) == ("000000000009", "train2017/000000000009.jpg", 64, 80)
    assert item.image.path == tmp_path / "train2017/000000000009.jpg"
    (person,) = item.instances
    assert (person.annotation_id, person.bbox_xywh, person.skeleton) == ("908", (5, 6, 40, 50), "coco17")
    assert person.joints_img[COCO17.index("L_Wrist")] == (19.5, 20)
    assert person.joints_valid == tuple(i % 3 != 2 for i in range(17))
    assert person.smpl is person.joints_cam is person.camera is None


def test_what_is_skipped_is_counted_by_reason(tmp_path: Path) -> None:
    found = _coco(
        tmp_path,
        [
            _annotation(id=1),
            _annotation(id=2, iscrowd=1, segmentation={"counts": [1], "size": [80, 64]}),
            _annotation(id=3, num_keypoints=0, keypoints=[0] * 51),
            _annotation(id=4, bbox=[5, 6, 0, 50]),
            _annotation(id=5, bbox=[70, 6, 10, 10]),
            _annotation(id=6, image_id=77),
            _annotation(id=7, keypoints=[float("nan"), *LABELLED[1:]]),
        ],
    )
    assert _reasons(found) == {"crowd": 1, "no_keypoints": 1, "degenerate_box": 2, "unknown_image": 1, "invalid_annotation": 1}
    assert [len(item.instances) for item in found if isinstance(item, RawItem)] == [1]


def test_items_come_in_the_order_of_their_keys_whatever_the_file_s_order(tmp_path: Path) -> None:
    names = {3: "c.jpg", 1: "b.jpg", 2: "a b.jpg", 4: "x" * 120 + ".jpg"}
    images = [{"id": i, "file_name": n, "width": 64, "height": 80} for i, n in names.items()]
    found = _coco(tmp_path, [_annotation(id=i, image_id=i) for i in names], images)
    assert [item.key for item in found] == ["000000000002", "000000000004", "b", "c"]


def test_a_wrong_layout_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="annotation 1: expected 51 keypoint values, found 69"):
        _coco(tmp_path, [_annotation(keypoints=[0] * 69)])
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _coco(tmp_path, [_annotation()], [{"id": 9, "file_name": "../../etc/passwd", "width": 64, "height": 80}])
    with pytest.raises(RawDataError, match="'bbox'"):
        _coco(tmp_path, [{"id": 1, "image_id": 9, "keypoints": LABELLED}])
    (tmp_path / "annotations/person_keypoints_train2017.json").write_text('{"images": [')
    with pytest.raises(RawDataError, match="expected JSON"):
        list(open_dataset(DatasetConfig(name="coco", root=str(tmp_path), split="train2017")).items())


def test_a_wrong_path_says_which(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="nowhere is not a folder"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path / "nowhere"), split="train2017"))
    with pytest.raises(MissingInput, match=r"person_keypoints_val2017\.json does not exist"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path), split="val2017")).annotation_files()
    with pytest.raises(ConfigError, match="expected a folder"):
        open_dataset(DatasetConfig(name="coco", root="s3://bucket/coco", split="val2017"))


def test_real_coco(real_data: Path) -> None:
    found = list(open_dataset(DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017")).items())
    assert _reasons(found) == {"crowd": 5, "no_keypoints": 81}
    assert sum(len(item.instances) for item in found if isinstance(item, RawItem)) == 86
