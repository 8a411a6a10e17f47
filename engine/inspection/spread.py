"""How numbers are spread, from a stream and in bounded memory: bins 1 % wide, so a percentile is right to half a percent."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from engine.inspection.record import Spread

_STEP = math.log(1.01)
_TINIEST = 1e-6


class SpreadCounter:
    """Counts of numbers from 1e-6 on; smaller ones, negative ones too, count as one lowest bin, what is not finite not at all."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._least, self._largest, self._sum = math.inf, -math.inf, 0.0
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        """Count numbers of any shape."""
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.count += len(values)
        self._sum += float(values.sum())
        self._least, self._largest = min(self._least, float(values.min())), max(self._largest, float(values.max()))
        bins, counts = np.unique(np.floor(np.log(np.maximum(values, _TINIEST)) / _STEP).astype(int), return_counts=True)
        self._bins.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))

    def spread(self) -> Spread | None:
        """None where nothing was counted."""
        if not self.count:
            return None
        bins = sorted(self._bins)
        reached = np.cumsum([self._bins[b] for b in bins])

        def at(share: float) -> float:
            where = bins[int(np.searchsorted(reached, share * (self.count - 1), side="right"))]
            return min(max(math.exp((where + 0.5) * _STEP), self._least), self._largest)

        return Spread(
            count=self.count, mean=self._sum / self.count, least=self._least, p01=at(0.01), p05=at(0.05), p25=at(0.25), median=at(0.5),
            p75=at(0.75), p95=at(0.95), p99=at(0.99), largest=self._largest,
        )  # fmt: skip
