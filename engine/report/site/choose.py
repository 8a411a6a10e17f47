"""Which persons of a release are on its site: all of them, or of a large release as many as a browser can hold.

Shapes: N persons of the release, M those on the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def choose(score_N: np.ndarray, most: int) -> np.ndarray:
    """Places (M,), ascending, of at most `most` persons: everybody; else a quarter the worst, a quarter the best, the rest evenly drawn.

    "Evenly" is over the release's own order, so every part of the dataset is there in proportion. Equal scores go by their place.
    """
    count = len(score_N)
    if count <= most:
        return np.arange(count)
    order = np.argsort(score_N, kind="stable")
    quarter = most // 4
    taken = np.zeros(count, bool)
    taken[order[:quarter]] = True
    taken[order[count - quarter :]] = True
    left = np.flatnonzero(~taken)
    wanted = most - 2 * quarter
    taken[left[(np.arange(wanted) * len(left)) // wanted]] = True
    return np.flatnonzero(taken)


def mixed_order(keys: list[str], persons: list[str]) -> np.ndarray:
    """An order (M,) by a digest of the photograph's name: like a draw, always the same, the persons of a photograph side by side."""
    digests = [blake2b(key.encode(), digest_size=8).digest() for key in keys]
    return np.array(sorted(range(len(keys)), key=lambda i: (digests[i], keys[i], persons[i])), np.int64)


def drawn(score_M: np.ndarray, keys: Sequence[str], count: int) -> dict[str, list[int]]:
    """Up to `count` places by kind: the worst, the best, and from the front of the mixed order; nobody twice.

    Of the last it is one of each photograph (`keys`: the persons'), and others only when there are no more photographs.
    """
    third = count // 3
    order = np.argsort(score_M, kind="stable").tolist()
    worst = order[: min(third, len(order))]
    best = [i for i in reversed(order) if i not in set(worst)][:third]
    taken = {*worst, *best}
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    mixed = sorted(range(len(keys)), key=lambda i: first[keys[i]] != i)
    random = [i for i in mixed if i not in taken][: count - 2 * third]
    return {"worst": worst, "random": random, "best": best}
