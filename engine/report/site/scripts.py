"""Data as classic scripts: `PSEUDOGT.add(name, value)`, because a page opened from disk may fetch nothing.

Numbers travel as base64 of little-endian arrays. What comes from data is a JSON string whose `<` is escaped, so it can end no script.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np


def script(name: str, value: Any) -> bytes:
    """The script that hands `value` to the page. ValueError for NaN outside of packed arrays."""
    text = ",".join(json.dumps(part, allow_nan=False, separators=(",", ":")) for part in (name, value))
    return f"PSEUDOGT.add({text});\n".replace("<", "\\u003c").encode()


def packed(values: np.ndarray) -> str:
    """Base64 of an array's numbers as float32, int32 or int16, by its kind and size."""
    kind = "<f4" if values.dtype.kind == "f" else "<i2" if values.dtype.itemsize == 2 else "<i4"
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
