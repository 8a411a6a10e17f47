"""SPIN's fits: rows that follow a dataset npz, rows of nobody, and files that do not fit together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from engine.exchange.base import Fit
from engine.exchange.spin import Options, open_reader
from engine.exchange.spin_joints import ANNOTATED_24, part_24
from engine.shards.reader import read_samples
from schemas.sample import Instance
from schemas.skeletons import SKELETONS
from tests.engine.exchange.conftest import World
from tests.engine.exchange.independent import read_spin, write_spin


def _dataset(path: Path, world: World, order: np.ndarray, strangers: int) -> Path:
    """A dataset npz of the world's persons in an order, after rows of photographs that the release does not have."""
    persons = [world.persons[i] for i in order]
    names = [f"elsewhere/{i}.jpg" for i in range(strangers)] + [p.image for p in persons]
    centres = np.concatenate([np.ones((strangers, 2)), [p.centre for p in persons]])
    n = len(names)
    np.savez(path, imgname=names, center=centres, scale=np.ones(n), part=np.zeros((n, 24, 3)), openpose=np.zeros((n, 25, 3)))
    return path


def test_an_export_follows_the_rows_it_is_given(world: World, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(world.persons))[3:]
    dataset = _dataset(tmp_path / "theirs.npz", world, order, strangers=5)
    record = world.export("spin", tmp_path / "out", aligned_to=str(dataset))
    assert record.skipped == {"no_row": 3}
    arrays = np.load(tmp_path / "out" / "extremes_train_spin_fits.npz")
    static = np.load(tmp_path / "out" / "extremes_fits.npy")
    assert static.shape == (5 + len(order), 82)
    assert arrays["valid_fit"].tolist() == [False] * 5 + [True] * len(order)
    assert not static[:5].any()
    assert np.array_equal(static, np.concatenate([arrays["pose"], arrays["betas"]], 1))
    for n, i in enumerate(order, 5):
        assert np.array_equal(arrays["pose"][n], np.float32(world.persons[i].pose))
    found = read_spin(tmp_path / "out" / "extremes_fits.npy", dataset, world.persons)
    assert set(found) == {world.persons[i].name for i in order}


def test_the_dataset_npz_has_the_annotated_joints(world: World, tmp_path: Path) -> None:
    world.export("spin", tmp_path / "out")
    arrays = np.load(tmp_path / "out" / "extremes_train.npz")
    sample_of = {}
    for entry in world.shard_set.manifest.shards:
        for sample, _ in read_samples(world.shard_set.fetch(entry), entry):
            sample_of[sample.image_path] = sample
    for name, part, centre, scale in zip(*(arrays[key] for key in ("imgname", "part", "center", "scale")), strict=True):
        near = [i for i in sample_of[str(name)].instances if np.allclose(np.add(i.bbox_xywh[:2], np.divide(i.bbox_xywh[2:], 2)), centre)]
        assert any(np.isclose(scale * 200, 1.2 * max(i.bbox_xywh[2:])) for i in near)
        left_knee = SKELETONS["coco17"].index("L_Knee")
        assert any(np.allclose(part[4], (*i.joints_img[left_knee], 1)) for i in near)  # SPIN's 'Left Knee' is the fifth
    assert not arrays["openpose"].any()


def test_joints_go_by_name_and_the_head_of_mocap_is_another() -> None:
    def person(skeleton: str) -> np.ndarray:
        n = len(SKELETONS[skeleton])
        joints = [(float(i), 0.5) for i in range(n)]
        return part_24(Instance(annotation_id="1", bbox_xywh=(0, 0, 9, 9), skeleton=skeleton, joints_img=joints, joints_valid=(True,) * n))

    assert ANNOTATED_24[12:14] == ("Neck", "Head_top")
    lsp, h36m, smpl = person("lsp14"), person("h36m17"), person("smpl24")
    assert lsp[:14, 0].tolist() == list(range(14))  # LSP's 14 joints are the first of the 24
    assert not lsp[14:].any()
    assert not h36m[13].any()
    assert h36m[18].tolist() == [SKELETONS["h36m17"].index("Head_top"), 0.5, 1]
    assert h36m[17].tolist() == [SKELETONS["h36m17"].index("Head"), 0.5, 1]
    assert not smpl[12].any()  # SMPL's neck is not LSP's
    assert smpl[9].tolist() == [SKELETONS["smpl24"].index("L_Shoulder"), 0.5, 1]


@pytest.mark.parametrize("static", [False, True])
def test_rows_the_file_calls_invalid_are_skipped(world: World, tmp_path: Path, static: bool) -> None:
    source = write_spin(tmp_path, world.persons, static=static, invalid=4)
    release = world.load("spin", source, tmp_path / "store")
    assert release.manifest.skipped == {"invalid_fit": 4}
    rows = release.table()
    assert set(rows["annotation_id"].to_pylist()) == {p.name for p in world.persons[:-4]}
    assert np.nanmedian(rows["reprojection_error"].to_numpy()) < 1e-3  # a camera was found: joints are seen where they are annotated


def _fits(path: Path, **options: str) -> list:
    return list(open_reader(path, Options(**options), lambda: None).fits())


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imgname=["a.jpg"], center=[[3.0, 4.0]], pose=np.ones((1, 72)), betas=np.ones((1, 10)))
    (fit,) = _fits(tmp_path / "a.npz")
    assert isinstance(fit, Fit)
    assert (fit.image, fit.centre_2.tolist(), fit.focal_2) == ("a.jpg", [3, 4], None)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="pose and betas, found none"):
        _fits(tmp_path)
    np.save(tmp_path / "a_fits.npy", np.zeros((3, 82)))
    with pytest.raises(MissingInput, match="imgname and center"):
        _fits(tmp_path)
    np.savez(tmp_path / "one.npz", imgname=["a", "b"], center=np.zeros((2, 2)))
    with pytest.raises(RawDataError, match="expected 2 rows"):
        _fits(tmp_path)
    np.savez(tmp_path / "two.npz", imgname=["a", "b", "c"], center=np.zeros((3, 2)))
    with pytest.raises(MissingInput, match=r"set spin\.dataset"):
        _fits(tmp_path)
    assert Counter(type(fit).__name__ for fit in _fits(tmp_path, dataset="two.npz")) == {"Unmapped": 3}
    with pytest.raises(ConfigError, match="name of a file"):
        _fits(tmp_path, dataset="../two.npz")
    np.save(tmp_path / "a_fits.npy", np.zeros((3, 72)))
    with pytest.raises(RawDataError, match=r"rows of shape \(82,\)"):
        _fits(tmp_path, dataset="two.npz")
    np.savez(tmp_path / "objects.npz", imgname=np.array(["a", None, "c"], object), center=np.zeros((3, 2)))
    with pytest.raises(UnsafeInput, match="pickled code"):
        _fits(tmp_path, dataset="objects.npz")
