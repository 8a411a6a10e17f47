"""COCO: what is kept, what is skipped and why, COCO-WholeBody, and what a broken layout says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.options import CocoOptions
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import coco
from engine.synthetic.shots import make_shots
from schemas.skeletons import COCO17, COCO_WHOLEBODY32
from tests.engine.datasets.round_trip import assert_round_trip

LABELLED = [v for i in range(17) for v in (10.5 + i, 20, (2, 1, 0)[i % 3])]
WHOLEBODY = CocoOptions(annotations="wholebody")


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


def _without(name: str) -> dict[str, Any]:
    return {field: value for field, value in _annotation().items() if field != name}


def _coco(root: Path, annotations: list[Any], images: list[Any] | None = None) -> list[RawItem | SkippedInstances]:
    images = images or [{"id": 9, "file_name": "000000000009.jpg", "width": 64, "height": 80}]
    (root / "annotations").mkdir(exist_ok=True)
    (root / "train2017").mkdir(exist_ok=True)
    (root / "annotations/person_keypoints_train2017.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return _items(root)


def _items(root: Path, split: str = "train2017", options: CocoOptions | None = None) -> list[RawItem | SkippedInstances]:
    return list(open_dataset(DatasetConfig(name="coco", root=str(root), split=split, coco=options or CocoOptions())).items())


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
            _annotation(id=8, category_id=18),
        ],
    )
    assert _reasons(found) == {"crowd": 1, "no_keypoints": 1, "degenerate_box": 2, "unknown_image": 1, "other_category": 1}
    assert [len(item.instances) for item in found if isinstance(item, RawItem)] == [1]


@pytest.mark.parametrize(
    "odd",
    [
        [1, 2, 3],
        "person",
        None,
        _without("keypoints"),
        _without("bbox"),
        _without("id"),
        _without("image_id"),
        _annotation(image_id=[9]),
        _annotation(id=[1]),
        _annotation(keypoints=[0] * 69),
        _annotation(keypoints="0" * 51),
        _annotation(keypoints=None),
        _annotation(keypoints={str(i): i for i in range(51)}),
        _annotation(keypoints=[float("nan"), *LABELLED[1:]]),
        _annotation(keypoints=[1.0, 2.0, float("nan"), *LABELLED[3:]]),
        _annotation(keypoints=[10**400, *LABELLED[1:]]),
        _annotation(keypoints=[1.0, 2.0, 10**400, *LABELLED[3:]]),
        _annotation(bbox=[float("inf"), 6, 40, 50]),
        _annotation(bbox=[5, 6, 40]),
        _annotation(bbox=[5, 6, 40, "50"]),
        _annotation(bbox={"x": 5}),
    ],
    ids=repr,
)
def test_a_person_with_an_odd_field_costs_only_itself(tmp_path: Path, odd: Any) -> None:
    skipped, kept = _coco(tmp_path, [odd, _annotation(id=2)])
    assert skipped == SkippedInstances("invalid_annotation")
    assert isinstance(kept, RawItem) and kept.instances[0].annotation_id == "2"


def test_an_odd_image_costs_its_persons_and_an_unknown_size_nothing(tmp_path: Path) -> None:
    images = [
        7,
        {"id": [2], "file_name": "c.jpg"},
        {"id": 3, "width": 64, "height": 80},
        {"id": 4, "file_name": "d.jpg", "width": "64", "height": -1},
        {"id": 5, "file_name": "e.jpg", "width": 64, "height": 80},
        {"id": 5, "file_name": "f.jpg", "width": 64, "height": 80},
    ]
    found = _coco(tmp_path, [_annotation(id=i, image_id=i) for i in range(2, 6)], images)
    assert _reasons(found) == {"unknown_image": 2}
    kept = [item for item in found if isinstance(item, RawItem)]
    assert [(item.key, item.width, item.height) for item in kept] == [("d", None, None), ("e", 64, 80)]


def test_a_name_that_can_be_no_key_is_replaced_by_the_image_s_id(tmp_path: Path) -> None:
    names = {3: "c.jpg", 1: "sub/b.jpg", 2: "a b.jpg", 4: "x" * 120 + ".jpg"}
    images = [{"id": i, "file_name": n, "width": 64, "height": 80} for i, n in names.items()]
    found = _coco(tmp_path, [_annotation(id=i, image_id=i) for i in names], images)
    assert [item.key for item in found] == ["c", "b", "000000000002", "000000000004"]


def test_a_wrong_layout_says_what_is_wrong(tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "a/../../b.jpg", "a\0.jpg"):
        with pytest.raises(UnsafeInput, match="outside the dataset's root"):
            _coco(tmp_path, [_annotation()], [{"id": 9, "file_name": name, "width": 64, "height": 80}])
    _coco(tmp_path, [_annotation()])
    path = tmp_path / "annotations/person_keypoints_train2017.json"
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        whole[:-1],
        b'{"images": [',
        b"",
        b"[]",
        b'{"images": []}',
        b'{"images": {}, "annotations": []}',
    ):
        path.write_bytes(damaged)
        with pytest.raises(RawDataError, match="person_keypoints_train2017"):
            _items(tmp_path)


def test_a_wrong_path_says_which(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="nowhere is not a folder"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path / "nowhere"), split="train2017"))
    with pytest.raises(MissingInput, match=r"person_keypoints_val2017\.json does not exist"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path), split="val2017")).annotation_files()
    with pytest.raises(ConfigError, match="expected a folder"):
        open_dataset(DatasetConfig(name="coco", root="s3://bucket/coco", split="val2017"))
    with pytest.raises(ConfigError, match=r"train2017, val2017, not 'train2014'"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path), split="train2014", coco=WHOLEBODY))


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 999), year=st.sampled_from([2014, 2017]), annotations_first=st.booleans(), folder=st.sampled_from(["", "images/"])
)
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, year: int, annotations_first: bool, folder: str
) -> None:
    root = tmp_path_factory.mktemp("coco")
    shots = make_shots(mannequin, seed, 3, people=(1, 3))
    truth = coco.write(root, shots, year=year, annotations_first=annotations_first, folder=folder)
    found = _items(root, f"train{year}")
    # Whole pixels are up to half a pixel off.
    assert_round_trip([item for item in found if isinstance(item, RawItem)], truth, tolerance_px=0.5 + 1e-6)
    assert sum(len(item.instances) if isinstance(item, RawItem) else item.instances for item in found) == sum(len(s.persons) for s in shots)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), annotations_first=st.booleans())
def test_feet_and_fingers_of_the_whole_body_are_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, annotations_first: bool
) -> None:
    root = tmp_path_factory.mktemp("wholebody")
    shots = make_shots(mannequin, seed, 3, people=(1, 2))
    truth = coco.write(root, shots, wholebody=True, annotations_first=annotations_first)
    found = [item for item in _items(root, options=WHOLEBODY) if isinstance(item, RawItem)]
    assert {item.instances[0].skeleton for item in found} == {COCO_WHOLEBODY32.name}
    assert all(person.joints_img.keys() | person.absent == set(COCO_WHOLEBODY32.joints) for image in truth for person in image.persons)
    assert_round_trip(found, truth, tolerance_px=0.5 + 1e-6)


def test_the_option_chooses_between_files_that_are_both_there(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 1, 1)
    coco.write(tmp_path, shots)
    coco.write(tmp_path, shots, wholebody=True)
    plain, whole = (
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path), split="train2017", coco=o)) for o in (CocoOptions(), WHOLEBODY)
    )
    assert [next(d.items()).instances[0].skeleton for d in (plain, whole)] == ["coco17", "coco_wholebody32"]
    assert (plain.settings(), whole.settings()) == ({}, {"annotations": "wholebody"})


def test_the_pelvis_is_valid_only_between_two_labelled_hips(mannequin: Mannequin, tmp_path: Path) -> None:
    coco.write(tmp_path, make_shots(mannequin, 2, 1, people=(1, 1)), wholebody=True)
    path = tmp_path / "annotations/coco_wholebody_train_v1.0.json"
    content = json.loads(path.read_text())
    keypoints = content["annotations"][0]["keypoints"]
    left, right = 3 * 11, 3 * 12
    keypoints[left : left + 3], keypoints[right : right + 3] = [100, 50, 2], [110, 70, 1]
    pelvis = COCO_WHOLEBODY32.index("Pelvis")
    for label, expected in ((1, (True, (105, 60))), (0, (False, (0, 0)))):
        keypoints[right + 2] = label
        path.write_text(json.dumps(content))
        (person,) = _items(tmp_path, options=WHOLEBODY)[0].instances
        assert (person.joints_valid[pelvis], person.joints_img[pelvis]) == expected


def test_real_coco(real_data: Path) -> None:
    root = real_data / "coco2017"
    found = _items(root)
    raw = json.loads((root / "annotations/person_keypoints_train2017.json").read_text())["annotations"]
    labelled = {a["id"]: a for a in raw if not a["iscrowd"] and max(a["keypoints"][2::3]) > 0}
    assert _reasons(found) == {"crowd": 5, "no_keypoints": 81}
    kept = {int(item.instances[0].annotation_id): item for item in found if isinstance(item, RawItem)}
    assert len(found) == len(raw) == 172 and kept.keys() == labelled.keys() and len(kept) == 86
    named = json.loads((root / "annotations/person_keypoints_train2017.json").read_text())["categories"][0]["keypoints"]
    assert [name.replace("left_", "l_").replace("right_", "r_") for name in named] == [joint.lower() for joint in COCO17.joints]
    for annotation_id, item in kept.items():
        x, y, v = (labelled[annotation_id]["keypoints"][i::3] for i in range(3))
        assert item.instances[0].joints_img == tuple(zip(x, y, strict=True))
        assert item.instances[0].joints_valid == tuple(label > 0 for label in v)
    assert all(item.image.path.is_file() for item in kept.values())
