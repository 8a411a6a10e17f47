"""Which rows of the stored objects a derived release keeps: `selection.parquet`, beside its manifest.

One row a shard, in the order of `shards.parquet`: `index`, and `rows`, the places in the object of the rows that are kept, ascending; null
where all are. What is left out is counted as skipped, under FILTERED, so an object holds as many rows as its shard has annotated and
FILTERED instances together. Places are delta-encoded: a release of a million persons of which every second is kept takes 0.2 MB.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from engine.errors import ReleaseError
from engine.releases.tables import encode
from schemas.manifests import ShardCommit

SELECTION = "selection.parquet"
FILTERED = "filtered"
"""Reason in `skipped` of rows that the release's objects hold and a derived release leaves out."""
SELECTION_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("rows", pa.list_(pa.field("item", pa.int32(), nullable=False))),
    ]
)


def stored_rows(shard: ShardCommit) -> int:
    """How many rows the object of a shard holds."""
    return shard.annotated + shard.skipped.get(FILTERED, 0)


def make_selection(shards: Iterable[tuple[int, np.ndarray | None]]) -> pa.Table:
    """The table (SELECTION_SCHEMA) of (index of a shard, places of the rows kept or None for all), in the order of the shards."""
    indices, kept = zip(*shards, strict=True) if (shards := list(shards)) else ((), ())
    ends = np.cumsum([0, *(0 if rows is None else len(rows) for rows in kept)])
    places = np.concatenate([np.empty(0, np.int32), *(rows for rows in kept if rows is not None)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()),
        pa.array(places),
        type=SELECTION_SCHEMA.field("rows").type,
        mask=pa.array([rows is None for rows in kept], pa.bool_()),
    )
    return pa.Table.from_arrays([pa.array(indices, pa.int32()), lists], schema=SELECTION_SCHEMA)


def encode_selection(selection: pa.Table) -> bytes:
    """Parquet bytes that depend on the selection alone."""
    return encode(selection, {"index": "DELTA_BINARY_PACKED", "rows.list.element": "DELTA_BINARY_PACKED"}, statistics=False)


def kept_rows(selection: pa.Table, place: int, annotated: int, stored: int) -> np.ndarray | None:
    """Places of the rows kept of the shard at `place` of the selection, `annotated` of the `stored` ones; None: all.

    ReleaseError when they are not that many, out of range or not ascending.
    """
    rows = selection["rows"][place]
    kept = rows.values.to_numpy() if rows.is_valid else None
    found = stored if kept is None else len(kept)
    if found != annotated:
        raise ReleaseError(f"{SELECTION}: shard {selection['index'][place]}: expected {annotated} rows to be kept, found {found}")
    if kept is not None and len(kept) and (kept[0] < 0 or kept[-1] >= stored or (np.diff(kept) <= 0).any()):
        raise ReleaseError(
            f"{SELECTION}: shard {selection['index'][place]}: expected places of rows, ascending, from 0 to {stored - 1}; "
            f"found {kept.min()} to {kept.max()}" + (", not ascending" if (np.diff(kept) <= 0).any() else "")
        )
    return kept
