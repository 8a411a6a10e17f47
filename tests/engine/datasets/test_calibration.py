"""MPI-INF-3DHP's camera.calibration: told by keywords, one bad camera costs itself, other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.datasets.calibration import CalibratedCamera, read_calibration
from engine.errors import MissingInput, RawDataError

TEXT = """Skeletool Camera Calibration File V1.0
name          0
  sensor      10 10
  size        2048 2048
  animated    0
  intrinsic   1497.693 0 1024.704 0 0 1497.103 1051.394 0 0 0 1 0 0 0 0 1
  extrinsic   0 0 -1 12.5 0 -1 0 700 -1 0 0 3000 0 0 0 1
  radial      0
name          1
  size        2048 1024
  extrinsic   1 0 0 0 0 1 0 0 0 0 1 2000 0 0 0 1
  intrinsic   1500 0 1000 0 0 1400 500 0 0 0 1 0 0 0 0 1
"""


def _write(root: Path, text: str | bytes) -> Path:
    path = root / "camera.calibration"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_are_told_by_their_keyword_and_lengths_become_metres(tmp_path: Path) -> None:
    found = read_calibration(_write(tmp_path, TEXT.replace("\n", "\r\n")))
    assert sorted(found) == [0, 1]
    first, second = found[0], found[1]
    assert isinstance(first, CalibratedCamera) and isinstance(second, CalibratedCamera)
    assert (first.width, first.height, second.width, second.height) == (2048, 2048, 2048, 1024)
    np.testing.assert_array_equal(first.camera.focal, [1497.693, 1497.103])
    np.testing.assert_array_equal(first.camera.princpt, [1024.704, 1051.394])
    # x_cam = (-z + 0.0125, -y + 0.7, -x + 3) for a point of the world in metres.
    np.testing.assert_allclose(first.camera.to_camera(np.array([1.0, 2, 3])), [-2.9875, -1.3, 2.0])
    np.testing.assert_array_equal(second.camera.focal, [1500, 1400])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  intrinsic   1497.693 0 1024.704 0 0 1497.103 1051.394 0 0 0 1 0 0 0 0 1\n", "", "lacks its line 'intrinsic'"),
        ("1497.693 0", "1497.693", "reshape"),
        ("1497.693", "nan", "expected finite"),
        ("1497.693", "-1497.693", "focal length above 0"),
        ("1497.693", "focal", "could not convert"),
        ("0 0 -1 12.5 0 -1 0", "0 0 -2 12.5 0 -1 0", "not a rotation"),
        ("0 0 -1 12.5", "0 0 1 12.5", "not a rotation"),
        ("2048 2048", "2048", "not enough values"),
        ("2048 2048", "inf 2048", "cannot convert"),
        ("2048 2048", "0 2048", "size above 0"),
    ],
)
def test_a_bad_camera_costs_itself(tmp_path: Path, old: str, new: str, said: str) -> None:
    found = read_calibration(_write(tmp_path, TEXT.replace(old, new, 1)))
    assert isinstance(found[0], str) and said in found[0]
    assert isinstance(found[1], CalibratedCamera)


@pytest.mark.parametrize("text", ["", "\n\n", "Skeletool Camera Calibration File V1.0\n", b"\x80\x02}q\x00.", "x" * (2 << 20)])
def test_another_file_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(RawDataError, match="expected"):
        read_calibration(_write(tmp_path, text))
    with pytest.raises(MissingInput, match="cannot be read"):
        read_calibration(tmp_path / "other")
