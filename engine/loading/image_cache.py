"""Decoded images kept in memory, so that a set that fits is decoded once and not once an epoch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np


class ImageCache:
    """Least-recently-used images, bounded in bytes; capacity 0 keeps none. Thread-safe. Images are shared: do not write to them."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity, self._held = capacity_bytes, 0
        self._images: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> np.ndarray | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def put(self, key: Hashable, image: np.ndarray) -> None:
        """Keep a copy, and let go of what was used longest ago. An image larger than the cache is not kept."""
        if image.nbytes > self._capacity:
            return
        image = image.copy()
        with self._lock:
            if key not in self._images:
                self._held += image.nbytes
                self._images[key] = image
            while self._held > self._capacity:
                self._held -= self._images.popitem(last=False)[1].nbytes
