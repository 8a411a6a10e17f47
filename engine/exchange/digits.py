"""float32 numbers as JSON: the shortest digits that read back as the same float32, half the bytes of a float64's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def json_numbers(values: np.ndarray) -> str:
    """A JSON array, nested as the array is, of finite numbers. ValueError on NaN and infinities, which JSON does not have."""
    flat = np.asarray(values, np.float32)
    if not np.isfinite(flat).all():
        raise ValueError("JSON has neither NaN nor infinities")
    digits = pa.array(flat.ravel()).cast(pa.string()).to_pylist()
    for size in reversed(flat.shape):
        digits = ["[" + ",".join(digits[at : at + size]) + "]" for at in range(0, len(digits), size)]
    return digits[0] if digits else "[]"
