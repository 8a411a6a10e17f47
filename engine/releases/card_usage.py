"""The part of a release's card that says how to load it and how to cite it, from its manifest and digest alone."""

from __future__ import annotations

import re

from schemas.manifests import ReleaseManifest

EXPORT_FORMATS = ("neuralannot", "spin", "eft", "cliff", "coco_json", "webdataset", "huggingface")
"""Formats that `jobs/releases.py export` writes; a test compares them with engine/exchange/registry.py, which lies above this package."""

_ARROW = """\
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

root = Path("ROOT")
version = root / "releases" / "{name}" / "v{version:04d}"
shards = pq.read_table(version / "shards.parquet").to_pylist()
tables = [pq.read_table(root / "objects" / shard["sha256"][:2] / (shard["sha256"] + ".parquet")) for shard in shards]
{selection}rows = pa.concat_tables(tables)"""
_SELECTION = """\
kept = pq.read_table(version / "selection.parquet")["rows"].to_pylist()
tables = [table if rows is None else table.take(pa.array(rows, pa.int32())) for table, rows in zip(tables, kept)]
"""
_ENGINE = """\
```python
from engine.releases.store import open_reference

rows = open_reference("{reference}").table()
```"""


def loading(m: ReleaseManifest) -> list[str]:
    """Lines: with pyarrow, with the engine, and as files of other formats."""
    reference = f"ROOT#{m.name}@v{m.version:04d}"
    exports = [
        f'python jobs/releases.py export "{reference}" --format={name} --shard_set=SHARDS --out=FOLDER/{name}' for name in EXPORT_FORMATS
    ]
    return [
        "## How to load it",
        "",
        "ROOT is the store: the path or URL three folders above the one of this file. With `pyarrow` alone (docs/FORMAT.md of pseudogt "
        "describes every column, and has a reader that checks digests):",
        "",
        "```python",
        *arrow_program(m).splitlines(),
        "```",
        "",
        "With pseudogt:",
        "",
        _ENGINE.format(reference=reference),
        "",
        f"As files of other formats; SHARDS is the URL of the shard set `{m.lineage.get('shard_set', 'it was made from')}`:",
        "",
        "```",
        *exports,
        "```",
        "",
        f'Whether a copy is whole: `python jobs/releases.py verify "{reference}"`.',
        "",
    ]


def arrow_program(m: ReleaseManifest) -> str:
    """Python that reads a version's rows with `pyarrow` alone; ROOT in it stands for the store's folder."""
    return _ARROW.format(name=m.name, version=m.version, selection=_SELECTION if m.selection is not None else "")


def citing(m: ReleaseManifest, digest: str) -> list[str]:
    """Lines: a BibTeX entry that names the version and its digest, which is the same wherever the release is copied to."""
    return [
        "## How to cite it",
        "",
        "Equal digests are equal releases, so the digest says which persons and numbers were used. A name alone does not: it has versions.",
        "",
        "```bibtex",
        *bibtex(m, digest),
        "```",
        "",
    ]


def bibtex(m: ReleaseManifest, digest: str) -> list[str]:
    """Lines of a @misc entry."""
    made = re.match(r"(\d{4})-(\d\d)-(\d\d)", m.created_at)
    fields = {
        "title": f"{{{_tex(m.name)}, version {m.version}: 3D pseudo-ground-truth of {_tex(m.dataset)} {_tex(m.split)}}}",
        "howpublished": "Release of pseudogt, body " + _tex(m.body),
        "version": f"v{m.version:04d}",
        **({"year": made.group(1), "date": made.group()} if made else {}),
        "note": f"Release digest sha256:{digest}",
    }
    key = re.sub(r"[^A-Za-z0-9]+", "-", f"{m.name}-v{m.version}-{digest[:8]}")
    return [f"@misc{{{key},", *(f"  {name:12} = {{{value}}}," for name, value in fields.items()), "}"]


def _tex(text: str) -> str:
    """Text as TeX sets it."""
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(named.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in " ".join(text.split()))
