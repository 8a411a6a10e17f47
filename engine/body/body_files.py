"""Reads a body in SMPL's file schema, .npz or .pkl, without running anything found in it.

SMPL's official files are pickles of numpy arrays, one scipy sparse matrix and chumpy objects. They are read through an
allow-list: arrays and containers are built, scipy and chumpy objects become inert holders of their state, from which the array
is taken, and any other name in the pickle is an error. V vertices, F faces.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.errors import ConfigError, UnsafeInput
from schemas.skeletons import SMPL_PARENTS

OPEN_BODY = Path(__file__).parent / "assets" / "open_body.npz"
MAX_BYTES = 2_000_000_000


@dataclass(frozen=True)
class BodyArrays:
    """A body's arrays, float32 and int64, as in SMPL's file."""

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    weights: np.ndarray
    f: np.ndarray
    kintree_table: np.ndarray
    regressors: dict[str, np.ndarray] = field(default_factory=dict)
    """Dense (J, V) by skeleton, for files that bring their own."""


@lru_cache(maxsize=1)
def open_arrays() -> BodyArrays:
    """The open body's arrays. Do not write to them."""
    return read_body_file(OPEN_BODY)


def arrays_digest(arrays: BodyArrays) -> str:
    """sha256 of a body's arrays and of its training joints; what a manifest names a body by."""
    sha = hashlib.sha256()
    parts = {key: value for key, value in vars(arrays).items() if key != "regressors"}
    parts |= {f"regressor_{k}": v for k, v in arrays.regressors.items() if k == "pose2pose33"}
    for key in sorted(parts):
        sha.update(f"{key} {parts[key].shape} {parts[key].dtype}\n".encode())
        sha.update(np.ascontiguousarray(parts[key]).tobytes())
    return sha.hexdigest()


def read_body_file(path: Path) -> BodyArrays:
    """Arrays of a body file. ConfigError if a key is missing or a shape contradicts the schema, UnsafeInput if it wants more than data."""
    if path.stat().st_size > MAX_BYTES:
        raise UnsafeInput(f"{path}: {path.stat().st_size} bytes, expected a body of less than {MAX_BYTES}")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {key: file[key] for key in file.files}
        except (ValueError, OSError, EOFError) as error:
            raise UnsafeInput(f"{path}: not an npz of plain arrays: {error}") from None
    else:
        with path.open("rb") as handle:
            content = _read_pickle(handle, path)
    return _validated(content, path)


def _validated(content: dict[str, Any], path: Path) -> BodyArrays:
    wanted = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
    missing = [key for key in wanted if key not in content]
    if missing:
        raise ConfigError(f"{path}: missing {', '.join(missing)}; expected a file in SMPL's schema, found keys {sorted(map(str, content))}")
    arrays = {key: _as_array(content[key], f"{path}: {key}") for key in wanted}
    v = len(arrays["v_template"])
    shapes = {
        "v_template": (v, 3),
        "shapedirs": (v, 3, None),
        "posedirs": (v, 3, 207),
        "J_regressor": (24, v),
        "weights": (v, 24),
        "f": (None, 3),
        "kintree_table": (2, 24),
    }
    for key, shape in shapes.items():
        found = arrays[key].shape
        if len(found) != len(shape) or any(want is not None and want != have for want, have in zip(shape, found, strict=True)):
            raise ConfigError(f"{path}: {key} has shape {found}, expected {tuple('any' if s is None else s for s in shape)}")
    if arrays["shapedirs"].shape[2] < 10:
        raise ConfigError(f"{path}: shapedirs has {arrays['shapedirs'].shape[2]} components, expected at least 10")
    if tuple(arrays["kintree_table"][0].astype(np.int64)[1:]) != SMPL_PARENTS[1:]:
        raise ConfigError(f"{path}: kintree_table is not SMPL's tree of 24 joints")
    if arrays["f"].min() < 0 or arrays["f"].max() >= v:
        raise ConfigError(f"{path}: f names vertex {arrays['f'].max()}, expected 0 to {v - 1}")
    for key in ("weights", "J_regressor"):
        if np.abs(arrays[key].sum(1) - 1).max() > 0.01:
            raise ConfigError(f"{path}: rows of {key} must sum to 1")
    floats = {key: np.ascontiguousarray(arrays[key], np.float32) for key in ("v_template", "posedirs", "J_regressor", "weights")}
    return BodyArrays(
        **floats,
        shapedirs=np.ascontiguousarray(arrays["shapedirs"][:, :, :10], np.float32),
        f=arrays["f"].astype(np.int64),
        kintree_table=np.array([SMPL_PARENTS, range(24)], np.int64),
        regressors=_own_regressors(content, v),
    )


def _own_regressors(content: dict[str, Any], vertices: int) -> dict[str, np.ndarray]:
    regressors = {}
    for key in content:
        if isinstance(key, str) and key.startswith("regressor_") and key.endswith("_row"):
            stem = key.removesuffix("_row")
            row, column, value = (content[f"{stem}_{part}"] for part in ("row", "column", "value"))
            dense = np.zeros((int(row.max()) + 1, vertices), np.float32)
            dense[row, column] = value
            regressors[stem.removeprefix("regressor_")] = dense
    return regressors


# --- Pickles ----------------------------------------------------------------------------------------------------------


class _Inert:
    """Stands for an object of another library: keeps the state that was pickled and can do nothing."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _InertChumpy(_Inert):
    pass


class _InertCsc(_Inert):
    pass


class _InertCsr(_Inert):
    pass


def _reconstruct_inert(cls: type, base: type, state: Any) -> Any:
    """What protocol 0 to 2 pickles call to make a new-style object."""
    if not issubclass(cls, _Inert):
        raise pickle.UnpicklingError(f"object of {cls.__name__}")
    return cls()


def _encode_latin1(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("copy_reg", "_reconstructor"): _reconstruct_inert,
    ("copyreg", "_reconstructor"): _reconstruct_inert,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("_codecs", "encode"): _encode_latin1,
}
for _module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[(_module, "ndarray")] = np.ndarray
    _ALLOWED[(_module, "dtype")] = np.dtype
    _ALLOWED[(_module, "_reconstruct")] = np._core.multiarray._reconstruct
    _ALLOWED[(_module, "scalar")] = np._core.multiarray.scalar
    _ALLOWED[(_module, "_frombuffer")] = np._core.numeric._frombuffer
for _format, _holder in (("csc", _InertCsc), ("csr", _InertCsr)):
    for _module in (f"scipy.sparse.{_format}", f"scipy.sparse._{_format}"):
        _ALLOWED[(_module, f"{_format}_matrix")] = _holder


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _InertChumpy
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def _read_pickle(handle: BinaryIO, path: Path) -> dict[str, Any]:
    try:
        content = _DataUnpickler(handle, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise UnsafeInput(f"{path}: wants {error}, which is no data; expected arrays only. Get the file from its publisher again") from None
    except (EOFError, ValueError, TypeError, AttributeError, LookupError, ImportError, OverflowError, MemoryError) as error:
        raise UnsafeInput(f"{path}: not a pickle of a body: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a pickled dict in SMPL's schema, found {type(content).__name__}")
    return content


def _as_array(value: Any, where: str) -> np.ndarray:
    if isinstance(value, _InertCsc | _InertCsr):
        return _dense(value, where)
    if isinstance(value, _InertChumpy):
        value = value.state.get("x") if isinstance(value.state, dict) else None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{where}: expected an array of numbers, found {type(value).__name__}")
    return array


def _dense(value: _Inert, where: str) -> np.ndarray:
    state = value.state if isinstance(value.state, dict) else {}
    try:
        shape, data, indices, indptr = (state[key] for key in ("_shape", "data", "indices", "indptr"))
        major = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        dense = np.zeros(shape)
        np.add.at(dense, (indices, major) if isinstance(value, _InertCsc) else (major, indices), data)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: broken sparse matrix: {error}") from None
    return dense
