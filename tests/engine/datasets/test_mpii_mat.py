"""MPII's original .mat: every irregularity of the published file, both versions of MATLAB's format, and damage."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.registry import open_dataset
from engine.errors import RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts.matlab import cell, struct_array, write_mat
from engine.synthetic.layouts.mpii import MAT, write_mpii_mat
from engine.synthetic.shots import make_shots
from schemas.skeletons import MPII16
from tests.engine.datasets.round_trip import assert_round_trip

EMPTY = np.zeros((0, 0))


def _items(root: Path, split: str = "train") -> list[Found]:
    return list(open_dataset(DatasetConfig(name="mpii", root=str(root), split=split)).items())


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), version=st.sampled_from(["5", "7.3"]))
def test_what_is_written_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, version: Any) -> None:
    root = tmp_path_factory.mktemp("mpii")
    truth = write_mpii_mat(root, make_shots(mannequin, seed, 5, people=(1, 3)), test_images=2, version=version)
    found = _items(root)
    # Four decimals, and the pixels counted from 1 in the file.
    assert_round_trip([item for item in found if isinstance(item, RawItem)], truth, tolerance_px=1e-4)
    assert Counter(i.reason for i in found if isinstance(i, SkippedInstances)) == {"no_keypoints": 2, "degenerate_box": 1}
    assert _items(root, "test") == [SkippedInstances("no_keypoints")] * 2


def _points(**fields: Any) -> list[dict[str, Any]]:
    """Three joints: the right ankle, the neck and the left wrist."""
    return [
        {"x": 11.0, "y": 21.0, "id": 0.0} | fields,
        {"x": 51.5, "y": 61.0, "id": 8.0} | fields,
        {"x": 91.0, "y": 41.0, "id": 15.0} | fields,
    ]


def _write(root: Path, *persons: Any, annorect: Any = None, img_train: Any = 1.0) -> list[Found]:
    image = {"image": {"name": "015601864.jpg"}, "annorect": struct_array(list(persons)) if annorect is None else annorect}
    write_mat(root / MAT, {"RELEASE": {"annolist": struct_array([image]), "img_train": img_train}})
    return _items(root)


@pytest.mark.parametrize(
    "person",
    [
        {"annopoints": {"point": struct_array(_points())}},
        {"annopoints": {"point": struct_array(_points(is_visible=EMPTY))}},
        {"annopoints": {"point": struct_array(_points(is_visible="0"))}},
        {"annopoints": {"point": struct_array(_points(is_visible=np.uint8(0)))}},
        {"annopoints": {"point": struct_array(_points()[::-1])}, "objpos": EMPTY, "scale": EMPTY},
        {"annopoints": {"point": struct_array(_points(), (3, 1))}, "objpos": {"x": 3.0, "y": 4.0}, "scale": 2.0},
        {"annopoints": {"point": struct_array([p | {"id": np.uint8(p["id"]), "x": np.int16(p["x"])} for p in _points()])}},
    ],
    ids=["no is_visible", "[]", "char", "number", "other order", "column", "integers"],
)
def test_a_labelled_joint_is_valid_whatever_else_is_said_of_it(tmp_path: Path, person: dict[str, Any]) -> None:
    (item,) = _write(tmp_path, person)
    assert isinstance(item, RawItem) and (item.key, item.width) == ("015601864", None)
    (instance,) = item.instances
    assert instance.annotation_id == "015601864_0"
    valid = {name: instance.joints_img[i] for i, name in enumerate(MPII16.joints) if instance.joints_valid[i]}
    assert valid.keys() == {"R_Ankle", "Neck", "L_Wrist"} and valid["R_Ankle"] == (10, 20) and valid["L_Wrist"] == (90, 40)


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ({"scale": 1.0}, "no_keypoints"),
        ({"annopoints": EMPTY}, "no_keypoints"),
        ({"annopoints": {"point": EMPTY}}, "no_keypoints"),
        ({"annopoints": {"points": 3.0}}, "no_keypoints"),
        ({"annopoints": {"point": struct_array(_points()[:1])}}, "degenerate_box"),
        ({"annopoints": {"point": {"x": 1.0, "y": 2.0, "id": 9.0}}}, "degenerate_box"),
        ({"annopoints": {"point": struct_array(_points(x=np.nan))}}, "invalid_annotation"),
        ({"annopoints": {"point": struct_array(_points(y=EMPTY))}}, "invalid_annotation"),
        ({"annopoints": {"point": struct_array(_points(y=np.ones((1, 2))))}}, "invalid_annotation"),
        ({"annopoints": {"point": struct_array(_points(id=3.0))}}, "invalid_annotation"),
        ({"annopoints": {"point": struct_array([p | {"id": p["id"] + 1} for p in _points()])}}, "invalid_annotation"),
        ({"annopoints": {"point": struct_array([p | {"id": p["id"] / 2} for p in _points()])}}, "invalid_annotation"),
        ({"annopoints": {"point": np.ones((1, 3))}}, "invalid_annotation"),
        ({"annopoints": {"point": cell(["a", "b"])}}, "invalid_annotation"),
    ],
)
def test_a_person_without_usable_points_is_skipped(tmp_path: Path, person: dict[str, Any], reason: str) -> None:
    good = {name: EMPTY for name in person} | {"annopoints": {"point": struct_array(_points())}}
    bad = {name: EMPTY for name in good} | person
    skipped, kept = _write(tmp_path, bad, good)
    assert skipped == SkippedInstances(reason)
    assert isinstance(kept, RawItem) and kept.instances[0].annotation_id == "015601864_1"


def test_an_image_without_persons_says_nothing(tmp_path: Path) -> None:
    assert _write(tmp_path, annorect=EMPTY) == []
    assert _write(tmp_path, annorect=np.empty((1, 0), object)) == []
    assert _write(tmp_path, annorect=np.ones((1, 2))) == [SkippedInstances("invalid_annotation")]


def test_an_image_without_a_name_is_unreadable_and_the_others_are_not(tmp_path: Path) -> None:
    rect = struct_array([{"annopoints": {"point": struct_array(_points())}}])
    names = [EMPTY, {"name": EMPTY}, {"name": ""}, {"name": "015601864.jpg"}]
    images = [{"image": name, "annorect": rect} for name in names]
    write_mat(tmp_path / MAT, {"RELEASE": {"annolist": struct_array(images), "img_train": np.ones((1, 4))}})
    *unreadable, item = _items(tmp_path)
    assert [(u.key, u.reason, u.instances) for u in unreadable if isinstance(u, Unreadable)] == [
        (f"annolist_{i}", "annotation_unreadable", 1) for i in (1, 2, 3)
    ]
    assert isinstance(item, RawItem)


def test_damage_says_what_is_wrong(tmp_path: Path) -> None:
    person = {"annopoints": {"point": struct_array(_points())}}
    _write(tmp_path, person)
    path = tmp_path / MAT
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:60], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(RawDataError, match=MAT):
            _items(tmp_path)
    with pytest.raises(RawDataError, match="expected one img_train an image, found 2 for 1"):
        _write(tmp_path, person, img_train=np.ones((1, 2)))
    with pytest.raises(RawDataError, match="expected MPII's RELEASE"):
        _write(tmp_path, person, img_train="train")
    for other in (np.ones((2, 2)), {"annolist": 3.0}, "text"):
        write_mat(path, {"RELEASE": other})
        with pytest.raises(RawDataError, match="expected MPII's RELEASE"):
            _items(tmp_path)
    image = {"image": {"name": "../015601864.jpg"}, "annorect": struct_array([person])}
    write_mat(path, {"RELEASE": {"annolist": struct_array([image]), "img_train": 1.0}})
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _items(tmp_path)
