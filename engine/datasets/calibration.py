"""MPI-INF-3DHP's `camera.calibration`: "Skeletool Camera Calibration File V1.0", the studio's cameras as text.

A camera is a `name` line followed by indented lines, each a keyword with numbers: `sensor` (mm), `size` (px), `animated`, `intrinsic`
and `extrinsic` (4x4, row by row, world to camera with its translation in millimetres) and `radial`. Lines are told by their keyword.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.datasets.fixed_cameras import FixedCamera, make_camera
from engine.errors import MissingInput, RawDataError

HEADER = "Skeletool Camera Calibration File"
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera of the studio and the size of its images, pixels."""

    camera: FixedCamera
    width: int
    height: int


def read_calibration(path: Path) -> dict[int, CalibratedCamera | str]:
    """Cameras by number; what is wrong with one in its place. MissingInput if there is no file, RawDataError if it is another one."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1).decode("latin1")
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
    lines = text.splitlines()
    if len(text) > MAX_BYTES or not lines or not lines[0].startswith(HEADER):
        raise RawDataError(f"{path}: expected {HEADER!r} on its first line, found {lines[0][:60] if lines else ''!r}")
    sections: dict[int, dict[str, list[str]]] = {}
    entries: dict[str, list[str]] = {}
    for line in lines[1:]:
        keyword, *values = line.split() or [""]
        if keyword == "name":
            entries = {}
            if values and values[0].isdecimal():
                entries = sections.setdefault(int(values[0]), entries)
        elif keyword:
            entries.setdefault(keyword, values)
    if not sections:
        raise RawDataError(f"{path}: expected cameras (lines 'name <number>'), found none; the download may be incomplete")
    return {number: _camera(entries) for number, entries in sections.items()}


def _camera(entries: dict[str, list[str]]) -> CalibratedCamera | str:
    try:
        K, world_to_camera = (np.array(entries[name], np.float64).reshape(4, 4) for name in ("intrinsic", "extrinsic"))
        camera = make_camera(world_to_camera[:3, :3], world_to_camera[:3, 3], K[[0, 1], [0, 1]], K[:2, 2])
        width, height = (int(float(value)) for value in entries["size"])
        if width <= 0 or height <= 0:
            raise ValueError(f"expected a size above 0, found {width}x{height}")
    except KeyError as error:
        return f"lacks its line {error}"
    except (ValueError, OverflowError) as error:
        return str(error)
    return CalibratedCamera(camera, width, height)
