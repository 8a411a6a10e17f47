"""Command `diff` of jobs/releases.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_settings import CliPositionalArg

from engine.config import Config
from engine.releases.change import open_bodies
from engine.releases.diff import DIFF_SCHEMA, diff_rows, pair_shards
from engine.releases.diff_summary import MEASURES, DiffSummary
from engine.releases.store import open_reference
from engine.storage import absolute, split


class DiffConfig(Config):
    """What changed from release A to release B, person by person."""

    a: CliPositionalArg[str] = Field(description="the one before: ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG")
    b: CliPositionalArg[str] = Field(description="the one after, of the same store or another")
    json_: bool = Field(False, alias="json", description="print JSON instead of tables")
    out: str | None = Field(None, description="URL of a new Parquet file with a row for everybody who is not the same in both")
    smpl_dir: str | None = Field(None, description="smplx's model folder, for millimetres between releases of SMPL")


def print_diff(config: DiffConfig) -> None:
    """Compare, print what was found, and write the rows if asked to."""
    a, b = open_reference(config.a), open_reference(config.b)
    bodies = open_bodies(a, b, config.smpl_dir)
    summary = DiffSummary(a, b, pair_shards(a, b), bodies)
    rows = summary.watch(diff_rows(a, b, bodies))
    if config.out is None:
        for _ in rows:
            pass
    else:
        store, key = split(absolute(config.out))
        store.create_written(key, lambda file: _write(rows, file))
    found = summary.to_dict()
    print(json.dumps(found, indent=1) if config.json_ else "\n".join(_lines(found)))


def _write(rows: Iterator[pa.Table], file: BinaryIO) -> None:
    with pq.ParquetWriter(file, DIFF_SCHEMA, compression="zstd", write_statistics=True) as writer:
        for table in rows:
            writer.write_table(table)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    shards, persons = found["shards"], found["persons"]
    for side in "ab":
        yield f"{side}: {found[side]['where']}  digest {found[side]['digest'][:12]}  {persons[side]} persons"
    yield (
        f"shards: {shards['identical']} the same, not read; {shards['aligned']} compared; "
        f"{shards['only_a']} of a and {shards['only_b']} of b without a counterpart"
    )
    yield "persons: " + ", ".join(f"{persons[name]} {name}" for name in ("unchanged", "changed", "added", "removed"))
    yield from (f"note: {note}" for note in found["notes"])
    if persons["changed"]:
        spreads = found["change"]
        columns = list(spreads["mm"])
        yield from _table("how far", columns, {f"{MEASURES[n]}, {n}": list(spreads[n].values()) for n in spreads})
        for title, groups in (("dataset", found["by_dataset"]), ("score in a", found["by_score"])):
            heads = {
                "persons": "persons",
                "mm": "mm p50",
                "degrees": "degrees p50",
                "px": "px p50",
                "score_a": "score a",
                "score_b": "score b",
            }
            yield from _table(title, list(heads.values()), {name: [group[column] for column in heads] for name, group in groups.items()})
        heads = ["mm", "degrees", "px", "score_a", "score_b"]
        most = {f"{row['dataset']}/{row['key']}/{row['annotation_id']}": [row[name] for name in heads] for row in found["most_changed"]}
        if most:
            yield from _table("changed most", heads, most)
        else:
            yield "nobody changed by 0.001 of these measures; what changed are other columns: the latent, the box, the quality figures"
    for kind in ("lineage", "settings"):
        for name, (before, after) in found[kind].items():
            yield f"{kind} {name}: {before} -> {after}"


def _table(title: str, columns: list[str], rows: dict[str, list[Any]]) -> Iterator[str]:
    width = max(map(len, (title, *rows)))
    yield ""
    yield f"{title:{width}}" + "".join(f"{column:>13}" for column in columns)
    for name, values in rows.items():
        yield f"{name:{width}}" + "".join(f"{_cell(value):>13}" for value in values)


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
