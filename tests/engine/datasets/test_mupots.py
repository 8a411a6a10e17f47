"""MuPoTS-3D as downloaded: cells of both MATLAB versions, cameras solved from the joints, the universal skeleton, and damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.matlab import read_mat
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import mupots
from engine.synthetic.layouts.matlab import write_mat
from engine.synthetic.shots import make_shots
from schemas.skeletons import MI17
from tests.engine.datasets.round_trip import assert_round_trip

TOP = "MultiPersonTestSet"


def _items(root: Path) -> list[Found]:
    return list(open_dataset(DatasetConfig(name="mupots", root=str(root), split="test")).items())


def _kept(found: list[Found]) -> list[RawItem]:
    return [item for item in found if isinstance(item, RawItem)]


def _edit(root: Path, sequence: str, change: Callable[[np.ndarray], None]) -> None:
    path = root / TOP / sequence / "annot.mat"
    cells = read_mat(path, "annotations")["annotations"]
    change(cells)
    write_mat(path, {"annotations": cells})


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), version=st.sampled_from(["5", "7.3"]), people=st.sampled_from([(1, 1), (2, 3)]))
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, version: str, people: tuple[int, int]
) -> None:
    root = tmp_path_factory.mktemp("mupots")
    shots = make_shots(mannequin, seed, 3, people=people, views=2)
    truth = mupots.write_raw(root, shots, version=version, invalid=frozenset({(1, 0)}))
    found = _items(root)
    assert_round_trip(_kept(found), truth)
    absent = 2 * sum(max(len(s.persons) for s in shots) - len(s.persons) for s in shots[::2])
    assert Counter({s.reason: s.instances for s in found if isinstance(s, SkippedInstances)}).keys() == {"invalid_frame"}
    assert sum(s.instances for s in found if isinstance(s, SkippedInstances)) == 2 + absent
    assert sum(len(item.instances) for item in _kept(found)) == sum(len(image.persons) for image in truth)


def test_the_camera_is_solved_and_the_universal_skeleton_kept(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 4, 3, people=(2, 2), views=2)
    mupots.write_raw(tmp_path, shots)
    for item in _kept(_items(tmp_path)):
        view = int(item.key[2]) - 1
        for person in item.instances:
            np.testing.assert_allclose(person.camera.focal, shots[view].camera.focal, rtol=1e-6)
            np.testing.assert_allclose(person.camera.princpt, shots[view].camera.princpt, rtol=1e-6)
            np.testing.assert_allclose(person.joints_univ, mupots.UNIVERSAL_HEIGHT * np.array(person.joints_cam), atol=2e-6)
            x, y = np.array(person.joints_img).T
            np.testing.assert_allclose(person.bbox_xywh[2:], [1.2 * np.ptp(x), 1.2 * np.ptp(y)], atol=1e-5)
            assert person.skeleton == MI17.name and all(person.joints_valid)
    first = _kept(_items(tmp_path))[0]
    assert (first.key, first.image_path) == ("TS1_000000", f"{TOP}/TS1/img_000000.jpg")
    assert (first.width, first.image.path.is_file()) == (None, True)


def test_the_camera_withstands_noise_and_wild_joints(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 4, 6, people=(2, 2), views=2)
    mupots.write_raw(tmp_path, shots)
    rng = np.random.default_rng(0)

    def shake(cells: np.ndarray) -> None:
        for cell in cells.flat:
            cell["annot2"] = cell["annot2"] + rng.normal(0, 0.3, (2, 17))
        cells[0, 0]["annot2"] = cells[0, 0]["annot2"] + 80

    _edit(tmp_path, "TS1", shake)
    solved = next(item for item in _kept(_items(tmp_path)) if item.key == "TS1_000003").instances[0].camera
    np.testing.assert_allclose(solved.focal, shots[0].camera.focal, rtol=0.02)
    np.testing.assert_allclose(solved.princpt, shots[0].camera.princpt, atol=3)


def test_a_damaged_sequence_costs_itself(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = mupots.write_raw(tmp_path, make_shots(mannequin, 5, 2, people=(2, 2), views=6))
    top = tmp_path / TOP
    (top / "TS1/annot.mat").write_bytes((top / "TS1/annot.mat").read_bytes()[:700])
    (top / "TS2/annot.mat").unlink()
    write_mat(top / "TS3/annot.mat", {"annotations": np.zeros((2, 2))})
    rng = np.random.default_rng(0)
    _edit(tmp_path, "TS4", lambda cells: [c.update(annot2=rng.uniform(0, 2000, (2, 17))) for c in cells.flat])
    _edit(tmp_path, "TS5", lambda cells: [c.update(annot3=c["annot3"] / 1000) for c in cells.flat])
    found = _items(tmp_path)
    unreadable = {item.key.split("_")[1]: item for item in found if isinstance(item, Unreadable)}
    assert {key: (u.reason, u.instances) for key, u in unreadable.items()} == {
        "TS1": ("annotation_unreadable", 0),
        "TS2": ("annotation_missing", 0),
        "TS3": ("annotation_unreadable", 0),
        "TS4": ("calibration_wrong", 4),
        "TS5": ("calibration_wrong", 4),
    }
    assert "px off" in unreadable["TS4"].message and "unit" in unreadable["TS5"].message
    assert_round_trip(_kept(found), [image for image in truth if "TS6" in image.image_path])


def test_a_damaged_only_sequence_and_an_empty_root_say_so(mannequin: Mannequin, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"MuPoTS-3D\.json"):
        _items(tmp_path)
    with pytest.raises(ConfigError, match="split 'train' is not test"):
        open_dataset(DatasetConfig(name="mupots", root=str(tmp_path), split="train"))
    shots = [shot for shot in make_shots(mannequin, 5, 2, views=2) if shot.view == 0]
    mupots.write_raw(tmp_path, shots)
    path = tmp_path / TOP / "TS1/annot.mat"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RawDataError, match=r"annot\.mat"):
        _items(tmp_path)


def test_an_odd_cell_costs_its_person(mannequin: Mannequin, tmp_path: Path) -> None:
    mupots.write_raw(tmp_path, make_shots(mannequin, 6, 4, people=(2, 2), views=2))

    def spoil(cells: Any) -> None:
        cells[0, 0]["annot3"][1, 4] = np.nan
        cells[0, 1]["annot2"] = cells[0, 1]["annot2"][:, :14]
        cells[1, 0] = np.zeros((0, 0))
        cells[1, 1]["annot3"][2] *= -1
        cells[2, 0]["isValidFrame"] = np.zeros((0, 0))
        del cells[2, 1]["univ_annot3"]
        cells[3, 0]["isValidFrame"] = np.array([[0.0]])

    _edit(tmp_path, "TS1", spoil)
    found = _items(tmp_path)
    assert {s.reason: s.instances for s in found if isinstance(s, SkippedInstances)} == {"invalid_annotation": 6, "invalid_frame": 1}
    assert [p.annotation_id for i in _kept(found) for p in i.instances if i.key.startswith("TS1")] == ["TS1_000003_1"]


def test_sequences_may_lie_in_the_root_and_go_by_number(mannequin: Mannequin, tmp_path: Path) -> None:
    mupots.write_raw(tmp_path / "raw", make_shots(mannequin, 7, 1, people=(1, 1), views=2))
    top = tmp_path / "raw" / TOP
    (top / "TS2").rename(top / "TS10")
    (top / "TS1").rename(top / "TS2")
    keys = [item.key for item in _kept(_items(top))]
    assert keys == ["TS2_000000", "TS10_000000"] and _kept(_items(top))[0].image_path == "TS2/img_000000.jpg"
