"""Random numbers that are a pure function of what they are for.

Order and augmentation must come out the same whichever rank, worker or resumed run asks for them, so nothing here has
state: a 64-bit key is hashed from names and counters, and the n-th draw of a key is one splitmix64 step away. Whole
batches are drawn at once.

Shapes: B keys, N draws.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def stable_key(*parts: str | int) -> int:
    """A 64-bit key of names and integers, the same on every machine. The parts are delimited, so ("a", "bc") != ("ab", "c")."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele, Lea and Flood 2014) on uint64 of any shape."""
    z = (values ^ (values >> np.uint64(30))) * _M1
    z = (z ^ (z >> np.uint64(27))) * _M2
    return z ^ (z >> np.uint64(31))


def random_bits(keys_B: np.ndarray, draws: int) -> np.ndarray:
    """(B, draws) uint64: the first `draws` numbers of every key's own sequence."""
    counters_N = (np.arange(1, draws + 1, dtype=np.uint64)) * _GOLDEN
    return _mix(np.asarray(keys_B, dtype=np.uint64)[:, None] + counters_N)


def uniform(keys_B: np.ndarray, draws: int) -> np.ndarray:
    """(B, draws) float64 in [0, 1)."""
    return (random_bits(keys_B, draws) >> np.uint64(11)) * 2.0**-53


def normal(uniform_first_B: np.ndarray, uniform_second_B: np.ndarray) -> np.ndarray:
    """N(0, 1) from two uniforms in [0, 1) (Box-Muller)."""
    return np.sqrt(-2.0 * np.log1p(-uniform_first_B)) * np.cos(2.0 * np.pi * uniform_second_B)


def permutation(key: int, length: int) -> np.ndarray:
    """A permutation of range(length), int64, from one key."""
    bits = random_bits(np.array([key], dtype=np.uint64), length)[0]
    return np.argsort(bits, kind="stable")
