"""MuPoTS-3D as the authors' JSON: its own cameras and boxes, invalid persons, and what costs a person or a sequence."""

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

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.registry import open_dataset
from engine.errors import RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import mupots
from engine.synthetic.shots import make_shots
from tests.engine.datasets.round_trip import assert_round_trip


def _items(root: Path) -> list[Found]:
    return list(open_dataset(DatasetConfig(name="mupots", root=str(root), split="test")).items())


def _edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "MuPoTS-3D.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 999))
def test_what_is_written_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    root = tmp_path_factory.mktemp("mupots")
    truth = mupots.write_json(root, make_shots(mannequin, seed, 3, people=(2, 3), views=2), invalid=frozenset({(0, 1)}))
    found = _items(root)
    assert_round_trip([item for item in found if isinstance(item, RawItem)], truth)
    assert [s for s in found if isinstance(s, SkippedInstances)] == [SkippedInstances("invalid_frame")] * 2


def test_both_layouts_say_the_same_and_raw_wins(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 3, 2, people=(2, 2), views=2)
    mupots.write_json(tmp_path, shots)
    converted = {(item.key, item.image_path, item.instances[0].joints_img): item for item in _items(tmp_path)}
    assert {item.width for item in converted.values()} == {320}
    assert all(item.instances[0].joints_univ is None for item in converted.values())
    mupots.write_raw(tmp_path, shots)
    raw = {(item.key, item.image_path, item.instances[0].joints_img): item for item in _items(tmp_path)}
    assert raw.keys() == converted.keys() and len(raw) == 8
    for key, item in raw.items():
        assert item.instances[0].joints_univ is not None
        np.testing.assert_allclose(item.instances[0].joints_cam, converted[key].instances[0].joints_cam, atol=1e-6)
        np.testing.assert_allclose(item.instances[0].camera.focal, converted[key].instances[0].camera.focal, rtol=1e-5)


def test_a_sequence_with_another_camera_or_unit_costs_itself(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = mupots.write_json(tmp_path, make_shots(mannequin, 5, 2, people=(2, 2), views=3))

    def spoil(content: dict[str, Any]) -> None:
        for image in content["images"]:
            if image["file_name"].startswith("TS1/"):
                image["intrinsic"][0] *= 1.3
        metres = {image["id"] for image in content["images"] if image["file_name"].startswith("TS2/")}
        for annotation in content["annotations"]:
            if annotation["image_id"] in metres:
                annotation["keypoints_cam"] = (np.array(annotation["keypoints_cam"]) / 1000).tolist()

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    lost = {u.key: (u.reason, u.instances, u.message) for u in found if isinstance(u, Unreadable)}
    assert {key: value[:2] for key, value in lost.items()} == {"TS1": ("calibration_wrong", 4), "TS2": ("calibration_wrong", 4)}
    assert "keypoints_img" in lost["TS1"][2] and "unit" in lost["TS2"][2]
    assert_round_trip([item for item in found if isinstance(item, RawItem)], [t for t in truth if "TS3" in t.image_path])


def test_what_is_odd_costs_its_person(mannequin: Mannequin, tmp_path: Path) -> None:
    mupots.write_json(tmp_path, make_shots(mannequin, 5, 5, people=(2, 2), views=2))

    def spoil(content: dict[str, Any]) -> None:
        people = content["annotations"]
        people[0]["keypoints_cam"][3][1] = float("nan")
        people[1]["keypoints_img"] = people[1]["keypoints_img"][:-1]
        people[2]["image_id"] = 999
        people[3]["bbox"] = [5, 5, 0, 10]
        people[4]["keypoints_img"] = (np.array(people[4]["keypoints_img"]) + 40).tolist()
        people[5]["keypoints_cam"][0][2] = -1
        del people[6]["is_valid"]
        people[7]["bbox"] = None
        content["images"][4]["intrinsic"] = [1, 2, 3]  # has persons 8 and 9

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {
        "invalid_annotation": 5,
        "unknown_image": 3,
        "degenerate_box": 1,
        "projection_disagrees": 1,
    }
    assert sum(isinstance(item, RawItem) for item in found) == 10


def test_a_damaged_file_and_a_path_out_of_the_root(mannequin: Mannequin, tmp_path: Path) -> None:
    mupots.write_json(tmp_path, make_shots(mannequin, 5, 1, views=2))
    path = tmp_path / "MuPoTS-3D.json"
    whole = path.read_bytes()
    for damaged in (whole[:-200], b"", b'{"annotations": []}'):
        path.write_bytes(damaged)
        with pytest.raises(RawDataError, match=r"MuPoTS-3D\.json"):
            _items(tmp_path)
    path.write_bytes(whole)
    _edit(tmp_path, lambda content: content["images"][0].update(file_name="../../x.jpg"))
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _items(tmp_path)
