"""3DPW as the authors' converters write it: both versions of the camera, frames decided by the numbers, the same people as downloaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.registry import open_dataset
from engine.errors import MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import threedpw
from engine.synthetic.shots import make_shots
from tests.engine.datasets.round_trip import assert_round_trip


def _items(root: Path, split: str = "test") -> list[Found]:
    return list(open_dataset(DatasetConfig(name="3dpw", root=str(root), split=split)).items())


def _kept(root: Path) -> list[RawItem]:
    found = _items(root)
    assert all(isinstance(item, RawItem) for item in found), found
    return found


def _edit(root: Path, change: Callable[[dict[str, Any]], None], name: str = "3DPW_test.json") -> None:
    content = json.loads((root / name).read_text())
    change(content)
    (root / name).write_text(json.dumps(content))


def _posed_off_m(mannequin: Mannequin, item: RawItem) -> float:
    """The largest distance of the joints of the posed body from joints_cam."""
    (person,) = item.instances
    arrays = (torch.tensor([v], dtype=torch.float32) for v in (person.smpl.pose, person.smpl.betas, person.smpl.transl))
    return float(np.abs(mannequin.body(*arrays).joints_B243[0].numpy() - person.joints_cam).max())


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), version=st.sampled_from(["plain", "R and t", "world"]), split=st.sampled_from(["train", "test"]))
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, version: str, split: str
) -> None:
    root = tmp_path_factory.mktemp("3dpw")
    shots = make_shots(mannequin, seed, 2, views=2)
    truth = threedpw.write_json(root, shots, split, extrinsics=version != "plain", in_world=version == "world")
    found = _items(root, split)
    assert_round_trip(found, truth)
    # Without R the neutral body's root stays in the translation, twice its difference at most.
    allowed_m = 2 * np.linalg.norm(threedpw.NEUTRAL_ROOT_M) if version == "plain" else 1e-3
    assert max(_posed_off_m(mannequin, item) for item in found) <= allowed_m


def test_both_layouts_say_the_same(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 4, 2, people=(2, 2), views=2)
    threedpw.write_raw(tmp_path / "raw", shots)
    threedpw.write_json(tmp_path / "json", shots)
    raw = {(item.key, item.image_path, p.annotation_id): p for item in _kept(tmp_path / "raw") for p in item.instances}
    converted = {(item.key, item.image_path, p.annotation_id): p for item in _kept(tmp_path / "json") for p in item.instances}
    assert raw.keys() == converted.keys() and len(raw) == 8
    for key, person in raw.items():
        other = converted[key]
        assert (person.joints_valid, person.smpl.gender) == (other.joints_valid, other.smpl.gender)
        for name in ("bbox_xywh", "joints_img", "joints_cam"):
            np.testing.assert_allclose(getattr(person, name), getattr(other, name), atol=1e-4)
        np.testing.assert_allclose(person.smpl.transl, other.smpl.transl, atol=1e-5)
        np.testing.assert_allclose(person.smpl.pose, other.smpl.pose, atol=1e-5)


def test_which_file_is_read(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 3, 1, views=2)
    with pytest.raises(MissingInput, match="imageFiles"):
        _items(tmp_path)
    threedpw.write_json(tmp_path, shots, name="3DPW_latest_{}.json")
    dataset = open_dataset(DatasetConfig(name="3dpw", root=str(tmp_path), split="test"))
    assert [path.name for path in dataset.annotation_files()] == ["3DPW_latest_test.json"]
    with pytest.raises(MissingInput, match="sequenceFiles/train does not exist, nor does 3DPW_train"):
        _items(tmp_path, "train")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/3DPW_test.json").write_bytes((tmp_path / "3DPW_latest_test.json").read_bytes())
    dataset = open_dataset(DatasetConfig(name="3dpw", root=str(tmp_path), split="test"))
    assert dataset.annotation_files() == [tmp_path / "data/3DPW_test.json"] and dataset.settings() == {"layout": "json"}
    threedpw.write_raw(tmp_path, shots)
    dataset = open_dataset(DatasetConfig(name="3dpw", root=str(tmp_path), split="test"))
    assert [path.suffix for path in dataset.annotation_files()] == [".pkl"] and dataset.settings() == {"layout": "raw"}


def test_joints_and_parameters_may_be_in_different_frames(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 9, 3, people=(1, 1), views=2)
    truth = threedpw.write_json(tmp_path, shots)
    (tmp_path / "world").mkdir()
    threedpw.write_json(tmp_path / "world", shots, in_world=True)
    world = json.loads((tmp_path / "world/3DPW_test.json").read_text())["annotations"]

    def take_world_parameters(content: dict[str, Any]) -> None:
        for annotation, other in zip(content["annotations"], world, strict=True):
            annotation["smpl_param"], annotation["fitted_joint_cam"] = other["smpl_param"], other["fitted_joint_cam"]

    _edit(tmp_path, take_world_parameters)
    found = _kept(tmp_path)
    assert_round_trip(found, truth)
    assert max(_posed_off_m(mannequin, item) for item in found) <= 1e-3


def test_without_what_the_converter_posed_the_published_translation_stands(mannequin: Mannequin, tmp_path: Path) -> None:
    threedpw.write_json(tmp_path, make_shots(mannequin, 2, 1, people=(1, 1), views=2))
    published = [a["smpl_param"]["trans"] for a in json.loads((tmp_path / "3DPW_test.json").read_text())["annotations"]]
    _edit(tmp_path, lambda content: [a.pop("fitted_joint_cam") for a in content["annotations"]])
    np.testing.assert_allclose([item.instances[0].smpl.transl for item in _kept(tmp_path)], published, atol=1e-6)


def test_a_sequence_with_another_camera_costs_itself(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = threedpw.write_json(tmp_path, make_shots(mannequin, 5, 3, people=(2, 2), views=2))

    def spoil(content: dict[str, Any], name: str) -> None:
        for image in content["images"]:
            if image["sequence"] == name:
                image["cam_param"]["focal"] = [2 * f for f in image["cam_param"]["focal"]]

    _edit(tmp_path, lambda content: spoil(content, "downtown_bar_01"))
    found = _items(tmp_path)
    (lost,) = (item for item in found if isinstance(item, Unreadable))
    assert (lost.key, lost.reason, lost.instances) == (
        "downtown_bar_01",
        "calibration_wrong",
        4,
    ) and "joint_img within 0.5 px" in lost.message
    good = [image for image in truth if "bar_01" not in image.image_path]
    assert_round_trip([item for item in found if isinstance(item, RawItem)], good)
    for name in ("downtown_bar_00", "downtown_bar_02"):
        _edit(tmp_path, lambda content, name=name: spoil(content, name))
    with pytest.raises(RawDataError, match=r"3DPW_test.json.*joint_img.*all of its 3 sequences"):
        _items(tmp_path)


def test_parameters_of_another_body_are_seen(mannequin: Mannequin, tmp_path: Path) -> None:
    threedpw.write_json(tmp_path, make_shots(mannequin, 5, 3, people=(1, 1), views=2), extrinsics=False)

    def spoil(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][:2]:
            annotation["smpl_param"]["pose"][:3] = [0.0, 0.0, 0.0] if annotation["smpl_param"]["pose"][0] > 1 else [3.0, 0.2, 0.1]
            annotation["fitted_joint_cam"] = (np.array(annotation["fitted_joint_cam"]) + 0.3).tolist()

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    (lost,) = (item for item in found if isinstance(item, Unreadable))
    assert (lost.key, lost.reason, lost.instances) == ("downtown_bar_00", "calibration_wrong", 2) and "one body" in lost.message
    assert sum(isinstance(item, RawItem) for item in found) == 4


def test_what_is_odd_costs_its_person(mannequin: Mannequin, tmp_path: Path) -> None:
    threedpw.write_json(tmp_path, make_shots(mannequin, 5, 3, people=(2, 2), views=2))

    def spoil(content: dict[str, Any]) -> None:
        people = content["annotations"]
        people[0]["joint_cam"][3][1] = float("nan")
        people[1]["smpl_param"]["pose"] = people[1]["smpl_param"]["pose"][:-1]
        people[2]["smpl_param"]["gender"] = "whale"
        people[3]["image_id"] = 999
        people[4]["bbox"] = [0, 0, 0, 10]
        people[5]["joint_img"] = (np.array(people[5]["joint_img"]) + 4).tolist()
        people[6]["smpl_param"]["trans"][0] += 5
        people[6]["fitted_joint_cam"] = (np.array(people[6]["fitted_joint_cam"]) + 5).tolist()
        people[7]["smpl_param"] = None
        del people[8]["person_id"]
        content["images"][5]["cam_param"] = {"focal": [0, 0], "princpt": [1, 1]}  # has persons 10 and 11

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert Counter(s.reason for s in found if isinstance(s, SkippedInstances)) == {
        "invalid_annotation": 6,
        "unknown_image": 3,
        "degenerate_box": 1,
        "projection_disagrees": 1,
    }
    assert sum(isinstance(item, RawItem) for item in found) == 1


def test_a_damaged_file_and_a_path_out_of_the_root(mannequin: Mannequin, tmp_path: Path) -> None:
    threedpw.write_json(tmp_path, make_shots(mannequin, 5, 1, views=2))
    whole = (tmp_path / "3DPW_test.json").read_bytes()
    for damaged in (whole[:-500], b"", b'{"images": []}', b"\x00\xff"):
        (tmp_path / "3DPW_test.json").write_bytes(damaged)
        with pytest.raises(RawDataError, match=r"3DPW_test\.json"):
            _items(tmp_path)
    (tmp_path / "3DPW_test.json").write_bytes(whole)
    _edit(tmp_path, lambda content: content["images"][0].update(file_name="../../../etc/passwd"))
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _items(tmp_path)
