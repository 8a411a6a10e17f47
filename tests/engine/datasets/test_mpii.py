"""MPII: the same persons from each of its four forms, what is skipped, and the real files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.options import MpiiOptions
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import mpii
from engine.synthetic.shots import Shot, TrueImage, make_shots
from schemas.skeletons import CROWDPOSE14, MPII16
from tests.engine.datasets.round_trip import assert_round_trip

JSON_FORMS = [mpii.write_mpii_coco, mpii.write_mpii_list, mpii.write_mpii_trb]


def _items(root: Path, split: str = "train", annotations: str | None = None) -> list[RawItem | SkippedInstances]:
    return list(open_dataset(DatasetConfig(name="mpii", root=str(root), split=split, mpii=MpiiOptions(annotations=annotations))).items())


@pytest.mark.parametrize("write", JSON_FORMS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 999))
def test_what_is_written_as_json_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, write: Callable[[Path, list[Shot]], list[TrueImage]], seed: int
) -> None:
    root = tmp_path_factory.mktemp("mpii")
    shots = make_shots(mannequin, seed, 3, people=(1, 3))
    truth = write(root, shots)
    found = _items(root)
    # Four decimals, and the pixels counted from 1 in the file.
    assert_round_trip(found, truth, tolerance_px=1e-4)
    sizes = {(item.width, item.height) for item in found if isinstance(item, RawItem)}
    assert sizes == ({(None, None)} if write is mpii.write_mpii_list else {(320, 320)})
    for item in found:
        assert isinstance(item, RawItem) and item.image.path.is_file()
        if write is mpii.write_mpii_trb:
            valid = {name for name, ok in zip(MPII16.joints, item.instances[0].joints_valid, strict=True) if ok}
            assert valid <= set(CROWDPOSE14.joints)


def test_all_forms_give_a_person_the_same_box(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 3, 2, people=(1, 1))
    boxes = []
    for write in (mpii.write_mpii_mat, *JSON_FORMS[:2]):
        root = tmp_path / write.__name__
        write(root, shots)
        boxes.append([item.instances[0].bbox_xywh for item in _items(root) if isinstance(item, RawItem)])
    assert boxes[0] == boxes[1] == boxes[2]
    pixels = np.round(shots[0].joints_img(0, MPII16.joints)[shots[0].inside(0, MPII16.joints)], 4)
    x, y, w, h = boxes[0][0]
    np.testing.assert_allclose([x + w / 2, y + h / 2, w, h], [*(pixels.min(0) + pixels.max(0)) / 2, *1.2 * np.ptp(pixels, 0)], atol=1e-3)


def test_of_several_files_the_original_is_read_unless_one_is_named(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 4, 1, people=(1, 1))
    for write in (mpii.write_mpii_mat, *JSON_FORMS):
        write(tmp_path, shots)
    assert open_dataset(DatasetConfig(name="mpii", root=str(tmp_path), split="train")).annotation_files() == [tmp_path / mpii.MAT]
    named = _items(tmp_path, annotations="annotations/mpii_trb_train.json")[0]
    assert isinstance(named, RawItem) and not named.instances[0].joints_valid[MPII16.index("Thorax")]
    with pytest.raises(MissingInput, match=r"nothing\.json does not exist"):
        _items(tmp_path, annotations="nothing.json")
    with pytest.raises(ConfigError, match=r"has the splits train, test, not 'valid'"):
        _items(tmp_path, "valid", mpii.MAT)
    with pytest.raises(MissingInput, match="any other annotation file of split 'valid'"):
        _items(tmp_path, "valid")


def _listed(root: Path, persons: list[Any]) -> list[RawItem | SkippedInstances]:
    (root / "annot").mkdir(exist_ok=True)
    (root / "annot/train.json").write_text(json.dumps(persons))
    return _items(root)


def _person(**fields: Any) -> dict[str, Any]:
    return {"image": "7.jpg", "joints": [[10.0 + j, 20.0 + 2 * j] for j in range(16)], "joints_vis": [1] * 16, "center": [1, 2]} | fields


@pytest.mark.parametrize(
    "odd",
    [
        [1],
        None,
        {"joints": [], "joints_vis": []},
        _person(image=7),
        _person(image=None),
        _person(image=""),
        _person(joints=[[1.0, 2.0]] * 15),
        _person(joints=[[1.0]] * 16),
        _person(joints=[[1.0, 2.0, 3.0]] * 16),
        _person(joints=7),
        _person(joints_vis=None),
        _person(joints_vis=["1"] * 16),
        _person(joints=[[1.0, float("nan")]] * 16),
        _person(joints=[[1.0, 10**400]] * 16),
        _person(joints=[[10.0, float("inf")], *_person()["joints"][1:]]),
    ],
    ids=lambda odd: repr(odd)[:60],
)
def test_a_listed_person_with_an_odd_field_costs_only_itself(tmp_path: Path, odd: Any) -> None:
    skipped, kept = _listed(tmp_path, [odd, _person()])
    assert skipped == SkippedInstances("invalid_annotation")
    assert isinstance(kept, RawItem) and kept.image_path == "7.jpg"


def test_listed_persons_are_numbered_within_their_image_and_skipped_by_reason(tmp_path: Path) -> None:
    test_person = {"image": "7.jpg", "center": [1, 2], "scale": 1.0}
    one = _person(joints_vis=[1] + [0] * 15)
    persons = [_person(), _person(image="8.jpg"), test_person, one, _person(joints_vis=[0] * 16), _person(), _person(image="a b.jpg")]
    found = _listed(tmp_path, persons)
    assert [item.reason if isinstance(item, SkippedInstances) else item.instances[0].annotation_id for item in found[:6]] == [
        "7_0", "8_0", "no_keypoints", "degenerate_box", "no_keypoints", "7_4",
    ]  # fmt: skip
    assert isinstance(found[6], RawItem) and found[6].key.startswith("image_") and found[6].image_path == "a b.jpg"


def test_a_wrong_layout_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _listed(tmp_path, [_person(image="../7.jpg")])
    path = tmp_path / "annot/train.json"
    for damaged, message in (
        ("", "expected a .mat file or JSON"),
        ("text", "expected a .mat file or JSON"),
        ("[{", "may be incomplete"),
        ("{}", "arrays"),
    ):
        path.write_text(damaged)
        with pytest.raises(RawDataError, match=message):
            _items(tmp_path)


def test_real_mpii(real_data: Path) -> None:
    root = real_data / "mpii"
    raw = json.loads((root / "test_mpii.json").read_text())
    found = _items(root, "test")
    assert len(found) == len(raw) == 5
    order = {"R_Ankle": 0, "Pelvis": 6, "Thorax": 7, "Neck": 8, "Head_top": 9, "R_Wrist": 10, "L_Shoulder": 13, "L_Wrist": 15}
    for item, person in zip(found, raw, strict=True):
        assert isinstance(item, RawItem) and item.image.path.name == person["image"] and item.image.path.is_file()
        (mine,) = item.instances
        for name, j in order.items():
            k = MPII16.index(name)
            assert mine.joints_valid[k] == bool(person["joints_vis"][j])
            if mine.joints_valid[k]:
                np.testing.assert_allclose(mine.joints_img[k], np.array(person["joints"][j]) - 1, atol=1e-6)
    trb = {item.key: item.instances[0] for item in _items(root, "test", "test_mpii_trb.json") if isinstance(item, RawItem)}
    assert Counter(len(trb) for _ in trb) == {5: 5}
    for item in found:
        mine, other = item.instances[0], trb[item.key]
        both = [j for j in range(16) if mine.joints_valid[j] and other.joints_valid[j]]
        assert len(both) >= 12
        np.testing.assert_allclose(np.array(mine.joints_img)[both], np.array(other.joints_img)[both], atol=0.1)
