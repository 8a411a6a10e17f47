"""UP-3D: fits carried back from crops to the photograph, poor fits left out, and files that cost their person."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.datasets.base import DatasetConfig, Found, RawItem, SkippedInstances, Unreadable
from engine.datasets.pickles import read_pickle
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import up3d
from engine.synthetic.shots import make_shots
from engine.synthetic.threedpw import python2_pickle
from schemas.skeletons import H36M17, LSP14, shared_joints
from tests.engine.datasets.round_trip import assert_round_trip


def _items(root: Path, split: str = "trainval") -> list[Found]:
    return list(open_dataset(DatasetConfig(name="up3d", root=str(root), split=split)).items())


def _edit(root: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / f"up-3d/{number:05d}_body.pkl"
    content = read_pickle(path)
    change(content)
    path.write_bytes(python2_pickle(content, protocol=0))


def _assert_fits_fall_on_joints(mannequin: Mannequin, items: list[Found]) -> None:
    """The posed body's regressed joints fall on the published ones: those of one name are the same here."""
    ours, theirs = shared_joints(H36M17.name, LSP14.name)
    for item in items:
        (person,) = item.instances
        pose, betas = (torch.tensor([v], dtype=torch.float32) for v in (person.smpl.pose, person.smpl.betas))
        points = (mannequin.body.joints(pose, betas, skeleton="h36m17")[0].numpy() + person.smpl.transl)[list(ours)]
        pixels = points[:, :2] / points[:, 2:] * person.camera.focal + person.camera.princpt
        valid = np.array(person.joints_valid)[list(theirs)]
        assert np.abs(pixels - np.array(person.joints_img)[list(theirs)])[valid].max() < 0.5 and valid.sum() > 5


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), cropped=st.booleans(), confidences=st.booleans())
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, cropped: bool, confidences: bool
) -> None:
    root = tmp_path_factory.mktemp("up3d")
    truth = up3d.write(root, make_shots(mannequin, seed, 4), cropped=cropped, confidences=confidences, crop_info=cropped)
    for split, part in {"trainval": truth[::2], "test": truth[1::2], "train": truth[::4], "val": truth[2::4]}.items():
        found = _items(root, split)
        assert_round_trip(found, part)
        _assert_fits_fall_on_joints(mannequin, found)
        assert [item.key for item in found] == [image.image_path[6:11] for image in part]


def test_a_camera_that_turns_and_a_body_that_moves_are_both_applied(mannequin: Mannequin, tmp_path: Path) -> None:
    up3d.write(tmp_path, make_shots(mannequin, 2, 2))

    def turn(content: dict[str, Any]) -> None:
        """The same body in the image, told with another share of body and camera."""
        R, trans = Rotation.from_rotvec([0.3, -0.5, 0.2]), np.array([0.4, -0.2, 0.7])
        with torch.inference_mode():
            arrays = (torch.tensor(np.stack([content[name]]), dtype=torch.float32) for name in ("pose", "betas"))
            pelvis = mannequin.body(*arrays).joints_B243[0, 0].double().numpy()
        content["pose"] = content["pose"].copy()
        content["pose"][:3] = (R.inv() * Rotation.from_rotvec(content["pose"][:3])).as_rotvec()
        content["t"] = content["t"] + pelvis - R.apply(pelvis + trans)
        content["rt"], content["trans"] = R.as_rotvec(), trans

    before = _items(tmp_path)
    _edit(tmp_path, 0, turn)
    after = _items(tmp_path)
    _assert_fits_fall_on_joints(mannequin, after)
    np.testing.assert_allclose(after[0].instances[0].smpl.transl, before[0].instances[0].smpl.transl, atol=1e-4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(f=2500.0),
        lambda c: c.update(t=c["t"] + [2, 0, 0]),
        lambda c: c.update(t=-c["t"]),
        lambda c: c.update(pose=c["pose"] * np.nan),
        lambda c: c.update(
            pose=np.r_[(Rotation.from_rotvec([0, 0, np.pi]) * Rotation.from_rotvec(c["pose"][:3])).as_rotvec(), c["pose"][3:]]
        ),
    ],
    ids=["focal", "aside", "behind", "nan", "upside down"],
)
def test_a_fit_that_is_not_on_the_person_is_left_out(mannequin: Mannequin, tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    truth = up3d.write(tmp_path, make_shots(mannequin, 2, 3))
    _edit(tmp_path, 0, spoil)
    found = _items(tmp_path)
    assert_round_trip(found, truth[::2])
    assert [item.instances[0].smpl is None for item in found] == [True, False] == [item.instances[0].camera is None for item in found]


def test_a_crop_that_is_not_told_is_seen(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = up3d.write(tmp_path, make_shots(mannequin, 2, 3), cropped=True, crop_info=False)
    found = _items(tmp_path)
    assert_round_trip(found, truth[::2])
    assert all(item.instances[0].smpl is None for item in found)


class Run:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.system, (self._command,)


def test_a_bad_file_costs_its_person(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = up3d.write(tmp_path, make_shots(mannequin, 3, 26, people=(1, 1)))
    stem, marker = tmp_path / "up-3d", tmp_path / "ran"
    (stem / "00000_body.pkl").write_bytes(pickle.dumps(Run(f"touch {marker}"), protocol=0))
    (stem / "00002_body.pkl").write_bytes((stem / "00002_body.pkl").read_bytes()[:900])
    (stem / "00004_body.pkl").write_bytes((stem / "00004_body.pkl").read_bytes().replace(b"cnumpy\nndarray", b"cchumpy.ch\nCh", 1))
    _edit(tmp_path, 6, lambda content: content.pop("betas"))
    np.save(stem / "00008_joints.npy", np.array([Run(f"touch {marker}")], dtype=object), allow_pickle=True)
    (stem / "00010_joints.npy").write_bytes((stem / "00010_joints.npy").read_bytes()[:-8])
    (stem / "00012_joints.npy").unlink()
    np.save(stem / "00014_joints.npy", np.zeros((14, 3)))
    (stem / "00016_fit_crop_info.txt").write_text("500 400 0 0")
    np.save(stem / "00018_joints.npy", np.full((3, 14), np.nan))
    (stem / "00020_body.pkl").unlink()
    (stem / "00022_image.png").unlink()
    found = _items(tmp_path)
    lost = {item.key.removeprefix("up-3d_"): item for item in found if isinstance(item, Unreadable)}
    assert {key: (item.reason, item.instances) for key, item in lost.items()} == {
        "00000": ("annotation_unsafe", 1),
        "00002": ("annotation_unreadable", 1),
        "00004": ("annotation_unsafe", 1),
        "00006": ("annotation_unreadable", 1),
        "00008": ("annotation_unsafe", 1),
        "00010": ("annotation_unreadable", 1),
        "00012": ("annotation_missing", 1),
        "00014": ("annotation_unreadable", 1),
        "00016": ("annotation_unreadable", 1),
    }
    assert "posix.system" in lost["00000"].message and "chumpy.ch.Ch" in lost["00004"].message and "convert" in lost["00004"].message
    assert not marker.exists()
    assert [item for item in found if isinstance(item, SkippedInstances)] == [SkippedInstances("no_keypoints")]
    kept = [item for item in found if isinstance(item, RawItem)]
    assert_round_trip(kept, [truth[20], truth[22], truth[24]])
    assert [item.instances[0].smpl is None for item in kept] == [True, False, False]


def test_the_list_of_a_split(mannequin: Mannequin, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train, val, trainval, test"):
        _items(tmp_path, "training")
    with pytest.raises(MissingInput, match=r"trainval\.txt"):
        _items(tmp_path)
    up3d.write(tmp_path, make_shots(mannequin, 2, 4))
    path = tmp_path / "up-3d/trainval.txt"
    path.write_text("/00000_image.png 1.0\n\n/../../etc/passwd\n/00002_image.png\n/00000_image.png\n")
    found = _items(tmp_path)
    assert [item.key for item in found if isinstance(item, RawItem)] == ["00000", "00002"]
    assert [item for item in found if isinstance(item, SkippedInstances)] == [SkippedInstances("invalid_annotation")]
    for text in ("", "hello\n"):
        path.write_text(text)
        with pytest.raises(RawDataError, match=r"trainval\.txt"):
            _items(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RawDataError, match=r"trainval\.txt: expected a list"):
        _items(tmp_path)
    path.rmdir()
    path.write_text("/00000_image.png\n")
    files = open_dataset(DatasetConfig(name="up3d", root=str(tmp_path), split="trainval")).annotation_files()
    assert [file.name for file in files] == ["trainval.txt", "00000_joints.npy", "00000_body.pkl", "00000_fit_crop_info.txt"]
    assert _items(tmp_path / "up-3d")[0].image_path == "00000_image.png"
