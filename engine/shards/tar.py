"""A strict reader of the one kind of tar that shards are, and the headers it is written with.

Python's tarfile, and WebDataset above it, take a damaged header for the end of the archive and stop without a word. Here
every byte of structure is accounted for: plain headers with right checksums, plain names, regular files, and the two
zero blocks at the end. Payloads are covered by the manifest's sha256, not here.
"""

from __future__ import annotations

import re
from mmap import mmap
from typing import NamedTuple

from engine.errors import ShardCorrupt

BLOCK = 512
MAX_IMAGE_BYTES = 256 << 20
MAX_JSON_BYTES = 16 << 20
_RECORD = 20 * BLOCK
"""Archives end on a multiple of this, as every tar program writes them."""
_MODE, _ZERO_ID, _NO_TIME, _PLAIN = b"0000444\0", b"0000000\0", b"00000000000\0", b"0"
_ZEROS = bytes(1 << 16)
SHARD = re.compile(rb"([A-Za-z0-9_-]+)\.(jpg|jpeg|png|json)")
"""Names of a shard's members."""
SELF_CONTAINED = re.compile(rb"([A-Za-z0-9_-]+)\.(jpg|jpeg|png|json|npz)")
"""Names of the members of an exported tar, which has the annotation with it."""


def header(name: str, size: int, names: re.Pattern[bytes] = SHARD) -> bytes:
    """The block before a member's content: a plain file that everybody may read, of no user and no time. ShardCorrupt if it is empty."""
    plain, octal = name.encode(), b"%011o\0" % size
    if len(plain) > 100 or not names.fullmatch(plain):
        raise ValueError(f"member name {name!r}: expected <key>.jpg, .png or .json, at most 100 bytes")
    _require_plausible(name, size)
    start = plain.ljust(100, b"\0") + _MODE + _ZERO_ID + _ZERO_ID + octal + _NO_TIME
    end = _PLAIN + bytes(100) + b"ustar\x0000"
    checksum = sum(start) + sum(end) + 8 * 32
    return (start + b"%06o\0 " % checksum + end).ljust(BLOCK, b"\0")


def _require_plausible(name: str, size: int) -> None:
    if not 0 < size <= (MAX_JSON_BYTES if name.endswith((".json", ".npz")) else MAX_IMAGE_BYTES):
        raise ShardCorrupt(f"member {name}: {size} bytes is not a plausible size")


def padding(size: int) -> bytes:
    """Zeros behind a member's content."""
    return _ZEROS[: -size % BLOCK]


def end_mark(size: int) -> bytes:
    """Zeros behind the last member of an archive that is this long."""
    return _ZEROS[: 2 * BLOCK + -(size + 2 * BLOCK) % _RECORD]


class Member(NamedTuple):
    """One file of a shard; `offset` is of its content, bytes from the start of the tar."""

    key: str
    extension: str
    offset: int
    size: int


def members(data: bytes | mmap | memoryview, names: re.Pattern[bytes] = SHARD) -> list[Member]:
    """All members, in order, of bytes that are not copied. ShardCorrupt says what is wrong at which byte."""
    found, at, end = [], 0, len(data)
    while True:
        header = bytes(data[at : at + BLOCK])
        if len(header) < BLOCK:
            raise ShardCorrupt(f"ends at byte {end} without the archive's end mark; it is cut off")
        if not header.rstrip(b"\0"):
            if not _all_zero(data, at) or end - at < 2 * BLOCK:
                raise ShardCorrupt(f"expected nothing but zero blocks from byte {at}, found {end - at} bytes of something else")
            return found
        found.append(_member(header, at, names))
        at += BLOCK + -(-found[-1].size // BLOCK) * BLOCK
        if at > end:
            raise ShardCorrupt(
                f"member {found[-1].key}.{found[-1].extension} goes on to byte {at}, but the file ends at {end}; it is cut off"
            )


def _all_zero(data: bytes | mmap | memoryview, start: int) -> bool:
    chunks = (data[at : at + len(_ZEROS)] for at in range(start, len(data), len(_ZEROS)))
    return all(chunk == _ZEROS[: len(chunk)] for chunk in chunks)


def _member(header: bytes, at: int, names: re.Pattern[bytes]) -> Member:
    try:
        checksum, size = int(header[148:156].strip(b" \0"), 8), int(header[124:136].strip(b" \0"), 8)
    except ValueError:
        raise ShardCorrupt(f"no tar header at byte {at}") from None
    if checksum != sum(header) - sum(header[148:156]) + 8 * 32:
        raise ShardCorrupt(f"tar header at byte {at}: its checksum does not match")
    name = header[:100].rstrip(b"\0")
    match = names.fullmatch(name)
    if match is None or header[345:500].strip(b"\0"):
        raise ShardCorrupt(
            f"tar header at byte {at}: member name {name!r} is not <key>.<extension> with a plain key, as in {names.pattern.decode()}"
        )
    if header[156:157] not in (b"0", b"\0"):
        raise ShardCorrupt(f"member {name.decode()}: expected a regular file, found tar type {header[156:157]!r}")
    key, extension = match[1].decode(), match[2].decode()
    _require_plausible(name.decode(), size)
    return Member(key, extension, at + BLOCK, size)
