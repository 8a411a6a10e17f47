"""What of the training data cannot be learnt from: numbers that are none, and sources without one usable person.

One NaN in a target reaches every weight through the loss, a mask of 0 or not, because 0 x NaN is NaN. So such a person is found
before it enters a batch, loses all its supervision, and is named with the field that was at fault.

Shapes: B instances of a batch, N of a sample.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import RawDataError
from engine.loading.instances import INSTANCE

_FLOATS = [name for name in INSTANCE.names or () if INSTANCE[name].base.kind == "f"]
LARGEST_TARGET = 1e6
"""Targets are metres, radians and heat-map cells: nothing true is near it."""
_ENOUGH = 64
"""Persons of a source that are looked at before it is called unusable."""


def withdraw_nonfinite(rows_N: np.ndarray, names: Sequence[str]) -> dict[str, str]:
    """Empty the INSTANCE records that hold a NaN or an infinity, in place; why, by name."""
    problems = _unsound({field: rows_N[field] for field in _FLOATS}, names)
    for position, name in enumerate(names):
        if name in problems:
            image_wh = rows_N["image_wh"][position].copy()
            rows_N[position] = np.zeros((), dtype=INSTANCE)
            rows_N["image_wh"][position], rows_N["box"][position] = image_wh, (0, 0, 1, 1)
    return problems


def withdraw_targets(targets: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, str]:
    """Zero all targets and masks of persons one of whose targets overflowed or is absurd, in place; why, by name.

    A joint a million heat-map cells away is no number that is none, but its square, under bf16 or not, soon makes one.
    """
    if all((np.abs(values) <= LARGEST_TARGET).all() for values in targets.values()):
        return {}
    problems = _unsound(targets, names, LARGEST_TARGET)
    for position, name in enumerate(names):
        if name in problems:
            for values in targets.values():
                values[position] = 0
    return problems


class SourceWatch:
    """Raises when the first persons of a source, at most 64, are unusable one and all. Safe to use from several threads."""

    def __init__(self, title: str, persons: int) -> None:
        """`title` names the source in the error; `persons` is how many distinct ones there are to meet."""
        self._title, self._enough = title, min(max(1, persons), _ENOUGH)
        self._met: dict[str, str] | None = {}
        self._lock = threading.Lock()

    def met(self, name: str, usable: bool, reason: str) -> None:
        """Note a person of a batch. RawDataError once enough were met and none was usable."""
        if self._met is None:
            return
        with self._lock:
            if usable:
                self._met = None
            elif self._met is not None:
                self._met.setdefault(name, reason)
                if len(self._met) >= self._enough:
                    first, why = next(iter(self._met.items()))
                    raise RawDataError(
                        f"loading: of the first {len(self._met)} persons of {self._title} none can be used; the first, {first}: {why}; "
                        "mend the data and ingest again, or take the source out of the config"
                    )


def _unsound(values: Mapping[str, np.ndarray], names: Sequence[str], largest: float = math.inf) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, array in values.items():
        size_NK = np.abs(array).reshape(len(names), math.prod(array.shape[1:]))
        for position in np.flatnonzero(~(np.isfinite(size_NK) & (size_NK <= largest)).all(axis=1)):
            problem = f"is beyond {largest:g}" if np.isfinite(size_NK[position]).all() else "is not finite"
            found.setdefault(names[position], f"{field} has a number that {problem}")
    return found
