"""verify finds what was done to a release behind its back."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ReleaseError
from engine.releases.commit import commit_shard, make_commit, save_plan
from engine.releases.publish import ReleaseDraft, draft_release, publish
from engine.releases.store import Release, commit_key, object_key, open_release, plan_key
from engine.releases.tables import encode
from engine.releases.verify import verify_release
from engine.storage import Store
from schemas.manifests import AnnotationPlan
from schemas.records import sha256_hex
from tests.engine.releases.conftest import make_plan, make_rows


def _overwrite(store: Store, key: str, data: bytes) -> None:
    store.swap(key, store.get(key), data)


def _expect(store: Store, match: str, version: int | None = None, deep: bool = True) -> None:
    with pytest.raises(ReleaseError, match=match):
        verify_release(open_release(store.url, "rel", version), deep)


def test_a_flipped_byte(local_store: Store, make_release: Callable[..., Release]) -> None:
    shard = list(make_release(local_store).commits())[1]
    data = bytearray(local_store.get(object_key(shard.sha256)))
    data[len(data) // 2] ^= 1
    _overwrite(local_store, object_key(shard.sha256), bytes(data))
    _expect(local_store, "pseudo-GT of shard 1: .*damaged or replaced")


def test_a_missing_object(local_store: Store, make_release: Callable[..., Release]) -> None:
    local_store.delete(object_key(list(make_release(local_store).commits())[2].sha256))
    for deep in (True, False):
        _expect(local_store, "1 problems: pseudo-GT of shard 2: .*no such object", deep=deep)


def test_a_listing_shows_a_cut_object_and_a_lost_record(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    key = object_key(list(release.commits())[1].sha256)
    _overwrite(local_store, key, local_store.get(key)[:-1])
    local_store.delete(commit_key(release.manifest.plan_digest, 2))
    _expect(local_store, "2 problems: shard 2: no commit record: .*; pseudo-GT of shard 1: .*bytes, found", deep=False)


@pytest.mark.parametrize("path", ["shards.parquet", "quarantine.parquet"])
def test_a_table_that_is_damaged_or_gone(local_store: Store, make_release: Callable[..., Release], path: str) -> None:
    make_release(local_store)
    key = f"releases/rel/v0001/{path}"
    _overwrite(local_store, key, local_store.get(key)[:-4] + b"PAR2")
    _expect(local_store, f"1 problems: .*{path}: expected sha256 .* damaged or replaced", deep=False)
    local_store.delete(key)
    _expect(local_store, f"{path}: no such object.*publication was cut short, submit the job again")


def _republish(store: Store, release: Release, column: str, values: list, **manifest: object) -> Release:
    """Somebody writes a release whose table of shards says something else, with all digests right."""
    at = release.shards.schema.get_field_index(column)
    table = release.shards.set_column(at, release.shards.schema.field(at), pa.array(values, release.shards.schema.field(at).type))
    data = encode(table)
    file = release.manifest.shards.model_copy(update={"sha256": sha256_hex(data), "size_bytes": len(data)})
    edited = release.manifest.model_copy(update={"name": "edited", "shards": file, **manifest})
    return publish(store, ReleaseDraft(edited, {"shards.parquet": data, "quarantine.parquet": encode(release.quarantined)}))


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("annotated", [3, 5, 4], "shard 0: planned 5 instances but accounts for 4; shard 1: planned 5 instances but accounts for 6"),
        ("planned", [5, 5, 6], "release's shards are not those of its plan; shard 2: planned 6 .*; the manifest's totals"),
        ("quarantined", [[("undecodable", 1)], [("undecodable", 1)], [("other", 1)]], "shard 2: the rows of the quarantine do not add up"),
        ("score_sum", [0.0, 0.0, 0.0], "the manifest's figures are not the sums over its shards"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_table_of_shards_that_contradicts_itself(
    local_store: Store, make_release: Callable[..., Release], column: str, values: list, problem: str
) -> None:
    edited = _republish(local_store, make_release(local_store), column, values)
    with pytest.raises(ReleaseError, match=problem):
        verify_release(edited, deep=False)


def test_histograms_of_other_rows(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    figures = release.manifest.figures | {"score": release.manifest.figures["score"].model_copy(update={"sum": 0.0})}
    edited = _republish(local_store, release, "score_sum", [0.0, 0.0, 0.0], figures=figures)
    verify_release(edited, deep=False)
    with pytest.raises(ReleaseError, match=r"shard 0: its commit record differs.*shard 0: its histograms are not those of its rows"):
        verify_release(edited)


def test_an_edited_manifest(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    key = "releases/rel/v0001/manifest.json"
    _overwrite(local_store, key, release.manifest.model_copy(update={"settings": {"batch_size": 1}}).to_bytes())
    with pytest.raises(ReleaseError, match="edited or replaced"):
        verify_release(release)


@pytest.mark.parametrize(
    "update",
    [{"settings": {"batch_size": 1}}, {"lineage": {}}, {"dataset": "mpii"}],
    ids=["settings", "lineage", "dataset"],
)
def test_an_edited_manifest_of_an_older_version(local_store: Store, make_release: Callable[..., Release], update: dict) -> None:
    """HEAD no longer vouches for it, its plan still does."""
    first = make_release(local_store)
    make_release(local_store, word="next")
    _overwrite(local_store, "releases/rel/v0001/manifest.json", first.manifest.model_copy(update=update).to_bytes())
    _expect(local_store, "not those of its plan", version=1)


def test_counts_that_do_not_add_up_cannot_even_be_opened(local_store: Store, make_release: Callable[..., Release]) -> None:
    make_release(local_store)
    key = "releases/rel/v0001/manifest.json"
    values = json.loads(local_store.get(key))
    _overwrite(local_store, key, json.dumps(values | {"annotated": values["annotated"] - 1}).encode())
    _expect(local_store, "not a release manifest: as a whole: .*planned 15 instances but accounts for 14")


def test_a_commit_record_that_differs_or_is_gone(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    key = commit_key(release.manifest.plan_digest, 0)
    _overwrite(local_store, key, next(release.commits()).model_copy(update={"size_bytes": 1}).to_bytes())
    local_store.delete(commit_key(release.manifest.plan_digest, 1))
    _expect(local_store, "shard 0: its commit record differs.*shard 1: no commit record")


def test_a_quarantine_file_card_or_plan_that_is_wrong(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    _overwrite(local_store, "releases/rel/v0001/quarantine.parquet", encode(pa.table({"a": [1]})))
    local_store.delete(plan_key(release.manifest.plan_digest))
    _expect(local_store, "quarantine.parquet: expected sha256.*the plan cannot be read")
    local_store.delete("releases/rel/v0001/README.md")
    _expect(local_store, "README.md: no such object")


def _publish_tables(store: Store, plan: AnnotationPlan, tables: list[pa.Table], stored: dict[int, pa.Table] | None = None) -> None:
    """`stored`: tables that are written in place of those the records speak of."""
    save_plan(store, plan)
    commits = {}
    for shard, table in zip(plan.shards, tables, strict=True):
        data = encode((stored or {}).get(shard.index, table))
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, table, ()), data).commit
    lineage = {"shard_set": plan.shard_set_digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
    publish(store, draft_release("rel", plan, commits, "open", lineage))


def test_a_person_twice_in_a_release(local_store: Store) -> None:
    _publish_tables(local_store, make_plan(shards=2), [make_rows(0, 5), make_rows(0, 5)])
    _expect(local_store, r"5 problems: person \('image_0_0', '0'\) is in shard 0 and in shard 1")


def test_rows_out_of_order_of_another_schema_or_not_finite(local_store: Store) -> None:
    rows = make_rows(0, 5)
    at = rows.schema.get_field_index("betas")
    bad = pa.FixedSizeListArray.from_arrays(pa.array(np.full(50, np.nan, np.float32)), type=rows.schema.field(at).type)
    tables = [
        rows.take([4, 3, 2, 1, 0]),
        make_rows(1, 5),
        make_rows(2, 5).set_column(at, rows.schema.field(at), bad),
    ]
    _publish_tables(local_store, make_plan(shards=3), tables, {1: tables[1].drop_columns(["score"])})
    with pytest.raises(ReleaseError) as found:
        verify_release(open_release(local_store.url, "rel", 1))
    for message in ("shard 0: rows are not sorted", "expected 5 rows of the pseudo-GT schema", "shard 2: betas has NaN"):
        assert message in str(found.value)
