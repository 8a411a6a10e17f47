"""MATLAB files of both kinds, version 5 and version 7.3 (HDF5), as the same plain Python values.

Nothing is squeezed: what MATLAB calls a 1x1 struct with a 3x2 field is a dict with an array of shape (3, 2). A numeric or logical
array is an ndarray of MATLAB's shape, text a str, a 1x1 struct a dict, any other struct array and a cell an object ndarray of MATLAB's
shape. Function handles and objects of classes, which only MATLAB understands, are refused.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque, mat_struct

from engine.errors import MissingInput, RawDataError, UnsafeInput

MAX_MAT_BYTES = 4 << 30
MAX_DEPTH = 16
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Variables of a MATLAB file: all, or those named, which must be there.

    MissingInput if there is no file, RawDataError if it is damaged or lacks a variable, UnsafeInput if it holds what only MATLAB can read.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(520)
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
    if size > MAX_MAT_BYTES:
        raise UnsafeInput(f"{path}: {size} bytes is more than any annotation file has ({MAX_MAT_BYTES})")
    try:
        found = _read_hdf5(path, names) if _HDF5 in (head[:8], head[512:]) else _read_v5(path, names)
    except (RawDataError, UnsafeInput):
        raise
    except Exception as error:  # a damaged file leads both readers into whatever its bytes say
        what = f"{type(error).__name__}: {error}"
        raise RawDataError(f"{path}: expected a MATLAB file, found {what[:200]}; the download may be incomplete") from None
    if missing := sorted(set(names) - set(found)):
        raise RawDataError(f"{path}: expected the variable {missing[0]!r}, which is not in it")
    return found


def _read_v5(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    found = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=False, chars_as_strings=True, variable_names=names or None)
    return {name: _plain_v5(value, path) for name, value in found.items() if not name.startswith("__")}


def _plain_v5(value: Any, path: Path, depth: int = 0) -> Any:
    _check_depth(path, depth)
    if isinstance(value, MatlabFunction | MatlabOpaque | MatlabObject):
        raise UnsafeInput(f"{path}: holds a MATLAB {type(value).__name__}, which a data file does not need")
    if isinstance(value, mat_struct):
        return {field: _plain_v5(getattr(value, field), path, depth + 1) for field in value._fieldnames}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "U":
        return "\n".join(str(row) for row in value.ravel())
    if value.dtype != object:
        return value
    found = _mapped(value, lambda inner: _plain_v5(inner, path, depth + 1))
    is_struct = value.size == 1 and isinstance(value.flat[0], mat_struct)
    return found.flat[0] if is_struct else found


def _read_hdf5(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        return {name: _plain_hdf5(file[name], file, path) for name in file if not name.startswith("#") and (not names or name in names)}


def _plain_hdf5(node: Any, file: h5py.File, path: Path, depth: int = 0) -> Any:
    _check_depth(path, depth)
    kind = node.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind in ("function_handle", "opaque") or "MATLAB_object_decode" in node.attrs:
        raise UnsafeInput(f"{path}: holds a MATLAB {kind or 'object'}, which a data file does not need")

    def follow(reference: Any) -> Any:
        return _plain_hdf5(file[reference], file, path, depth + 1)

    if isinstance(node, h5py.Group):
        fields = {name: node[name] for name in node}
        arrays = [f for f in fields.values() if isinstance(f, h5py.Dataset) and f.dtype == h5py.ref_dtype and "MATLAB_class" not in f.attrs]
        if not arrays or len(arrays) < len(fields):
            return {name: _plain_hdf5(field, file, path, depth + 1) for name, field in fields.items()}
        shape = arrays[0].shape[::-1]
        columns = {name: _mapped(field[()].T, follow) for name, field in fields.items()}
        return _mapped(np.arange(int(np.prod(shape))).reshape(shape), lambda i: {name: column.flat[i] for name, column in columns.items()})
    if node.attrs.get("MATLAB_empty", 0):
        shape = tuple(int(n) for n in np.asarray(node[()]).ravel())
        return "" if kind == "char" else np.empty(shape, object if kind in ("cell", "struct") else np.float64)
    if node.dtype == h5py.ref_dtype:
        return _mapped(node[()].T, follow)
    values = np.ascontiguousarray(np.asarray(node[()]).T)
    if kind == "char":
        return "\n".join("".join(map(chr, row)) for row in np.atleast_2d(values))
    return values.astype(bool) if kind == "logical" else values


def _mapped(values: np.ndarray, convert: Any) -> np.ndarray:
    out = np.empty(values.shape, object)
    for i in range(values.size):
        out.flat[i] = convert(values.flat[i])
    return out


def _check_depth(path: Path, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnsafeInput(f"{path}: nested more than {MAX_DEPTH} deep; an annotation file is not")


def cells(value: Any) -> list[Any]:
    """A cell or struct array as a flat list in MATLAB's order (column by column); a single thing as a list of it, nothing as []."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value.ravel(order="F"))
    if isinstance(value, np.ndarray) and value.size == 0:
        return []
    return [value]


def number(value: Any) -> float | None:
    """The only number in a value, given as a number, a 1x1 array or text; None if there is none."""
    if isinstance(value, np.ndarray):
        if value.size != 1:
            return None
        value = value.flat[0]
    with contextlib.suppress(TypeError, ValueError):
        return float(value)
    return None
