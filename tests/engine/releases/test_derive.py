"""A derived release has exactly the rows its filter keeps, accounts for the others, and costs no object."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError, ReleaseError
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.fsck import collect_garbage, find_orphans
from engine.releases.persons import Persons
from engine.releases.publish import ReleaseDraft, publish, table_file
from engine.releases.selection import SELECTION, encode_selection, make_selection
from engine.releases.store import Release, object_key, open_reference, open_release
from engine.releases.verify import verify_release
from engine.storage import Store
from jobs.releases import main
from schemas.manifests import ReleaseManifest
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from tests.engine.releases.conftest import digest_of, publish_tables, random_rows

Row = dict[str, object]
FILTERS: dict[str, Callable[[Row], bool]] = {
    "score > 0.3": lambda row: row["score"] > 0.3,
    "valid_joints >= 8 or isnan(latent_norm)": lambda row: row["valid_joints"] >= 8 or math.isnan(row["latent_norm"]),
    "reprojection_error <= 0.25": lambda row: row["reprojection_error"] <= 0.25,
    "annotation_id in ['1', '2', '30', '101']": lambda row: row["annotation_id"] in ("1", "2", "30", "101"),
    "not (truncation == 0.5) and betas_max < 1": lambda row: row["truncation"] != 0.5 and max(map(abs, row["betas"])) < 1,
    "True": lambda row: True,
}


def _memory() -> Store:
    return Store(f"memory://derive-{uuid4().hex}")


def _release(store: Store, sizes: list[int], seed: int = 0) -> Release:
    tables = {f"shard {i}": random_rows(seed + i, size, first=100 * i) for i, size in enumerate(sizes)}
    return publish_tables(store, "all", tables)


def _same(found: pa.Table, rows: list[Row]) -> None:
    """NaN is not itself, so rows are compared as they print."""
    assert found.schema.equals(PSEUDO_GT_SCHEMA)
    assert list(map(repr, found.to_pylist())) == list(map(repr, rows))


def _conserved(manifest: ReleaseManifest, parent: ReleaseManifest) -> None:
    assert manifest.planned == parent.planned == manifest.annotated + sum(manifest.skipped.values()) + sum(manifest.quarantined.values())
    assert manifest.skipped.get("filtered", 0) == parent.annotated + parent.skipped.get("filtered", 0) - manifest.annotated
    assert manifest.quarantined == parent.quarantined


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    first=st.sampled_from(list(FILTERS)),
    second=st.sampled_from(list(FILTERS)),
)
@example(sizes=[0, 1], seed=1, first="score > 0.3", second="not (truncation == 0.5) and betas_max < 1")
def test_exactly_the_rows_that_the_filter_keeps(sizes: list[int], seed: int, first: str, second: str) -> None:
    store = _memory()
    parent = _release(store, sizes, seed)
    rows = parent.table().to_pylist()
    objects = store.list("objects")
    kept = [row for row in rows if FILTERS[first](row)]
    if not kept:
        with pytest.raises(ReleaseError, match="keeps none of its"):
            derive(parent, "part", Expression(first, "truth"))
        assert not store.list("releases/part")
        return
    part = derive(parent, "part", Expression(first, "truth"))
    _same(open_release(store.url, "part").table(), kept)
    _conserved(part.manifest, parent.manifest)
    verify_release(part)
    assert part.manifest.lineage["release"] == parent.digest and part.manifest.settings["filter"] == first
    for i, size in enumerate(sizes):
        shard = part.commit(digest_of(f"shard {i}"))
        mine = [row for row in kept if 100 * i <= int(row["annotation_id"]) < 100 * i + size]
        _same(part.rows(shard.source_sha256), mine)
        assert (shard.annotated, shard.skipped.get("filtered", 0)) == (len(mine), size - len(mine))
    both = [row for row in kept if FILTERS[second](row)]
    if both:
        composed = derive(part, "composed", Expression(second, "truth"))
        at_once = derive(parent, "at_once", Expression(f"({first}) and ({second})", "truth"))
        _same(composed.table(), both)
        verify_release(composed)
        for name in ("shards", "selection", "quarantine", "figures", "settings", "skipped", "annotated"):
            assert getattr(composed.manifest, name) == getattr(at_once.manifest, name), name
        assert composed.manifest.lineage["release"] == part.digest
    assert store.list("objects") == objects and not find_orphans(store)


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data())
def test_a_list_of_persons(sizes: list[int], data: st.DataObject) -> None:
    parent = _release(_memory(), sizes)
    rows = parent.table().to_pylist()
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    pairs = data.draw(st.sets(st.sampled_from(chosen)))
    persons = Persons(
        frozenset((rows[i]["key"], rows[i]["annotation_id"]) for i in pairs),
        frozenset(rows[i]["annotation_id"] for i in set(chosen) - pairs),
    )
    part = derive(parent, "part", persons)
    _same(part.table(), [rows[i] for i in sorted(chosen)])
    assert part.manifest.settings["filter"] == "ids" and part.manifest.lineage["ids"] == persons.digest()
    _conserved(part.manifest, parent.manifest)
    verify_release(part)


def test_unknown_persons_are_told(local_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    parent = _release(local_store, [4, 4])
    persons = Persons(frozenset({("000000", "0"), ("000000", "2")}), frozenset({"101", "nobody"}))
    with pytest.raises(ReleaseError, match="2 persons of the list have no row in it, such as 000000,2; nobody; see whether"):
        derive(parent, "part", persons)
    part = derive(parent, "part", persons, allow_unknown=True)
    assert part.table()["annotation_id"].to_pylist() == ["0", "101"]
    assert "2 persons of the list" in caplog.text


def test_on_every_kind_of_store(store: Store) -> None:
    part = derive(_release(store, [6, 5]), "part", Expression("score > 0.3", "truth"))
    assert part.manifest.annotated == part.table().num_rows > 0
    verify_release(open_release(store.url, "part"), deep=False)
    verify_release(open_release(store.url, "part"))
    assert derive(open_release(store.url, "all"), "part", Expression("score > 0.3", "truth")).manifest.version == 1


def test_a_release_without_a_selection_keeps_its_bytes(local_store: Store) -> None:
    manifest = _release(local_store, [2]).manifest
    assert b"selection" not in manifest.to_bytes()
    assert "selection" not in manifest.model_dump()


@pytest.mark.parametrize(("limits", "versions"), [((0.1, 0.1), {1}), ((0.1, 0.3), {1, 2}), ((0.1, 0.1, 0.3, 0.3), None)])
def test_several_at_once(local_store: Store, limits: tuple[float, ...], versions: set[int] | None) -> None:
    """The same twice is one version, different ones are two, and HEAD ends at the last. Of four, a late one may be published again."""
    parent = _release(local_store, [8, 8, 8])
    keep = [Expression(f"score > {limit}", "truth") for limit in limits]
    with ThreadPoolExecutor(len(keep)) as pool:
        parts = list(pool.map(lambda k: derive(open_release(local_store.url, "all"), "part", k), keep))
    digests = dict(zip(limits, (part.digest for part in parts), strict=True))
    assert [part.digest for part in parts] == [digests[limit] for limit in limits] and len(set(digests.values())) == len(set(limits))
    found = {part.manifest.version for part in parts}
    assert found == (versions or set(range(1, len(found) + 1)))
    assert open_release(local_store.url, "part").manifest.version == max(found)
    for version in found:
        verify_release(open_release(local_store.url, "part", version))
    assert parent.digest == open_release(local_store.url, "all").digest


def test_garbage_collection_spares_what_a_derived_release_refers_to(local_store: Store) -> None:
    parent = _release(local_store, [4, 4])
    part = derive(parent, "part", Expression("score > 0.3", "truth"))
    for key in local_store.list("releases/all"):
        local_store.delete(key)
    local_store.clear("runs")
    assert not collect_garbage(local_store, grace_s=-60, dry_run=False)
    assert part.table().num_rows == part.manifest.annotated
    assert all(local_store.exists(object_key(sha256)) for sha256 in parent.shards["sha256"].to_pylist())


def test_a_selection_that_is_gone_or_damaged(local_store: Store) -> None:
    derive(_release(local_store, [4, 4]), "part", Expression("score > 0.3", "truth"))
    key = f"releases/part/v0001/{SELECTION}"
    data = local_store.get(key)
    local_store.delete(key)
    local_store.create(key, data[:-4] + b"PAR2")
    with pytest.raises(ReleaseError, match=f"{SELECTION}: expected sha256 .* damaged or replaced"):
        verify_release(open_release(local_store.url, "part"), deep=False)
    local_store.delete(key)
    with pytest.raises(ReleaseError, match=f"{SELECTION}: no such object"):
        open_release(local_store.url, "part").table()
    assert [(orphan.kind, orphan.key) for orphan in find_orphans(local_store)] == [("version", "releases/part/v0001")]
    local_store.create(key, data)
    verify_release(open_release(local_store.url, "part"))


@pytest.mark.parametrize(
    ("kept", "problem", "deep"),
    [
        ([[0, 9], [0]], "shard 0: expected places of rows, ascending, from 0 to 3; found 0 to 9$", False),
        ([[-1, 2], [0]], "shard 0: expected places of rows, .* found -1 to 2$", False),
        ([[2, 1], [0]], "found 1 to 2, not ascending", False),
        ([[1, 1], [0]], "found 1 to 1, not ascending", False),
        ([[1, 2, 3], [0]], "shard 0: expected 2 rows to be kept, found 3", False),
        ([[1, 2], None], "shard 1: expected 1 rows to be kept, found 4", False),
        ([[0, 1], [1]], "shard 0: the rows it keeps are not those of its filter", True),
    ],
)
def test_a_selection_that_cannot_be(local_store: Store, kept: list, problem: str, deep: bool) -> None:
    """Somebody writes another selection, with all digests right."""
    tables = {f"shard {i}": random_rows(i, 4, first=100 * i) for i in range(2)}
    parent = publish_tables(local_store, "all", tables)
    part = derive(parent, "part", Expression("annotation_id in ['1', '2', '103']", "truth"))
    selection = make_selection((i, None if rows is None else np.array(rows, np.int32)) for i, rows in enumerate(kept))
    files = {name: local_store.get(f"releases/part/v0001/{name}") for name in ("shards.parquet", "quarantine.parquet")}
    files[SELECTION] = encode_selection(selection)
    edited = part.manifest.model_copy(update={"name": "edited", "selection": table_file(SELECTION, files, selection)})
    release = publish(local_store, ReleaseDraft(edited, files))
    with pytest.raises(ReleaseError, match=problem):
        verify_release(release, deep)
    if not deep:
        with pytest.raises(ReleaseError, match=problem):
            release.table()


def test_a_damaged_object_is_no_ground_for_a_release(local_store: Store) -> None:
    parent = _release(local_store, [4, 4])
    key = object_key(parent.shards["sha256"][1].as_py())
    data = bytearray(local_store.get(key))
    data[200] ^= 1  # of a column that the filter does not read
    local_store.swap(key, local_store.get(key), bytes(data))
    with pytest.raises(ReleaseError, match=r"pseudo-GT of shard 1: .*damaged or replaced"):
        derive(parent, "part", Expression("score > 0.3", "truth"))


@pytest.mark.parametrize(
    "text",
    [
        "key,annotation_id\n000000,1\n000050,101\n",
        "annotation_id,key\r\n1,000000\r\n101,000050\r\n",
        "000000,1\n\n000050,101",
        "annotation_id\n1\n101\n",
        '\ufeff"1"\n"101"\n',
        '{"key": "000000", "annotation_id": "1"}\n{"annotation_id": 101}\n',
    ],
)
def test_the_command(local_store: Store, tmp_path, capsys: pytest.CaptureFixture, text: str) -> None:
    _release(local_store, [4, 4])
    (tmp_path / "ids").write_bytes(text.encode())
    main(["derive", f"{local_store.url}#all", f"{local_store.url}#part", "--ids", str(tmp_path / "ids")])
    assert "#part v0001: 2 of 8 persons; digest" in capsys.readouterr().out
    assert open_reference(f"{local_store.url}#part").table()["annotation_id"].to_pylist() == ["1", "101"]
    assert b"Derived from the release" in local_store.get("releases/part/v0001/README.md")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no person in it"),
        ("key,annotation_id\na,b,c\n", "line 2: expected key,annotation_id, found 'a,b,c'"),
        ("a,b,c\n", "line 1: expected key,annotation_id"),
        ('{"key": 3, "annotation_id": "1"}', "line 1: expected .*annotation_id"),
        ('{"annotation_id": 1}\n{oops', "line 2: not JSON"),
        (b"\xff\xfe\x00", "expected CSV or JSON lines in UTF-8"),
        ("[58498, 58499]", "found a JSON list"),
    ],
)
def test_files_that_are_no_list(tmp_path, text: str | bytes, problem: str) -> None:
    from engine.releases.persons import read_persons

    (tmp_path / "ids").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=problem):
        read_persons(str(tmp_path / "ids"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["{root}#part"], "expected one of filter and ids, found neither"),
        (["{root}#part", "--filter=score > 0", "--ids=x"], "expected one of filter and ids, found both"),
        (["{root}#part@v2", "--filter=score > 0"], "expected ROOT#NEWNAME"),
        (["{root}2#part", "--filter=score > 0"], "expected the store"),
        (["{root}#part", "--filter=score > "], "expression"),
        (["{root}#part", "--filter=score > 9"], "keeps none of its 4 rows"),
    ],
)
def test_commands_that_are_refused(local_store: Store, capsys: pytest.CaptureFixture, arguments: list[str], problem: str) -> None:
    _release(local_store, [4])
    with pytest.raises(SystemExit):
        main(["derive", f"{local_store.url}#all", *(a.format(root=local_store.url) for a in arguments)])
    assert problem in capsys.readouterr().err
