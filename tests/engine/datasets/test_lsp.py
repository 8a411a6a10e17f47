"""LSP and its extended set: shapes, flags, junk coordinates, image names, and the real file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import lsp
from engine.synthetic.layouts.matlab import write_mat
from engine.synthetic.shots import make_shots
from schemas.skeletons import LSP14
from tests.engine.datasets.round_trip import assert_round_trip


def _items(name: str, root: Path, split: str = "train") -> list[RawItem | SkippedInstances]:
    return list(open_dataset(DatasetConfig(name=name, root=str(root), split=split)).items())


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999))
def test_what_is_written_is_read(mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    shots = make_shots(mannequin, seed, 4, people=(1, 1), hw=(160, 120))
    root = tmp_path_factory.mktemp("lsp")
    truth = lsp.write_lsp(root, shots)
    assert_round_trip(_items("lsp", root), truth[:2], tolerance_px=1e-5)
    assert_round_trip(_items("lsp", root, "test"), truth[2:], tolerance_px=1e-5)
    for numbers in (None, [2, 3, 7, 9999]):
        root = tmp_path_factory.mktemp("lspet")
        truth = lsp.write_lspet(root, shots, hr_numbers=numbers)
        found = _items("lspet", root)
        assert_round_trip(found, truth, tolerance_px=1e-5)
        for item in found:
            assert isinstance(item, RawItem) and item.image.path.is_file() and item.width is None
            (person,) = item.instances
            assert all(ok or place == (0, 0) for place, ok in zip(person.joints_img, person.joints_valid, strict=True))


def test_the_box_is_that_of_the_valid_joints_a_fifth_larger(tmp_path: Path) -> None:
    joints = np.full((14, 3, 1), -90.0)
    joints[:2, :, 0] = [[10, 20, 1], [110, 70, 1]]
    joints[2:, 2, 0] = 0
    write_mat(tmp_path / "joints.mat", {"joints": joints})
    (item,) = _items("lspet", tmp_path)
    assert isinstance(item, RawItem)
    assert item.instances[0].bbox_xywh == (0, 15, 120, 60) and item.instances[0].joints_valid == (True,) * 2 + (False,) * 12


def test_persons_without_usable_joints_are_skipped(tmp_path: Path) -> None:
    joints = np.ones((14, 3, 5)) * np.arange(14)[:, None, None]
    joints[:, 2] = 1
    joints[:, 2, 0] = 0
    joints[3, 0, 1] = np.nan
    joints[1:, 2, 2] = 0
    joints[3, 1, 3], joints[3, 2, 3] = np.inf, 0
    write_mat(tmp_path / "joints.mat", {"joints": joints})
    found = _items("lspet", tmp_path)
    assert [item.reason if isinstance(item, SkippedInstances) else item.key for item in found] == [
        "no_keypoints", "invalid_annotation", "degenerate_box", "im00004", "im00005",
    ]  # fmt: skip


def test_a_wrong_layout_says_what_is_wrong(mannequin: Mannequin, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"joints\.mat does not exist"):
        _items("lsp", tmp_path)
    with pytest.raises(ConfigError, match="split 'val' is not one of train, test"):
        _items("lsp", tmp_path, "val")
    shots = make_shots(mannequin, 1, 3, people=(1, 1), hw=(64, 64))
    lsp.write_lsp(tmp_path, shots)
    with pytest.raises(RawDataError, match=r"expected LSPET's joints of shape \(14, 3, images\), found \(3, 14, 3\)"):
        _items("lspet", tmp_path)
    path = tmp_path / "joints.mat"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], b"", b"MATLAB 5.0 MAT-file" + bytes(200)):
        path.write_bytes(damaged)
        with pytest.raises(RawDataError, match=r"joints\.mat"):
            _items("lsp", tmp_path)
    for other in ({"joints": "text"}, {"joints": {"x": 1.0}}, {"joints": np.zeros((3, 14))}, {"joint": np.zeros((3, 14, 2))}):
        write_mat(path, other)
        with pytest.raises(RawDataError, match="expected"):
            _items("lsp", tmp_path)


def test_hr_lspet_must_have_all_its_images(mannequin: Mannequin, tmp_path: Path) -> None:
    lsp.write_lspet(tmp_path, make_shots(mannequin, 2, 3, people=(1, 1), hw=(64, 64)), hr_numbers=[1, 4, 5])
    (tmp_path / "im00004.png").unlink()
    with pytest.raises(RawDataError, match=r"expected 3 images im\*\.png, one a person, found 2"):
        _items("lspet", tmp_path)


def test_real_lspet(real_data: Path) -> None:
    root = real_data / "lspet"
    found = _items("lspet", root)
    raw = scipy.io.loadmat(root / "joints.mat")["joints"]
    assert len(found) == raw.shape[2] == 10_000 and all(isinstance(item, RawItem) for item in found)
    valid = Counter(
        {
            "R_Ankle": int(raw[0, 2].sum()),
            "L_Hip": int(raw[3, 2].sum()),
            "L_Wrist": int(raw[11, 2].sum()),
            "Head_top": int(raw[13, 2].sum()),
        }
    )
    mine = Counter(name for item in found for name, ok in zip(LSP14.joints, item.instances[0].joints_valid, strict=True) if ok)
    assert {name: mine[name] for name in valid} == valid and mine.total() == 140_000 - 16_787
    assert sum(all(item.instances[0].joints_valid) for item in found) == 3_945
    for i in (0, 17, 119, 9_999):
        item = found[i]
        assert item.key == f"im{i + 1:05d}"
        there = raw[:, 2, i] == 1
        np.testing.assert_allclose(np.array(item.instances[0].joints_img)[there], raw[there, :2, i], atol=1e-6)
    assert sum(item.image.path.is_file() for item in found) == 120
