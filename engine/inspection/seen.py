"""Which of millions of names came by before, in 8 bytes a name.

A name is its 64-bit hash, so two different names pass for one with a chance of n^2 / 2^65: once in 370,000 sets of ten million.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

import numpy as np


def name_hash(*parts: str | bytes) -> int:
    """64 bits of names that are told apart part by part."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest(), "little")


class Seen:
    """A set of names that only grows: recent ones in a Python set, older ones in a sorted array."""

    def __init__(self, pending: int = 1 << 18) -> None:
        """pending: how many recent names the Python set holds before they are sorted into the array."""
        self._pending = pending
        self._old = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._old) + len(self._recent)

    def add(self, *parts: str | bytes) -> bool:
        """Whether the name is new; it is known from now on."""
        value = name_hash(*parts)
        if value in self._recent:
            return False
        at = int(np.searchsorted(self._old, np.uint64(value)))
        if at < len(self._old) and int(self._old[at]) == value:
            return False
        self._recent.add(value)
        if len(self._recent) >= self._pending:
            self._old = np.sort(np.concatenate([self._old, np.fromiter(self._recent, np.uint64, len(self._recent))]))
            self._recent = set()
        return True


class Tally:
    """Sums by name, of names that come again at any time; 16 bytes an addition."""

    def __init__(self) -> None:
        self._names, self._counts = array("Q"), array("Q")

    def add(self, count: int, *parts: str | bytes) -> None:
        self._names.append(name_hash(*parts))
        self._counts.append(count)

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all names, sorted, and the sum of each."""
        names, places = np.unique(np.frombuffer(self._names, np.uint64), return_inverse=True)
        return names, np.bincount(places, np.frombuffer(self._counts, np.uint64), len(names)).astype(np.int64)
