"""NumPy files from strangers: numbers come through, objects and sizes that are not in the file do not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine.datasets.npy import read_npy
from engine.errors import MissingInput, RawDataError, UnsafeInput


@pytest.mark.parametrize(
    "array", [np.arange(42.0).reshape(3, 14), np.asfortranarray(np.eye(3, dtype="f4")), np.array(5), np.zeros((0, 3)), np.array([True])]
)
def test_numbers_come_through(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy", 10_000)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


class Run:
    def __reduce__(self):
        return os.system, ("touch " + self.marker,)

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)


def test_objects_are_refused_and_do_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.save(tmp_path / "a.npy", np.array([Run(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeInput, match="Python objects"):
        read_npy(tmp_path / "a.npy", 10_000)
    assert not marker.exists()


def test_damage_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(MissingInput, match="cannot be read"):
        read_npy(path, 100)
    np.save(path, np.zeros((3, 14)))
    whole = path.read_bytes()
    with pytest.raises(UnsafeInput, match="at most 100 bytes"):
        read_npy(path, 100)
    huge = whole.replace(b"(3, 14), }   ", b"(300000000000,14), }"[:13].ljust(13))
    for damaged in (b"", b"\x93NUMPY", whole[:-8], whole + b"x", whole[:40], b"PK\x03\x04" + whole, huge):
        path.write_bytes(damaged)
        with pytest.raises(RawDataError):
            read_npy(path, 10_000)
    path.write_bytes(whole.replace(b"(3, 14)", b"(9**99)"))
    with pytest.raises(RawDataError):
        read_npy(path, 10_000)
    np.save(path, np.array(["a", "b"]))
    with pytest.raises(RawDataError, match="expected numbers"):
        read_npy(path, 10_000)
