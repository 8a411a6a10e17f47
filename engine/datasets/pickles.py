"""Pickles of raw datasets, read without running code from them.

A pickle may name any importable function; this reader knows a handful that build numpy values and plain containers, and
refuses every other name before anything of it is imported.
"""

from __future__ import annotations

import collections
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric

from engine.errors import RawDataError, UnsafeInput

MAX_PICKLE_BYTES = 4 << 30


def _reconstruct(subtype: type, shape: Any, dtype: Any) -> np.ndarray:
    if subtype is not np.ndarray or shape != (0,):
        raise UnsafeInput(f"a pickled array starts as {subtype!r} of shape {shape!r}; numpy writes an empty ndarray there")
    return multiarray._reconstruct(subtype, shape, dtype)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise UnsafeInput(f"a pickled byte string uses the codec {encoding!r}; pickle itself writes latin1")
    return text.encode("latin1")


_NUMPY: dict[str, dict[str, Any]] = {
    "core.multiarray": {"_reconstruct": _reconstruct, "scalar": multiarray.scalar},
    "core.numeric": {"_frombuffer": numeric._frombuffer},
}
_CONTAINERS = (list, dict, tuple, set, frozenset, complex, bytearray)
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(f"numpy.{prefix}{module}", name): value for prefix in ("", "_") for module in _NUMPY for name, value in _NUMPY[module].items()},
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _CONTAINERS},
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafeInput(f"it asks for {module}.{name}, which a data file does not need") from None


def read_pickle(path: Path) -> Any:
    """Content of a pickle of numpy values, strings (Python 2's as latin1), numbers and plain containers.

    UnsafeInput names any other global it asks for; RawDataError if it is no pickle at all.
    """
    try:
        with open(path, "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_PICKLE_BYTES:
                raise UnsafeInput(f"{size} bytes is more than any sequence file has ({MAX_PICKLE_BYTES})")
            return _AllowListUnpickler(file, encoding="latin1").load()
    except UnsafeInput as error:
        raise UnsafeInput(f"{path}: {error}; refusing to read it. Get the file from its publisher, or convert it to plain numpy") from None
    except Exception as error:  # a malformed pickle raises whatever its opcodes run into
        raise RawDataError(f"{path}: not a readable pickle: {type(error).__name__}: {error}; the download may be incomplete") from None
