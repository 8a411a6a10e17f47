"""What changed from one release to another, in numbers: how many, how far, of whom, and what they were made from differently.

N changed persons, 24 bytes each; the distribution is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.releases.change import Bodies
from engine.releases.diff import ADDED, CHANGED, DIFF_SCHEMA, REMOVED, ShardPairs
from engine.releases.store import Release

MEASURES = {"mm": "joints, pelvis on pelvis", "degrees": "joint rotations", "px": "projected pelvis"}
_PERCENTILES = (10, 50, 90, 99)
_MOST = 20


class DiffSummary:
    """Sums up tables of `diff.diff_rows` as they pass."""

    def __init__(self, a: Release, b: Release, pairs: ShardPairs, bodies: Bodies) -> None:
        self._a, self._b, self._pairs, self._bodies = a, b, pairs, bodies
        self._counts = dict.fromkeys((ADDED, REMOVED, CHANGED), 0)
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in (*MEASURES, "score_a", "score_b", "dataset")}
        self._datasets: dict[str, int] = {}
        self._most = DIFF_SCHEMA.empty_table()
        self._order = measures_of(bodies)

    def watch(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables, counted."""
        for table in tables:
            self._add(table)
            yield table

    def _add(self, table: pa.Table) -> None:
        for entry in pc.value_counts(table["change"]).to_pylist():
            self._counts[entry["values"]] += entry["counts"]
        changed = table.filter(pc.equal(table["change"], CHANGED))
        if not len(changed):
            return
        for name in (*MEASURES, "score_a", "score_b"):
            self._columns[name].append(changed[name].to_numpy())
        names = changed["dataset"].combine_chunks().dictionary_encode()
        codes = np.array([self._datasets.setdefault(name, len(self._datasets)) for name in names.dictionary.to_pylist()], np.int32)
        self._columns["dataset"].append(codes[names.indices.to_numpy()])
        self._most = furthest(pa.concat_tables([self._most, furthest(changed, self._order, _MOST)]), self._order, _MOST)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it; a number that does not exist is None."""
        a, b, pairs = self._a.manifest, self._b.manifest, self._pairs
        values = {name: np.concatenate([np.empty(0, np.float32), *arrays]) for name, arrays in self._columns.items()}
        score, dataset = values["score_a"], values["dataset"]
        tenth = np.clip((score * 10).astype(np.int64), 0, 9)
        return {
            "a": _identity(self._a),
            "b": _identity(self._b),
            "shards": {name: len(getattr(pairs, name)) for name in ("identical", "aligned", "only_a", "only_b")},
            "persons": {
                "a": a.annotated,
                "b": b.annotated,
                **self._counts,
                "unchanged": a.annotated - self._counts[REMOVED] - self._counts[CHANGED],
            },
            "notes": list(self._bodies.notes),
            "change": {name: _spread(values[name]) for name in MEASURES},
            "by_dataset": {name: _group(values, dataset == code) for name, code in sorted(self._datasets.items())},
            "by_score": {f"{i / 10:.1f} to {(i + 1) / 10:.1f}": _group(values, tenth == i) for i in range(10) if (tenth == i).any()},
            "most_changed": [{k: _number(v) if isinstance(v, float) else v for k, v in row.items()} for row in self._most.to_pylist()],
            "lineage": _different(a.lineage, b.lineage),
            "settings": _different(a.settings | {"body": a.body}, b.settings | {"body": b.body}),
        }


def measures_of(bodies: Bodies) -> tuple[str, ...]:
    """What tells who changed most, the weightiest first; millimetres mean nothing between two bodies."""
    return ("mm", "degrees", "px") if bodies.same else ("degrees", "px")


def furthest(rows: pa.Table, order: Sequence[str], most: int) -> pa.Table:
    """At most `most` rows, those first that changed most by the first measure; what does not differ in it goes by the next.

    Measures count in thousandths, so that rounding in the first does not hide the next; rows without any such change are left out.
    """
    keys_RN = np.array([np.round(np.nan_to_num(rows[name].to_numpy(), nan=-1).astype(np.float64), 3) for name in order])
    moved = np.flatnonzero((keys_RN > 0).any(axis=0))
    if len(moved) > most:
        first = keys_RN[0, moved]
        moved = moved[first >= np.partition(first, len(first) - most)[len(first) - most]]
    names = [rows[name].take(pa.array(moved)).to_numpy(zero_copy_only=False).astype(str) for name in ("annotation_id", "key")]
    return rows.take(pa.array(moved[np.lexsort((*names, *-keys_RN[::-1, moved]))[:most]]))


def _identity(release: Release) -> dict[str, Any]:
    return {"name": release.manifest.name, "version": release.manifest.version, "digest": release.digest, "where": release.where}


def _different(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [a.get(name), b.get(name)] for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


def _group(values: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, Any]:
    """Persons of a group, medians of how they changed, and their mean scores."""
    medians = {name: _spread(values[name][chosen])["p50"] for name in MEASURES}
    scores = {name: _number(values[name][chosen].mean(dtype=np.float64)) for name in ("score_a", "score_b")}
    return {"persons": int(chosen.sum()), **medians, **scores}


def _spread(values: np.ndarray) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(("mean", *(f"p{p}" for p in _PERCENTILES), "max"))
    percentiles = zip(_PERCENTILES, np.percentile(known, _PERCENTILES), strict=True)
    found = {"mean": known.mean(dtype=np.float64), **{f"p{p}": value for p, value in percentiles}, "max": known.max()}
    return {name: _number(value) for name, value in found.items()}


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
