"""Published SMPL fits of MoCap datasets: hundreds of thousands, looked up without holding them, and the rest pelvis they turn about.

A fit is a JSON object {pose: 72, shape: 10, trans: 3}, radians and metres. One with a NaN or another count counts as absent.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.body.smpl import Body

_SIZES = (("pose", 72), ("shape", 10), ("trans", 3))
_ROW = sum(size for _, size in _SIZES)


class Fit(NamedTuple):
    pose_72: np.ndarray
    betas_10: np.ndarray
    trans_3: np.ndarray


class FitTable:
    """Fits by number, in a temporary file without a name: 16 bytes of memory each. Of two fits with one number the first counts."""

    def __init__(self, fits: Iterable[tuple[int, Any]]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the table
        keys = array("q")
        for key, record in fits:
            if (row := _row(record)) is not None:
                keys.append(key)
                self._file.write(row.tobytes())
        self._file.flush()
        found = np.array(keys, np.int64)
        self._order = np.argsort(found, kind="stable")
        self._keys = found[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: int) -> Fit | None:
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        data = os.pread(self._file.fileno(), 4 * _ROW, int(self._order[place]) * 4 * _ROW)
        return Fit(*np.split(np.frombuffer(data, np.float32).astype(np.float64), (72, 82)))


def _row(record: Any) -> np.ndarray | None:
    try:
        parts = [np.asarray(record[name], np.float32).ravel() for name, _ in _SIZES]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    row = np.concatenate(parts)
    return row if [part.size for part in parts] == [size for _, size in _SIZES] and np.isfinite(row).all() else None


class RestPelvis:
    """Pelvis of a body at rest as a function of its betas; SMPL's joints are linear in them, so eleven bodies give it exactly."""

    def __init__(self, body: Body) -> None:
        betas = torch.cat([torch.zeros(1, 10), torch.eye(10)])
        with torch.no_grad():
            pelvis = body(torch.zeros(11, 72), betas).joints_B243[:, 0].double().numpy()
        self._mean_3, self._slope_103 = pelvis[0], pelvis[1:] - pelvis[0]

    def __call__(self, betas_10: np.ndarray) -> np.ndarray:
        """Of one body (10) or several (B, 10), metres."""
        return self._mean_3 + betas_10 @ self._slope_103
