"""MATLAB files of both kinds from plain Python values, as MATLAB writes them; the inverse of engine.datasets.matlab.

A dict is a 1x1 struct, what `struct_array` makes a struct array, what `cell` makes a cell, a str a char row, an array an array.
Numbers and arrays get MATLAB's two dimensions at least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import scipy.io

_CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}


class Cell(np.ndarray):
    """An object ndarray that is written as a cell, whatever it holds."""


def write_mat(path: Path, variables: dict[str, Any], version: Literal["5", "7.3"] = "5") -> None:
    """A MATLAB file with these variables; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "5":
        scipy.io.savemat(path, {name: _for_v5(value) for name, value in variables.items()}, do_compression=True, oned_as="row")
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_group("#refs#")
        for name, value in variables.items():
            _write_hdf5(file, name, value, references)
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2018 HDF5 schema 1.00 .".ljust(124) + b"\0\2IM")


def struct_array(rows: list[dict[str, Any]], shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An object ndarray of dicts: 1xN unless another shape is given (filled in MATLAB's order)."""
    return _filled(rows, shape)


def cell(values: list[Any], shape: tuple[int, ...] | None = None) -> Cell:
    """A cell: 1xN unless another shape is given (filled in MATLAB's order)."""
    return _filled(values, shape).view(Cell)


def _filled(values: list[Any], shape: tuple[int, ...] | None) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out.reshape(shape or (1, len(values)), order="F")


def _for_v5(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _for_v5(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        if _is_struct_array(value):
            fields = list(value.flat[0])
            out = np.empty(value.shape, [(field, object) for field in fields])
            for index in np.ndindex(value.shape):
                for field in fields:
                    out[index][field] = _for_v5(value[index][field])
            return out
        out = np.empty(value.shape, object)
        for index in np.ndindex(value.shape):
            out[index] = _for_v5(value[index])
        return out
    return value


def _is_struct_array(array: np.ndarray) -> bool:
    return bool(array.size) and not isinstance(array, Cell) and all(isinstance(v, dict) for v in array.flat)


def _write_hdf5(parent: h5py.Group, name: str, value: Any, references: h5py.Group) -> h5py.Dataset | h5py.Group:
    def refer(inner: Any) -> h5py.Reference:
        return _write_hdf5(references, f"r{len(references)}", inner, references).ref

    if isinstance(value, dict):
        node = parent.create_group(name)
        node.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, inner in value.items():
            _write_hdf5(node, field, inner, references)
        return node
    if isinstance(value, str):
        codes = np.array([[ord(c)] for c in value], np.uint16)
        return _array(parent, name, codes if value else np.zeros(2, np.uint64), "char", empty=not value)
    array = np.asanyarray(value)
    array = array if array.ndim >= 2 else array.reshape(1, -1)
    if array.dtype != object:
        kind = _CLASSES.get(array.dtype.name, array.dtype.name)
        if array.size == 0:
            return _array(parent, name, np.array(array.shape, np.uint64), kind, empty=True)
        return _array(parent, name, array.T.astype(np.uint8) if kind == "logical" else array.T, kind)
    if _is_struct_array(array):
        node = parent.create_group(name)
        node.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in array.flat[0]:
            node.create_dataset(field, data=_mapped(array.T, lambda row, field=field: refer(row[field])), dtype=h5py.ref_dtype)
        return node
    if not array.size:
        return _array(parent, name, np.array(array.shape, np.uint64), "cell", empty=True)
    node = parent.create_dataset(name, data=_mapped(array.T, refer), dtype=h5py.ref_dtype)
    node.attrs["MATLAB_class"] = np.bytes_("cell")
    return node


def _array(parent: h5py.Group, name: str, data: np.ndarray, kind: str, empty: bool = False) -> h5py.Dataset:
    node = parent.create_dataset(name, data=data)
    node.attrs["MATLAB_class"] = np.bytes_(kind)
    if empty:
        node.attrs["MATLAB_empty"] = np.uint8(1)
    return node


def _mapped(values: np.ndarray, convert: Any) -> np.ndarray:
    out = np.empty(values.shape, h5py.ref_dtype)
    for index in np.ndindex(values.shape):
        out[index] = convert(values[index])
    return out
