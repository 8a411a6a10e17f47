"""What JPEG and PNG files are made of: whether one is whole, found without decoding a pixel, and its metadata taken out.

A file that was cut short, overwritten or padded by a failed download shows in its structure: a JPEG's scan has no end mark, a PNG's
chunk no right checksum. What stands behind the end is nobody's business: cameras and photo sites leave zeros, second pictures and text
there. Compressed pixels that are damaged in between go unseen; only decoding finds those.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from engine.errors import SampleRejected

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
"""What the two begin with."""
_SOS, _APP1 = 0xDA, 0xE1
_END = b"\xff\xd9"
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_OR_ARITHMETIC = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Frames that decoders of photographs read: sequential and progressive; not lossless, not hierarchical."""
_JPEG_METADATA = (b"Exif\0", b"http://ns.adobe.com/x")
_PNG_METADATA = (b"Raw profile type", b"XML:com.adobe.xmp")


class Structure(NamedTuple):
    """What the structure of a whole file tells."""

    width: int
    height: int
    has_metadata: bool
    """EXIF or XMP, either of which can hold an orientation."""


def read_structure(data: bytes) -> Structure:
    """Size and metadata of a JPEG or PNG, all of whose parts are there, from the first byte to its end mark.

    SampleRejected 'image_undecodable' says what is missing or damaged.
    """
    try:
        return (_read_png if data.startswith(PNG) else _read_jpeg)(data)
    except (struct.error, IndexError) as error:
        raise _damaged(f"truncated or damaged: {error}") from None


def without_metadata(data: bytes) -> bytes:
    """The same compressed pixels without EXIF and XMP, which both can hold an orientation."""
    try:
        return _png_without_metadata(data) if data.startswith(PNG) else _jpeg_without_metadata(data)
    except (struct.error, IndexError) as error:
        raise _damaged(f"segments do not add up: {error}") from None


def _read_jpeg(data: bytes) -> Structure:
    height = width = end = 0
    metadata = False
    for marker, at, end in _jpeg_segments(data):  # noqa: B007
        if marker in _FRAMES:
            bits, height, width = struct.unpack_from(">BHH", data, at + 4)
            if marker not in _HUFFMAN_OR_ARITHMETIC or bits != 8:
                raise _damaged(f"a JPEG of a kind that decoders do not read (frame {marker:#04x}, {bits} bits)")
        elif marker == _APP1 and data.startswith(_JPEG_METADATA, at + 4):
            metadata = True
    if not width or not height:
        raise _damaged(f"a JPEG whose header says {width}x{height} pixels")
    if data.rfind(_END, end) < 0:
        raise _damaged(f"truncated: no end mark in the {max(0, len(data) - end)} bytes of its pixels")
    return Structure(width, height, metadata)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment up to and with the first scan's header. IndexError where they do not follow each other."""
    at, marker = 2, 0
    while marker != _SOS:
        if data[at] != 0xFF:
            raise IndexError(f"no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:  # a fill byte, or a marker without content
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            raise IndexError(f"a segment of length {length} at byte {at}")
        yield marker, at, at + 2 + length
        at += 2 + length


def _jpeg_without_metadata(data: bytes) -> bytes:
    kept, scan = [data[:2]], 2
    for marker, at, end in _jpeg_segments(data):
        scan = at
        if marker != _SOS and not (marker == _APP1 and data.startswith(_JPEG_METADATA, at + 4)):
            kept.append(data[at:end])
    return b"".join([*kept, data[scan:]])


def _read_png(data: bytes) -> Structure:
    view, kinds, metadata = memoryview(data), [], False
    for kind, at, end in _png_chunks(data):
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _damaged(f"chunk {kind!r} at byte {at} fails its checksum")
        metadata = metadata or _is_metadata(data, kind, at)
        kinds.append(kind)
    width, height = struct.unpack_from(">II", data, 16)
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds or not width or not height:
        raise _damaged(f"a PNG of {width}x{height} pixels whose chunks are {b', '.join(kinds[:4]).decode('latin1')}")
    return Structure(width, height, metadata)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every chunk up to and with IEND. IndexError or struct.error where they do not follow each other."""
    at, kind = 8, b""
    while kind != b"IEND":
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        if end > len(data):
            raise IndexError(f"the chunk at byte {at} goes on to byte {end} of {len(data)}")
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        at = end


def _png_without_metadata(data: bytes) -> bytes:
    return b"".join([data[:8], *(data[at:end] for kind, at, end in _png_chunks(data) if not _is_metadata(data, kind, at))])


def _is_metadata(data: bytes, kind: bytes, at: int) -> bool:
    return kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(_PNG_METADATA, at + 8))


def _damaged(message: str) -> SampleRejected:
    return SampleRejected("image_undecodable", message)
