"""What an image's first bytes promise: its format and size, read without decoding.

A cheap check before pixels are allocated: DALI can name the culprit of a failed batch only sometimes, and a header may
claim a size that would exhaust memory. Shards hold JPEG and PNG, nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import SampleRejected

MAX_PIXELS = 100_000_000
"""Larger than any photograph in the field's datasets (0.3 GB as RGB)."""

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageHeader(NamedTuple):
    kind: str
    width: int
    height: int


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Format and size of a JPEG or PNG as stored (EXIF orientation not applied).

    Raises SampleRejected with reason 'undecodable' (empty, another format, no readable header) or 'too_large'.
    """
    if not data:
        raise SampleRejected("undecodable", "image is empty (0 bytes)")
    if data[:3] == b"\xff\xd8\xff":
        header = ImageHeader("jpeg", *_jpeg_size(data))
    elif data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        header = ImageHeader("png", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    else:
        raise SampleRejected("undecodable", f"image is neither JPEG nor PNG: starts with {data[:8].hex()}, {len(data)} bytes")
    if header.width == 0 or header.height == 0:
        raise SampleRejected("undecodable", f"{header.kind} header says {header.width}x{header.height} px")
    if header.width * header.height > max_pixels:
        raise SampleRejected("too_large", f"{header.kind} header says {header.width}x{header.height} px, more than {max_pixels} pixels")
    return header


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the first frame; markers before it are skipped by their length."""
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_STARTS and at + 9 <= end:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise SampleRejected("undecodable", f"JPEG of {len(data)} bytes has no frame header; cut short or not a photograph")
