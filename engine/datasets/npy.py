"""NumPy's `.npy` files from strangers: numbers only, and no more of them than the file has bytes for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from engine.errors import MissingInput, RawDataError, UnsafeInput


def read_npy(path: Path, max_bytes: int) -> np.ndarray:
    """The array of numbers in a file of at most `max_bytes`.

    MissingInput if there is none, UnsafeInput if it is larger or holds pickled objects, RawDataError if it is damaged.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise UnsafeInput(f"{path}: expected at most {max_bytes} bytes, found more")
    return parse_npy(data, str(path))


def parse_npy(data: bytes, path: str) -> np.ndarray:
    """The array of numbers in a file's bytes, which are not copied; `path` is its name in errors, which are those of `read_npy`."""
    try:
        buffer = io.BytesIO(data)
        version = np.lib.format.read_magic(buffer)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read_header(buffer)
    except Exception as error:  # a damaged header is parsed as whatever its bytes say
        raise RawDataError(
            f"{path}: expected a NumPy file, found {type(error).__name__}: {error}; the download may be incomplete"
        ) from None
    if dtype.hasobject:
        raise UnsafeInput(f"{path}: holds Python objects, which are pickled code; expected numbers. Get the file from its publisher")
    if dtype.kind not in "fiub":
        raise RawDataError(f"{path}: expected numbers, found {dtype}")
    count = int(np.prod(shape, dtype=object))
    if len(data) - buffer.tell() != count * dtype.itemsize:
        raise RawDataError(
            f"{path}: expected {count * dtype.itemsize} bytes of numbers, found {len(data) - buffer.tell()}; the download may be incomplete"
        )
    return np.frombuffer(data, dtype, count, buffer.tell()).reshape(shape, order="F" if fortran else "C")
