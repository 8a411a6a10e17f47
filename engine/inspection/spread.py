"""How numbers are spread, from a stream and in bounded memory.

Percentiles of up to 65,536 numbers are exact. Of more, numbers are counted in bins 1 % wide, and percentiles are right to half a percent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from engine.inspection.record import Spread

_STEP = math.log(1.01)
_TINIEST = 1e-6
_EXACT = 1 << 16
_HUGE = 1e290
"""Larger numbers count as this, so that their sum stays one."""


class SpreadCounter:
    """Counts numbers; those that are not finite not at all. In bins, all below 1e-6 are one."""

    def __init__(self) -> None:
        self._exact: list[np.ndarray] | None = []
        self._bins: Counter[int] = Counter()
        self._least, self._largest, self._sum = math.inf, -math.inf, 0.0
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        """Count numbers of any shape."""
        values = np.asarray(values, np.float64).ravel()
        values = np.clip(values[np.isfinite(values)], -_HUGE, _HUGE)
        if not len(values):
            return
        self.count += len(values)
        self._sum += float(values.sum())
        self._least, self._largest = min(self._least, float(values.min())), max(self._largest, float(values.max()))
        if self._exact is not None:
            self._exact.append(values)
            if self.count <= _EXACT:
                return
            values, self._exact = np.concatenate(self._exact), None
        bins, counts = np.unique(np.floor(np.log(np.maximum(values, _TINIEST)) / _STEP).astype(int), return_counts=True)
        self._bins.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))

    def spread(self) -> Spread | None:
        """None where nothing was counted."""
        if not self.count:
            return None
        at = self._from_values() if self._exact is not None else self._from_bins()
        return Spread(
            count=self.count, mean=self._sum / self.count, least=self._least, p01=at(0.01), p05=at(0.05), p25=at(0.25), median=at(0.5),
            p75=at(0.75), p95=at(0.95), p99=at(0.99), largest=self._largest,
        )  # fmt: skip

    def _from_values(self) -> Callable[[float], float]:
        values = np.sort(np.concatenate(self._exact or []))
        return lambda share: float(values[round(share * (len(values) - 1))])

    def _from_bins(self) -> Callable[[float], float]:
        bins = sorted(self._bins)
        reached = np.cumsum([self._bins[b] for b in bins])

        def at(share: float) -> float:
            where = bins[int(np.searchsorted(reached, round(share * (self.count - 1)), side="right"))]
            return min(max(math.exp((where + 0.5) * _STEP), self._least), self._largest)

        return at
