"""Samples to one tar whose bytes depend on nothing but the samples: sorted, canonical JSON, no clock, no user.

The tar is WebDataset's: members `<key>.jpg` (or .png) and `<key>.json`. It is written as it comes, so a shard needs no more memory than
its largest image, and hashed while its pieces are warm.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable

from engine.shards.tar import BLOCK, end_mark, header, padding
from schemas.sample import Sample


class ShardWriter:
    """One tar, written piece by piece in the order of `add`, and its index. Nothing is left in memory but the index."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write, self._sha256 = write, hashlib.sha256()
        self._pending = b""
        self._size = 0
        self._rows: list[bytes] = []
        self.samples = self.instances = 0

    def add(self, key: str, image: bytes, extension: str, record: bytes, instances: int) -> None:
        """An image ('jpg' or 'png') and its sample's JSON. Keys must be plain, unique and come in order; none of the two may be empty."""
        image_header, note = header(f"{key}.{extension}", len(image)), header(f"{key}.json", len(record)) + record + padding(len(record))
        start = self._size + len(self._pending)
        if extension < "json":  # members of a sample are sorted, as WebDataset's writer leaves them
            self._put(self._pending + image_header)
            image_offset = start + BLOCK
            json_offset = image_offset + len(image) + -len(image) % BLOCK + BLOCK
            self._put(image)
            self._pending = padding(len(image)) + note
        else:
            self._put(self._pending + note + image_header)
            json_offset, image_offset = start + BLOCK, start + len(note) + BLOCK
            self._put(image)
            self._pending = padding(len(image))
        self.samples += 1
        self.instances += instances
        self._rows.append(
            b'{"image_offset":%d,"image_size":%d,"instances":%d,"json_offset":%d,"json_size":%d,"key":"%s"}\n'
            % (image_offset, len(image), instances, json_offset, len(record), key.encode())
        )

    def close(self) -> None:
        """Write the archive's end."""
        self._put(self._pending)
        self._put(end_mark(self._size))

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        """Of the tar, once it is closed."""
        return self._sha256.hexdigest()

    def index(self) -> bytes:
        """JSON lines of ShardIndexRow."""
        return b"".join(self._rows)

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._sha256.update(data)
        self._size += len(data)


def write_shard(samples: Iterable[tuple[Sample, bytes, str]]) -> tuple[bytes, bytes]:
    """Tar bytes and index bytes (JSON lines of ShardIndexRow) of (sample, image bytes, 'jpg' | 'png'), in the order of their keys."""
    buffer = io.BytesIO()
    writer = ShardWriter(buffer.write)
    for sample, image, extension in sorted(samples, key=lambda item: item[0].key):
        writer.add(sample.key, image, extension, sample.to_bytes(), len(sample.instances))
    writer.close()
    return buffer.getvalue(), writer.index()
