"""CLIFF's files: its own cameras go through exactly, others as well as they can, and odd rows cost themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import RawDataError
from engine.exchange.base import Fit, Unmapped
from engine.exchange.cliff import Options, open_reader
from engine.exchange.cliff_camera import diagonal_camera, to_cliff
from tests.engine.exchange.conftest import World
from tests.engine.exchange.extremes import joints_of
from tests.engine.exchange.independent import compare, read_cliff

ROW = {
    "imgname": ["a/b.jpg"] * 2, "center": np.full((2, 2), 9.0), "scale": np.ones(2), "annot_id": [3, 4], "pose": np.zeros((2, 72)),
    "shape": np.zeros((2, 10)), "has_smpl": [1.0, 0.0], "global_t": np.full((2, 3), 5.0), "focal_l": np.full(2, 500.0),
}  # fmt: skip


def _read(path: Path, **change: object) -> list[Fit | Unmapped]:
    np.savez(path, **{name: value for name, value in (ROW | change).items() if value is not None})
    return list(open_reader(path, Options(), lambda: None).fits())


def test_rows_without_a_fit_are_invalid_and_ids_come_first(tmp_path: Path) -> None:
    fit, invalid = _read(tmp_path / "a.npz")
    assert (fit.annotation_id, fit.focal_2.tolist(), fit.princpt_2) == ("3", [500, 500], None)
    assert (invalid.reason, invalid.annotation_id) == ("invalid_fit", "4")
    fit, _ = _read(tmp_path / "a.npz", annot_id=None, has_smpl=None)
    assert (fit.annotation_id, fit.image, fit.centre_2.tolist()) == (None, "a/b.jpg", [9, 9])
    assert _read(tmp_path / "a.npz", annot_id=[3.0, 4.0])[0].annotation_id == "3"
    assert _read(tmp_path / "a.npz", annot_id=["x", "y"])[0].annotation_id == "x"


def test_odd_rows_and_files(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.npz", focal_l=[0.0, 1.0])[0].reason == "invalid_camera"
    assert _read(tmp_path / "a.npz", focal_l=[np.nan, 1.0])[0].reason == "invalid_camera"
    with pytest.raises(RawDataError, match="global_t"):
        _read(tmp_path / "a.npz", global_t=None)
    with pytest.raises(RawDataError, match="same length"):
        _read(tmp_path / "a.npz", focal_l=np.ones(3))


def test_the_body_itself_goes_through_whatever_the_camera(world: World, tmp_path: Path) -> None:
    world.export("cliff", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.npz")
    found = read_cliff(path, world.persons)
    assert len(found) == len(world.persons)
    apart = compare(world.skin, world.persons, [found[p.name] for p in world.persons])
    assert apart.mm_unturned_N.max() < 1e-3
    arrays = np.load(path)
    row = {str(identity): n for n, identity in enumerate(arrays["annot_id"])}
    said = np.array([arrays["moved_px"][row[p.name]] for p in world.persons])
    assert (said <= apart.px_N + 0.01).all()  # of joints, which lie among the vertices
    assert np.median(apart.px_N / np.maximum(said, 1e-9)) < 3


def test_turning_the_person_brings_them_closer(world: World) -> None:
    """To what a reader sees who only translates the person before the same camera."""
    joints = joints_of(world.body, world.persons)
    better = []
    for person, points in zip(world.persons, joints, strict=True):
        focal, princpt = diagonal_camera(*person.size)
        there = points + person.transl
        seen = there[:, :2] / there[:, 2:] * person.focal + person.princpt
        rays = (seen - princpt) / focal
        rows = [[[1, 0, -u], [0, 1, -v]] for u, v in rays]
        wanted = rays * points[:, 2:] - points[:, :2]
        only = points + np.linalg.lstsq(np.reshape(rows, (-1, 3)), wanted.ravel(), rcond=None)[0]
        moved = np.linalg.norm(only[:, :2] / only[:, 2:] * focal + princpt - seen, axis=1).max()
        better.append(to_cliff(points, np.zeros(3), seen, focal, princpt).moved_px < moved)
    assert np.mean(better) > 0.8
