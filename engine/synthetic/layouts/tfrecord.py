"""TFRecord files with tf.train.Example messages, as TensorFlow writes them; the inverse of engine.datasets.tfrecord."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import google_crc32c
import numpy as np

FeatureValue = np.ndarray | list[bytes]
"""Integers become an int64 list, floats a float list of 32 bits, both flattened; bytes a list of byte strings."""


def write_records(path: Path, payloads: Iterable[bytes]) -> int:
    """A TFRecord file with these records, one in memory at a time; their number. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(path, "wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + struct.pack("<I", _masked(length)))
            file.write(payload)
            file.write(struct.pack("<I", _masked(payload)))
            written += 1
    return written


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """A serialized tf.train.Example, numbers packed, in the order of its keys."""
    entries = []
    for name, value in features.items():
        entry = _field(1, name.encode()) + _field(2, _feature(value))
        entries.append(_field(1, entry))
    return _field(1, b"".join(entries))


def _feature(value: FeatureValue) -> bytes:
    if isinstance(value, list):
        return _field(1, b"".join(_field(1, item) for item in value))
    if np.issubdtype(value.dtype, np.floating):
        return _field(2, _field(1, value.astype("<f4").tobytes()))
    return _field(3, _field(1, b"".join(_varint(int(number)) for number in value.ravel())))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # two's complement, so a negative number has ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
