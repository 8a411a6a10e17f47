"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow and without copies of images.

A file is a sequence of records: 8 bytes length, its masked CRC-32C, the payload, its masked CRC-32C (little-endian). A payload is a
protobuf message Example{1: Features{1: map<string, Feature>}}, Feature{1: BytesList | 2: FloatList | 3: Int64List}, each list
{1: repeated}. Numbers may be packed or not. Every length is bounded by what encloses it, so a hostile file costs an error and no
more memory than one record.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import google_crc32c
import numpy as np

from engine.errors import MissingInput, RawDataError

MAX_RECORD_BYTES = 256 << 20
"""A longer record is taken for damage: one of 500 frames of 50 kB with their features is 30 MB."""
MAX_FIELDS = 1 << 20
"""Most protobuf fields of one message: images, keys, and numbers that are not packed."""
Kind = Literal["bytes", "float", "int64"]
Span = tuple[int, int]
"""First byte and end of a part of a payload."""

_KINDS: dict[int, Kind] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_PLAIN_WIRE = {"bytes": _LENGTH, "float": _FIXED32, "int64": _VARINT}
_GZIP = b"\x1f\x8b\x08"


@dataclass(frozen=True)
class Record:
    """One record of a file."""

    number: int
    offset: int
    """Of the payload in the file, so that a span of the payload is a slice of the file."""
    payload: memoryview
    intact: bool
    """Whether the payload has the checksum that follows it; the records after one that has not are still found."""


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum TFRecord stores: CRC-32C (Castagnoli), rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[Record]:
    """Records of a file in order, one in memory at a time.

    RawDataError where the sequence breaks off: a length that fails its checksum, is beyond the file or beyond MAX_RECORD_BYTES, or a file
    that is compressed. MissingInput if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            yield from _records(path, file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None


def _records(path: Path, file: BinaryIO, file_bytes: int) -> Iterator[Record]:
    at, number = 0, 0
    while at < file_bytes:
        head = file.read(12)
        if len(head) < 12:
            raise RawDataError(f"{path}: ends within the header of record {number}; the download may be incomplete")
        length, crc = struct.unpack("<QI", head)
        if crc != masked_crc32c(head[:8]):
            if number == 0 and head.startswith(_GZIP):
                raise RawDataError(f"{path}: is gzip-compressed; images are read where they lie, so unpack it (gunzip) first")
            found = "it is no TFRecord file" if number == 0 else f"the file is damaged at byte {at}"
            raise RawDataError(f"{path}: the length of record {number} fails its checksum; {found}")
        if length > MAX_RECORD_BYTES:
            raise RawDataError(f"{path}: record {number} has {length} bytes, at most {MAX_RECORD_BYTES} are accepted")
        if at + 16 + length > file_bytes:
            raise RawDataError(f"{path}: record {number} has {length} bytes, the file ends before; the download may be incomplete")
        payload, tail = file.read(length), file.read(4)
        if len(tail) < 4:
            raise RawDataError(f"{path}: became shorter while it was read, within record {number}")
        (crc,) = struct.unpack("<I", tail)
        yield Record(number, at + 12, memoryview(payload), crc == masked_crc32c(payload))
        at += 16 + length
        number += 1


@dataclass
class _Feature:
    kind: Kind | None = None
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    """Wire type, first byte and end of each field 1 of its list."""


class Example:
    """A tf.train.Example over its payload. Values are decoded when asked for, and only if there are as many as asked for.

    RawDataError names the feature, or what is wrong with the message.
    """

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload.toreadonly()
        self._left = MAX_FIELDS
        self._features: dict[str, _Feature] = {}
        for number, wire, start, end in self._fields(0, len(payload)):
            if number == 1:
                self._expect(wire, _LENGTH, "Features")
                for inner, inner_wire, entry_start, entry_end in self._fields(start, end):
                    if inner == 1:
                        self._expect(inner_wire, _LENGTH, "a feature")
                        self._entry(entry_start, entry_end)

    def __contains__(self, name: str) -> bool:
        return name in self._features and self._features[name].kind is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def spans(self, name: str, count: int | None = None) -> list[Span]:
        """Where in the payload the byte strings of a feature lie; RawDataError unless there are `count` (None: any number)."""
        found = [(start, end) for _, start, end in self._parts(name, "bytes")]
        if count is not None and len(found) != count:
            raise RawDataError(f"feature {name}: expected {count} byte strings, found {len(found)}")
        return found

    def floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A float feature, float32 of this shape."""
        parts = self._parts(name, "float")
        total = sum(end - start for _, start, end in parts)
        if total != 4 * int(np.prod(shape)) or any((end - start) % 4 for _, start, end in parts):
            raise RawDataError(f"feature {name}: expected {int(np.prod(shape))} floats, found {total / 4:g}")
        arrays = [np.frombuffer(self._payload[start:end], "<f4") for _, start, end in parts]
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays or [np.zeros(0, "<f4")])).reshape(shape)

    def ints(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An int64 feature of this shape."""
        count, parts = int(np.prod(shape)), self._parts(name, "int64")
        # A value has 1 to 10 bytes: nothing larger than asked for is ever decoded.
        if not count <= sum(end - start for _, start, end in parts) <= 10 * count:
            raise RawDataError(f"feature {name}: expected {count} integers, found another number")
        values = [_varints(self._payload[start:end], name) for _, start, end in parts]
        found = np.concatenate(values or [np.zeros(0, np.int64)])
        if len(found) != count:
            raise RawDataError(f"feature {name}: expected {count} integers, found {len(found)}")
        return found.reshape(shape)

    def _parts(self, name: str, kind: Kind) -> list[tuple[int, int, int]]:
        feature = self._features.get(name, _Feature())
        if feature.kind != kind:
            raise RawDataError(f"feature {name}: expected a list of {kind}, found {feature.kind or 'none'}")
        return feature.parts

    def _entry(self, start: int, end: int) -> None:
        """One entry of the map; a later one of the same key takes its place, as protobuf has it."""
        key, feature = "", _Feature()
        for number, wire, inner_start, inner_end in self._fields(start, end):
            if number == 1:
                self._expect(wire, _LENGTH, "a feature's name")
                try:
                    key = str(self._payload[inner_start:inner_end], "utf-8")
                except UnicodeDecodeError:
                    raise RawDataError("Example: expected a feature's name in UTF-8, found other bytes") from None
            elif number == 2:
                self._expect(wire, _LENGTH, "a feature's value")
                self._feature(feature, inner_start, inner_end)
        self._features[key] = feature

    def _feature(self, feature: _Feature, start: int, end: int) -> None:
        for number, wire, list_start, list_end in self._fields(start, end):
            if (kind := _KINDS.get(number)) is None:
                continue
            self._expect(wire, _LENGTH, f"a list of {kind}")
            if feature.kind != kind:  # the last of a oneof counts
                feature.kind, feature.parts = kind, []
            for item, item_wire, item_start, item_end in self._fields(list_start, list_end):
                if item == 1:
                    if item_wire not in (_LENGTH, _PLAIN_WIRE[kind]):
                        raise RawDataError(f"Example: a list of {kind} holds an item of wire type {item_wire}")
                    feature.parts.append((item_wire, item_start, item_end))

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, first byte and end of the value of every field between two bytes."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise RawDataError(f"Example: more than {MAX_FIELDS} fields")
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            start = at
            if wire == _VARINT:
                _, at = self._varint(at, end)
            elif wire == _LENGTH:
                length, start = self._varint(at, end)
                at = start + length
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            else:
                raise RawDataError(f"Example: field {number} has the wire type {wire}, which no protobuf of today has")
            if number == 0 or at > end:
                raise RawDataError(f"Example: field {number} ends at byte {at}, what it lies in at byte {end}")
            yield number, wire, start, at

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise RawDataError(f"Example: a number at byte {at} does not end")
            byte = self._payload[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value, at
        raise RawDataError(f"Example: a number before byte {at} has more than 10 bytes")

    @staticmethod
    def _expect(wire: int, expected: int, what: str) -> None:
        if wire != expected:
            raise RawDataError(f"Example: expected wire type {expected} for {what}, found {wire}")


def _varints(data: memoryview, name: str) -> np.ndarray:
    """Packed varints as int64, two's complement."""
    bytes_N = np.frombuffer(data, np.uint8)
    last_N = bytes_N < 0x80
    if last_N.all():
        return bytes_N.astype(np.int64)
    if not last_N[-1]:
        raise RawDataError(f"feature {name}: its last number does not end")
    ends = np.flatnonzero(last_N)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= 10:
        raise RawDataError(f"feature {name}: a number has more than 10 bytes")
    place_N = np.arange(len(bytes_N)) - np.repeat(starts, ends - starts + 1)
    bits_N = (bytes_N & np.uint8(0x7F)).astype(np.uint64) << (7 * place_N).astype(np.uint64)
    return np.bitwise_or.reduceat(bits_N, starts).astype(np.int64)
