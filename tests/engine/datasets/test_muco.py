"""MuCo-3DHP: several persons an image, fits where there are any, and what costs a person."""

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

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import muco
from engine.synthetic.shots import make_shots
from schemas.skeletons import H36M17
from tests.engine.datasets.round_trip import assert_round_trip


def _items(root: Path, split: str = "train") -> list[Found]:
    return list(open_dataset(DatasetConfig(name="muco", root=str(root), split=split)).items())


def _edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "MuCo-3DHP.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999), order=st.booleans())
def test_what_is_written_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, order: bool) -> None:
    root = tmp_path_factory.mktemp("muco")
    truth = muco.write(root, make_shots(mannequin, seed, 3, people=(1, 4)), annotations_first=order)
    found = _items(root)
    assert_round_trip(found, truth)
    assert [item.key for item in found if isinstance(item, RawItem)] == [
        image.image_path[:-4].replace("/", "_") for image in truth for _ in image.persons
    ]
    assert all(item.image.path.is_file() for item in found if isinstance(item, RawItem))


def test_fits_stand_in_the_camera_frame_and_one_may_be_missing(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 5, 2, people=(2, 2))
    muco.write(tmp_path, shots)
    persons = [item.instances[0] for item in _items(tmp_path) if isinstance(item, RawItem)]
    assert [person.smpl is None for person in persons] == [False, False, False, True]
    for person, shot, p in zip(persons[:3], (shots[0], shots[0], shots[1]), (0, 1, 0), strict=True):
        pose, betas = (torch.tensor([v], dtype=torch.float32) for v in (person.smpl.pose, person.smpl.betas))
        joints = mannequin.body.joints(pose, betas, skeleton="h36m17")[0].numpy() + person.smpl.transl
        np.testing.assert_allclose(joints, shot.joints_cam(p, H36M17.joints), atol=5e-4)
    (tmp_path / "smpl_param.json").unlink()
    assert all(item.instances[0].smpl is None for item in _items(tmp_path) if isinstance(item, RawItem))


def test_a_person_who_is_odd_or_disagrees_costs_themselves(mannequin: Mannequin, tmp_path: Path) -> None:
    muco.write(tmp_path, make_shots(mannequin, 6, 4, people=(2, 2)))

    def spoil(content: dict[str, Any]) -> None:
        first, second, third, fourth, fifth, sixth, seventh, _ = content["annotations"]
        first["keypoints_cam"][3][1] = float("nan")
        second["keypoints_img"] = second["keypoints_img"][:20]
        third["keypoints_img"] = [[x + 40, y] for x, y in third["keypoints_img"]]
        fourth["keypoints_cam"] = (np.array(fourth["keypoints_cam"]) / 1000).tolist()
        fifth["keypoints_cam"][0][2] = -100.0
        sixth["bbox"][2] = 0
        seventh["image_id"] = 99

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert found[:7] == [
        SkippedInstances(reason)
        for reason in (
            *("invalid_annotation", "invalid_annotation", "projection_disagrees", "implausible_size"),
            *("behind_camera", "degenerate_box", "unknown_image"),
        )
    ]
    assert isinstance(found[7], RawItem) and len(found) == 8


def test_an_image_without_a_camera_costs_its_persons(mannequin: Mannequin, tmp_path: Path) -> None:
    muco.write(tmp_path, make_shots(mannequin, 7, 3, people=(1, 1)))

    def spoil(content: dict[str, Any]) -> None:
        del content["images"][0]["f"]
        content["images"][1]["c"] = [float("inf"), 2]

    _edit(tmp_path, spoil)
    found = _items(tmp_path)
    assert found[:2] == [SkippedInstances("unknown_image")] * 2 and isinstance(found[2], RawItem)


def test_damaged_and_hostile_files_are_refused(mannequin: Mannequin, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"MuCo-3DHP\.json"):
        _items(tmp_path)
    muco.write(tmp_path, make_shots(mannequin, 8, 1, people=(1, 1)))
    _edit(tmp_path, lambda content: content["images"][0].update(file_name="/etc/passwd.jpg"))
    with pytest.raises(UnsafeInput, match=r"/etc/passwd\.jpg"):
        _items(tmp_path)
    for name in ("smpl_param.json", "MuCo-3DHP.json"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-9] if path.stat().st_size > 9 else b"{")
        with pytest.raises(RawDataError, match=name):
            _items(tmp_path)
    with pytest.raises(ConfigError, match="split 'test'"):
        _items(tmp_path, "test")
