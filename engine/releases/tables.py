"""The tables of a release as bytes that depend on their rows alone, so that work done twice gives one object."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.releases.figures import FIGURES
from schemas.manifests import Histogram, QuarantineRow, ShardCommit

SHARD_REASONS = CORRUPT, DIED, FAILED = "shard_corrupt", "process_died", "shard_failed"
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
_BATCH = 64
"""Shards that are Python objects at a time: few, because the garbage collector walks through them all again and again."""


def encode(table: pa.Table, column_encoding: dict[str, str] | None = None, statistics: bool = True) -> bytes:
    """Parquet bytes that depend on the table alone, every writer option being fixed: zstd, one row group for up to a million rows."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        column_encoding=column_encoding,
        write_statistics=statistics,
        row_group_size=1 << 20,
    )
    return sink.getvalue()


def shards_schema(bins: Mapping[str, int]) -> pa.Schema:
    """Schema of the table of shards, with the histograms of these figures (name -> number of bins)."""
    counts = pa.map_(pa.string(), pa.int64())
    columns = {"index": pa.int32(), "source_sha256": pa.string(), "sha256": pa.string(), "size_bytes": pa.int64()}
    columns |= {"planned": pa.int64(), "annotated": pa.int64(), "skipped": counts, "quarantined": counts}
    for name, n in sorted(bins.items()):
        columns |= {f"{name}_counts": pa.list_(pa.field("item", pa.int32(), nullable=False), n), f"{name}_sum": pa.float64()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def release_tables(commits: Iterable[ShardCommit], figures: Mapping[str, tuple[float, ...]] = FIGURES) -> tuple[pa.Table, pa.Table]:
    """The table of shards and the table of quarantined rows (QUARANTINE_SCHEMA), both in the order of the commits.

    figures: column -> edges of the commits' histograms.
    """
    schema = shards_schema({name: len(edges) + 1 for name, edges in figures.items()})
    shards, quarantine = [schema.empty_table()], [QUARANTINE_SCHEMA.empty_table()]
    commits = iter(commits)
    while batch := list(islice(commits, _BATCH)):
        shards.append(pa.Table.from_arrays([_column(batch, field) for field in schema], schema=schema))
        rows = [(commit.index, row) for commit in batch for row in commit.quarantine]
        columns = [[index for index, _ in rows], *([getattr(row, name) for _, row in rows] for name in QUARANTINE_SCHEMA.names[1:])]
        quarantine.append(pa.Table.from_arrays(list(map(pa.array, columns, QUARANTINE_SCHEMA.types)), schema=QUARANTINE_SCHEMA))
    return pa.concat_tables(shards).combine_chunks(), pa.concat_tables(quarantine).combine_chunks()


def read_commits(shards: pa.Table, quarantine: pa.Table, plan_digest: str) -> Iterator[ShardCommit]:
    """The commits that `release_tables` was given, field for field. `quarantine` may hold rows of other shards too."""
    figures = [name.removesuffix("_counts") for name in shards.column_names if name.endswith("_counts")]
    shard_of = quarantine["shard"].to_numpy()
    for start in range(0, len(shards), _BATCH):
        part = shards.slice(start, _BATCH)
        indices = part["index"].to_pylist()
        low, high = shard_of.searchsorted(indices[0], "left"), shard_of.searchsorted(indices[-1], "right")
        rows_of: dict[int, list[QuarantineRow]] = {}
        for row in quarantine.slice(low, high - low).to_pylist():
            rows_of.setdefault(row.pop("shard"), []).append(QuarantineRow(**row))
        for row in part.to_pylist(maps_as_pydicts="strict"):
            histograms = {name: Histogram(counts=row.pop(f"{name}_counts"), sum=row.pop(f"{name}_sum")) for name in figures}
            yield ShardCommit(plan_digest=plan_digest, quarantine=tuple(rows_of.get(row["index"], ())), figures=histograms, **row)


def _column(commits: Sequence[ShardCommit], field: pa.Field) -> pa.Array:
    figure, _, part = field.name.rpartition("_")
    if part == "sum":
        return pa.array([commit.figures[figure].sum for commit in commits], field.type)
    if part == "counts":
        flat = np.array([commit.figures[figure].counts for commit in commits], np.int32).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type)
    values = (getattr(commit, field.name) for commit in commits)
    return pa.array([sorted(v.items()) if isinstance(v, dict) else v for v in values], field.type)


def sum_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Sum of a column of counts by reason, sorted by reason."""
    entries = column.combine_chunks()
    total = pa.table({"reason": entries.keys, "instances": entries.items}).group_by("reason").aggregate([("instances", "sum")])
    return dict(sorted(zip(total["reason"].to_pylist(), total["instances_sum"].to_pylist(), strict=True)))


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
