"""Samples to one tar whose bytes depend on nothing but the samples: sorted, canonical JSON, no clock, no user.

The tar is WebDataset's: members `<key>.jpg` (or .png) and `<key>.json`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from webdataset import TarWriter

from engine.shards.tar import members
from schemas.manifests import ShardIndexRow
from schemas.records import canonical_json
from schemas.sample import Sample


def write_shard(samples: Iterable[tuple[Sample, bytes, str]]) -> tuple[bytes, bytes]:
    """Tar bytes and index bytes (JSON lines of ShardIndexRow) of (sample, image bytes, 'jpg' | 'png'), in the order of their keys."""
    ordered = sorted(samples, key=lambda item: item[0].key)
    buffer = io.BytesIO()
    with TarWriter(buffer, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
        for sample, image, extension in ordered:
            tar.write({"__key__": sample.key, extension: image, "json": sample.to_bytes()})
    data = buffer.getvalue()
    return data, _index(data, [len(sample.instances) for sample, _, _ in ordered])


def _index(data: bytes, instances: list[int]) -> bytes:
    found = members(data)
    rows = []
    for (first, second), count in zip(zip(found[0::2], found[1::2], strict=True), instances, strict=True):
        image, record = (second, first) if first.extension == "json" else (first, second)
        rows.append(
            ShardIndexRow(
                key=image.key,
                image_offset=image.offset,
                image_size=image.size,
                json_offset=record.offset,
                json_size=record.size,
                instances=count,
            )
        )
    return b"".join(canonical_json(row.model_dump(mode="json")) + b"\n" for row in rows)
