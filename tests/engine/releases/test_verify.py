"""verify finds what was done to a release behind its back."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ReleaseError
from engine.releases.commit import commit_shard, draft_release, make_commit, publish, save_plan
from engine.releases.store import Release, commit_key, object_key, open_release, plan_key
from engine.releases.tables import encode
from engine.releases.verify import verify_release
from engine.storage import Store
from schemas.manifests import AnnotationPlan
from tests.engine.releases.conftest import make_plan, make_rows


def _overwrite(store: Store, key: str, data: bytes) -> None:
    store.swap(key, store.get(key), data)


def _expect(store: Store, match: str, version: int | None = None) -> None:
    with pytest.raises(ReleaseError, match=match):
        verify_release(open_release(store.url, "rel", version))


def test_a_flipped_byte(local_store: Store, make_release: Callable[..., Release]) -> None:
    shard = make_release(local_store).manifest.shards[1]
    data = bytearray(local_store.get(object_key(shard.sha256)))
    data[len(data) // 2] ^= 1
    _overwrite(local_store, object_key(shard.sha256), bytes(data))
    _expect(local_store, "pseudo-GT of shard 1: .*damaged or replaced")


def test_a_missing_object(local_store: Store, make_release: Callable[..., Release]) -> None:
    local_store.delete(object_key(make_release(local_store).manifest.shards[2].sha256))
    _expect(local_store, "pseudo-GT of shard 2: .*no such object")


def test_an_edited_manifest(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    key = "releases/rel/v0001/manifest.json"
    _overwrite(local_store, key, release.manifest.model_copy(update={"settings": {"batch_size": 1}}).to_bytes())
    with pytest.raises(ReleaseError, match="edited or replaced"):
        verify_release(release)


@pytest.mark.parametrize(
    "update",
    [{"settings": {"batch_size": 1}}, {"lineage": {}}, {"dataset": "mpii"}, {"shards": ()}],
    ids=["settings", "lineage", "dataset", "shards"],
)
def test_an_edited_manifest_of_an_older_version(local_store: Store, make_release: Callable[..., Release], update: dict) -> None:
    """HEAD no longer vouches for it, its plan still does."""
    first = make_release(local_store)
    make_release(local_store, word="next")
    if "shards" in update:
        update |= {"planned": 0, "annotated": 0, "quarantined": {}}
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
    _overwrite(local_store, key, release.manifest.shards[0].model_copy(update={"size_bytes": 1}).to_bytes())
    local_store.delete(commit_key(release.manifest.plan_digest, 1))
    _expect(local_store, "shard 0: its commit record differs.*shard 1: no commit record")


def test_a_quarantine_file_card_or_plan_that_is_wrong(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    _overwrite(local_store, "releases/rel/v0001/quarantine.parquet", encode(pa.table({"a": [1]})))
    local_store.delete(plan_key(release.manifest.plan_digest))
    _expect(local_store, "the plan cannot be read.*quarantine.parquet differs")
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
    try:
        _publish_tables(local_store, make_plan(shards=3), tables, {1: tables[1].drop_columns(["score"])})
    except ReleaseError as error:
        assert "rows of the pseudo-GT schema" in str(error)  # the card already refuses to be written
    with pytest.raises(ReleaseError) as found:
        verify_release(open_release(local_store.url, "rel", 1))
    for message in ("shard 0: rows are not sorted", "expected 5 rows of the pseudo-GT schema", "shard 2: betas has NaN"):
        assert message in str(found.value)
