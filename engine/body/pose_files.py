"""Poses out of the npz files people have: SMPL's (N, 72), AMASS's (N, 156), bare body poses (N, 63).

The root's orientation and the hands are left out; what stays are the 21 body joints a pose prior knows.
"""

from __future__ import annotations

import zipfile

import fsspec
import numpy as np

from engine.errors import MissingInput, RawDataError

_COLUMNS = {63: slice(0, 63), 72: slice(3, 66), 156: slice(3, 66), 165: slice(3, 66)}
"""Where the body pose is, by the width of the array: bare, SMPL, SMPL-H (AMASS), SMPL-X."""


def read_pose_files(patterns: tuple[str, ...]) -> list[np.ndarray]:
    """Body poses (N, 63) float32, axis-angle in radians, one array for each sequence in the npz files of paths, URLs or globs.

    A file's `poses` is taken if it has one (AMASS), else every array whose name contains "pose".
    Raises MissingInput for a pattern that matches no file, RawDataError for a file without poses or of another shape.
    """
    sequences: list[np.ndarray] = []
    for pattern in patterns:
        files = fsspec.open_files(pattern, "rb")
        if not files or not all(file.fs.exists(file.path) for file in files):
            raise MissingInput(f"pose_files {pattern!r}: no such file; expected npz files of SMPL or AMASS poses")
        for file in sorted(files, key=lambda f: f.path):
            with file as handle:
                sequences += _read(handle, file.path)
    return sequences


def _read(handle: object, path: str) -> list[np.ndarray]:
    try:
        with np.load(handle, allow_pickle=False) as arrays:
            names = ["poses"] if "poses" in arrays.files else sorted(name for name in arrays.files if "pose" in name)
            found = {name: arrays[name] for name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise RawDataError(f"{path}: expected an npz of plain arrays, found {error}; remove it from pose_files") from None
    if not found:
        raise RawDataError(f"{path}: expected an array 'poses' or '*pose*', found none; remove it from pose_files")
    return [_body_pose(array, f"{path}: {name}") for name, array in found.items()]


def _body_pose(array: np.ndarray, what: str) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] not in _COLUMNS or array.dtype.kind != "f":
        raise RawDataError(f"{what}: expected float (N, {' | '.join(map(str, _COLUMNS))}), found {array.dtype} {array.shape}")
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > 4 * np.pi:
        raise RawDataError(f"{what}: expected axis-angle in radians, found NaN, infinity or angles of more than two turns (degrees?)")
    return array[:, _COLUMNS[array.shape[1]]].astype(np.float32)
