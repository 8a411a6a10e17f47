"""A diff finds exactly what was edited, whichever shards the persons are in, and reads no object that both releases share."""

from __future__ import annotations

import json
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.body.config import BodyConfig
from engine.body.smpl import load_body
from engine.errors import ReleaseError
from engine.releases.change import Bodies, open_bodies
from engine.releases.derive import derive
from engine.releases.diff import DIFF_SCHEMA, diff_rows, pair_shards
from engine.releases.diff_summary import furthest
from engine.releases.expressions import Expression
from engine.releases.store import Release, object_key, open_release
from engine.storage import Store
from jobs.releases import main
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from tests.engine.releases.conftest import digest_of, publish_tables, random_rows

NO_BODIES = Bodies(None, None, ())
COLUMNS = [name for name in PSEUDO_GT_SCHEMA.names if name not in ("key", "annotation_id")]


def _edited(rows: pa.Table, row: int, column: str) -> pa.Table:
    """The rows with one value of one row changed."""
    values = rows.to_pylist()
    old = values[row][column]
    if isinstance(old, list):
        old[0] = 0.0 if np.isnan(old[0]) else old[0] + 1
    elif isinstance(old, str):
        values[row][column] = old + "x"
    else:
        values[row][column] = 1 if np.isnan(old) else old + 1
    return pa.Table.from_pylist(values, schema=PSEUDO_GT_SCHEMA)


def _found(tables: list[pa.Table]) -> set[tuple[str, str, str]]:
    rows = [row for table in tables for row in table.select(["key", "annotation_id", "change"]).to_pylist()]
    found = {tuple(row.values()) for row in rows}
    assert len(found) == len(rows)
    return found


def _by_name(release: Release) -> dict[tuple[str, str], str]:
    return {(row["key"], row["annotation_id"]): repr(row) for row in release.table().to_pylist()}


def _expected(a: Release, b: Release) -> set[tuple[str, str, str]]:
    """By all rows at once, as dictionaries."""
    rows_a, rows_b = _by_name(a), _by_name(b)
    changes = {name: "removed" for name in rows_a.keys() - rows_b.keys()} | {name: "added" for name in rows_b.keys() - rows_a.keys()}
    changes |= {name: "changed" for name in rows_a.keys() & rows_b.keys() if rows_a[name] != rows_b[name]}
    return {(*name, change) for name, change in changes.items()}


def _of_body(release: Release, digest: str) -> Release:
    lineage = release.manifest.lineage | {"body": digest}
    return Release(release.store, release.manifest.model_copy(update={"lineage": lineage}), release.digest)


edits = st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["remove", *COLUMNS])), max_size=6)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4), edits=edits, resharded=st.booleans(), keep=st.booleans())
def test_exactly_the_edits(sizes: list[int], edits: list[tuple[int, str]], resharded: bool, keep: bool) -> None:
    store = Store(f"memory://diff-{uuid4().hex}")
    tables = [random_rows(i, size, first=100 * i) for i, size in enumerate(sizes)]
    whole = pa.concat_tables(tables)
    a = publish_tables(store, "a", {f"shard {i}": rows for i, rows in enumerate(tables)})
    for place, edit in edits:
        if len(whole):
            place %= len(whole)
            whole = pa.concat_tables([whole.slice(0, place), whole.slice(place + 1)]) if edit == "remove" else _edited(whole, place, edit)
    shard_of = np.array([int(person) // 100 for person in whole["annotation_id"].to_pylist()])
    # where resharded, every second shard has a counterpart, and the persons of the others are dealt anew
    words = [f"other {i % 3}" if resharded and i % 2 else f"shard {i}" for i in shard_of]
    sets = {word: whole.filter(pa.array([w == word for w in words])) for word in sorted(set(words))}
    b = publish_tables(store, "b", sets or {"empty": whole}, annotator="next")
    if keep and any(row["score"] > 0.3 for row in whole.to_pylist()):
        b = derive(b, "part", Expression("score > 0.3", "truth"))
    tables = list(diff_rows(a, b, NO_BODIES))
    assert all(table.schema.equals(DIFF_SCHEMA) and len(table) for table in tables)
    assert _found(tables) == _expected(a, b)
    back = {"added": "removed", "removed": "added", "changed": "changed"}
    assert _found(list(diff_rows(b, a, NO_BODIES))) == {(*name, back[change]) for *name, change in _expected(a, b)}
    assert not list(diff_rows(a, a, NO_BODIES)) and not list(diff_rows(b, b, NO_BODIES))


def test_shared_objects_are_not_read(local_store: Store) -> None:
    """They are gone, and nobody notices."""
    tables = {f"shard {i}": random_rows(i, 4, first=100 * i) for i in range(3)}
    a = publish_tables(local_store, "a", tables)
    b = publish_tables(local_store, "b", tables | {"shard 1": _edited(tables["shard 1"], 2, "pose")}, annotator="next")
    part_a, part_b = (derive(release, f"{name}_part", Expression("score >= 0", "truth")) for name, release in (("a", a), ("b", b)))
    for word in ("shard 0", "shard 2"):
        local_store.delete(object_key(a.commit(digest_of(word)).sha256))
    for first, second in ((a, b), (part_a, part_b), (a, part_b)):
        assert pair_shards(first, second).identical == (digest_of("shard 0"), digest_of("shard 2"))
        assert [row["annotation_id"] for table in diff_rows(first, second, NO_BODIES) for row in table.to_pylist()] == ["102"]


def test_what_a_row_of_a_diff_says(local_store: Store) -> None:
    body = load_body(BodyConfig())
    tables = {"shard": random_rows(0, 5)}
    a = publish_tables(local_store, "a", tables)
    b = publish_tables(local_store, "b", {"shard": _edited(tables["shard"], 1, "pose").slice(0, 4)}, annotator="next", missing=2)
    (table,) = diff_rows(a, b)  # of a body that is not the open one
    changed, removed = table.to_pylist()
    assert changed["change"] == "changed" and np.isnan(changed["mm"]) and np.isnan(changed["px"])
    before, after = (release.table().to_pylist()[1] for release in (a, b))
    assert changed["degrees"] > 0 and (changed["score_a"], changed["score_b"]) == (before["score"], after["score"])
    assert removed["change"] == "removed" and np.isnan(removed["score_b"]) and np.isnan(removed["degrees"])
    a, b = (_of_body(release, body.digest) for release in (a, b))
    bodies = open_bodies(a, b)
    (table,) = diff_rows(a, b, bodies)
    changed, removed = table.to_pylist()
    # the global rotation alone was turned about: every joint but the pelvis moves
    assert changed["mm"] > 0 and changed["px"] == 0 and np.isnan(removed["mm"])


def test_a_damaged_object(local_store: Store) -> None:
    tables = {"shard": random_rows(0, 5)}
    a = publish_tables(local_store, "a", tables)
    b = publish_tables(local_store, "b", {"shard": _edited(tables["shard"], 1, "pose")}, annotator="next")
    local_store.delete(object_key(b.shards["sha256"][0].as_py()))
    with pytest.raises(ReleaseError, match="pseudo-GT of shard 0"):
        list(diff_rows(a, b, NO_BODIES))


def test_the_command(local_store: Store, tmp_path, capsys: pytest.CaptureFixture) -> None:
    tables = {f"shard {i}": random_rows(i, 30, first=100 * i) for i in range(2)}
    a = publish_tables(local_store, "a", tables)
    turned = random_rows(9, 30, first=100).slice(2)  # the first photograph has nobody any more
    b = publish_tables(local_store, "b", {"shard 0": tables["shard 0"], "shard 1": turned}, annotator="next", missing=1)
    names = [f"{local_store.url}#{name}" for name in "ab"]
    out = tmp_path / "rows.parquet"
    main(["diff", *names, "--json=true", f"--out={out}"])
    found = json.loads(capsys.readouterr().out)
    assert found["persons"] == {"a": 60, "b": 58, "added": 0, "removed": 2, "changed": 28, "unchanged": 30}
    assert found["shards"] == {"identical": 1, "aligned": 1, "only_a": 0, "only_b": 0}
    assert found["lineage"]["annotator"] == [digest_of("annotator"), digest_of("next")]
    assert found["a"]["digest"] == a.digest and found["b"]["digest"] == b.digest
    assert "no millimetres and pixels" in found["notes"][0] and found["change"]["mm"]["mean"] is None
    rows = pq.read_table(out)
    changed = rows.filter(pa.array([change == "changed" for change in rows["change"].to_pylist()]))
    degrees = np.sort(changed["degrees"].to_numpy())
    assert found["change"]["degrees"]["p50"] == pytest.approx(np.median(degrees), abs=1e-3)
    assert [row["degrees"] for row in found["most_changed"]] == pytest.approx(degrees[::-1][:20].tolist(), abs=1e-3)
    assert found["by_dataset"]["coco"]["persons"] == 28 == sum(group["persons"] for group in found["by_score"].values())
    before = {row["annotation_id"]: row["score"] for row in open_release(local_store.url, "a").table().to_pylist()}
    low = [row for row in changed.to_pylist() if before[row["annotation_id"]] < 0.1]
    assert found["by_score"]["0.0 to 0.1"]["persons"] == len(low)
    assert found["by_score"]["0.0 to 0.1"]["degrees"] == pytest.approx(np.median([row["degrees"] for row in low]), abs=1e-3)
    main(["diff", *names])
    text = capsys.readouterr().out
    assert "persons: 30 unchanged, 28 changed, 0 added, 2 removed" in text and "lineage annotator: " in text and "changed most" in text
    with pytest.raises(SystemExit):
        main(["diff", *names, f"--out={out}"])
    assert "exists already" in capsys.readouterr().err
    main(["diff", names[0], names[0]])
    assert "persons: 60 unchanged, 0 changed, 0 added, 0 removed" in capsys.readouterr().out


def test_changed_most_goes_by_the_next_measure_where_the_first_is_rounding() -> None:
    columns = {"mm": [1e-5, 2e-5, 3.0, 0.0, np.nan], "degrees": [0.0, 0.0, 1.0, 0.0, np.nan], "px": [5.0, 190.0, 0.0, 1e-5, 7.0]}
    names = {"key": list("abcde"), "annotation_id": list("12345")}
    rows = pa.table(names | {name: pa.array(values, pa.float32(), from_pandas=False) for name, values in columns.items()})
    order = ("mm", "degrees", "px")
    assert furthest(rows, order, 9)["key"].to_pylist() == ["c", "b", "a", "e"]
    assert furthest(rows, order, 2)["key"].to_pylist() == ["c", "b"]
    assert not len(furthest(rows.slice(3, 1), order, 9))
