"""MATLAB files: both versions give the same plain values, and damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from engine.datasets.matlab import cells, number, read_mat
from engine.errors import MissingInput, RawDataError, UnsafeInput
from engine.synthetic.layouts.matlab import cell, struct_array, write_mat

POINTS = struct_array([{"x": np.array([[1.5]]), "id": np.array([[3]])}, {"x": np.array([[2.5]]), "id": np.zeros((0, 0))}])
CONTENT = {
    "joints": np.arange(24.0).reshape(2, 3, 4),
    "flags": np.array([[True, False]]),
    "small": np.arange(3, dtype=np.uint8).reshape(1, 3),
    "text": "im00001.jpg",
    "one": {"name": "a", "points": POINTS, "deep": {"empty": np.zeros((0, 0))}},
    "people": cell([{"annot2": np.ones((2, 17))}]),
    "frames": cell([np.ones((3, 2)), "b", np.zeros((0, 0)), {"k": np.array([[1.0]])}], (2, 2)),
}


def _same(a: Any, b: Any) -> None:
    if isinstance(b, dict):
        assert isinstance(a, dict) and sorted(a) == sorted(b)
        for name in b:
            _same(a[name], b[name])
    elif isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray) and a.shape == b.shape and (a.dtype == object) == (b.dtype == object)
        for x, y in zip(a.flat, b.flat, strict=True):
            _same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_what_is_written_is_read(tmp_path: Path, version: Any) -> None:
    write_mat(tmp_path / "a.mat", CONTENT, version)
    found = read_mat(tmp_path / "a.mat")
    assert sorted(found) == sorted(CONTENT)
    for name, value in CONTENT.items():
        _same(found[name], value)
    assert list(read_mat(tmp_path / "a.mat", "text")) == ["text"]
    with pytest.raises(RawDataError, match="'annolist'"):
        read_mat(tmp_path / "a.mat", "annolist")


def test_the_files_are_what_the_libraries_say(tmp_path: Path) -> None:
    """Both are read as MATLAB's own by readers that are not ours."""
    for version in ("5", "7.3"):
        write_mat(tmp_path / f"{version}.mat", CONTENT, version)
    assert scipy.io.loadmat(tmp_path / "5.mat", squeeze_me=True)["one"]["points"].item()["x"][1] == 2.5
    with pytest.raises(NotImplementedError, match=r"HDF reader for matlab v7\.3"):
        scipy.io.loadmat(tmp_path / "7.3.mat")
    with h5py.File(tmp_path / "7.3.mat") as file:
        assert file["joints"].shape == (4, 3, 2) and file["joints"].attrs["MATLAB_class"] == b"double"
        assert file[file["frames"][0, 0]].shape == (2, 3)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, version: Any) -> None:
    path = tmp_path / "annot.mat"
    write_mat(path, {"joints": np.random.default_rng(0).normal(size=(40, 50))}, version)
    whole = path.read_bytes()
    for part in (0, 60, 300, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:part])
        with pytest.raises(RawDataError, match=r"annot\.mat"):
            read_mat(path, "joints")


def test_what_only_matlab_reads_is_refused(tmp_path: Path) -> None:
    write_mat(tmp_path / "f.mat", {"f": "sin"}, "7.3")
    with h5py.File(tmp_path / "f.mat", "r+") as file:
        file["f"].attrs["MATLAB_class"] = np.bytes_("function_handle")
    with pytest.raises(UnsafeInput, match="function_handle"):
        read_mat(tmp_path / "f.mat")
    nested: Any = np.ones((1, 1))
    for _ in range(30):
        nested = cell([nested])
    write_mat(tmp_path / "deep.mat", {"x": nested})
    with pytest.raises(UnsafeInput, match="deep"):
        read_mat(tmp_path / "deep.mat")
    with pytest.raises(MissingInput):
        read_mat(tmp_path / "none.mat")


def test_cells_and_numbers() -> None:
    assert cells(cell([1, 2, 3, 4], (2, 2))) == [1, 2, 3, 4] and cells(np.zeros((0, 0))) == [] and cells({"a": 1}) == [{"a": 1}]
    assert [number(v) for v in (np.array([[2]]), "1", 3, np.zeros((0, 0)), "x", None, [1])] == [2, 1, 3, None, None, None, None]
