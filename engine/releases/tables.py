"""The tables of a release as bytes that depend on their rows alone, so that work done twice gives one object."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.manifests import QuarantineRow, ShardCommit

SHARD_REASONS = ("shard_corrupt", "process_died", "shard_failed")
"""Reasons for which a whole shard is set aside by a release that allows it; such a shard has no commit record of its own."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("annotation_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("instances", pa.int32(), nullable=False),
    ]
)


def encode(table: pa.Table) -> bytes:
    """Parquet bytes with every writer option fixed: zstd, one row group for any shard of up to a million rows."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=True,
        row_group_size=1 << 20,
    )
    return sink.getvalue()


def quarantine_table(shards: Iterable[ShardCommit]) -> pa.Table:
    """What could not be annotated, one row each (QUARANTINE_SCHEMA), in the order of the shards."""
    rows = [{"shard": shard.index, **row.model_dump()} for shard in shards for row in shard.quarantine]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def count_reasons(quarantine: Iterable[QuarantineRow]) -> dict[str, int]:
    """Reason -> instances, sorted by reason."""
    return add_counts({row.reason: row.instances} for row in quarantine)


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of counts by reason, sorted by reason."""
    total: dict[str, int] = {}
    for count in counts:
        for reason, n in count.items():
            total[reason] = total.get(reason, 0) + n
    return dict(sorted(total.items()))
