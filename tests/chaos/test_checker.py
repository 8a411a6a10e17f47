"""The checker sees every kind of damage, also where whoever did it has put all digests right again."""

from __future__ import annotations

import ast
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.releases.commit import commit_shard, make_commit, save_plan
from engine.releases.publish import draft_release, publish
from engine.releases.tables import encode
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from schemas.manifests import AnnotationPlan, QuarantineRow, ShardPlan
from tests.chaos.annotation.checker import check, main
from tests.chaos.annotation.world import image_key, write_world
from tests.engine.releases.conftest import make_plan, make_rows

SHARDS, IMAGES, PERSONS = 3, 4, 2
BAD = image_key(1, 2)
FOLDER = "releases/rel/v0001"


def write_store(root: str, world: str) -> None:
    """A release of every person of a world, with one image in quarantine, written by the engine."""
    shard_set, store, commits = open_shard_set(world), Store(root), {}
    shards = tuple(
        ShardPlan(index=i, url="", sha256=e.sha256, size_bytes=e.size_bytes, samples=e.samples, instances=e.instances)
        for i, e in enumerate(shard_set.manifest.shards)
    )
    plan: AnnotationPlan = make_plan().model_copy(update={"shards": shards, "shard_set_digest": shard_set.digest})
    save_plan(store, plan)
    for shard, entry in zip(shards, shard_set.manifest.shards, strict=True):
        samples = [sample for sample, _ in read_samples(shard_set.fetch(entry))]
        persons = sorted((s.key, i.annotation_id) for s in samples for i in s.instances if s.key != BAD)
        quarantine = tuple(
            QuarantineRow(dataset="coco", key=s.key, reason="undecodable", message="", instances=PERSONS) for s in samples if s.key == BAD
        )
        rows = make_rows(shard.index, len(persons))
        for name, values in zip(("key", "annotation_id"), zip(*persons, strict=True), strict=True):
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
        data = encode(rows)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, rows, quarantine), data).commit
    publish(store, draft_release("rel", plan, commits, "open", {}))


@pytest.fixture
def world(tmp_path: Path) -> str:
    return write_world(str(tmp_path / "world"), SHARDS, IMAGES, PERSONS)


@pytest.fixture
def root(tmp_path: Path, world: str) -> Path:
    write_store(str(tmp_path / "root"), world)
    return tmp_path / "root"


def test_a_good_release_has_no_findings(
    root: Path, world: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(str(root), "rel", world)
    assert (found["planned"], found["annotated"], found["version"]) == (24, 22, 1)
    assert not any(found[what] for what in ("lost", "duplicated", "orphans", "unfinished", "leftovers", "problems"))
    monkeypatch.setattr("sys.argv", ["checker", str(root), "rel", "--shard_set", world])
    assert main() == 0 and json.loads(capsys.readouterr().out) == found


class Forger:
    """Changes a release and puts every digest right that stands above the change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: dict[str, Any] = json.loads((root / FOLDER / "manifest.json").read_text())
        self.shards = pq.read_table(root / FOLDER / "shards.parquet")

    def rows(self, shard: int) -> pa.Table:
        digest = self.shards["sha256"][shard].as_py()
        return pq.read_table(self.root / f"objects/{digest[:2]}/{digest}.parquet")

    def replace_rows(self, shard: int, rows: pa.Table, **fields: Any) -> None:
        """Other rows for a shard; `fields`: what the table of shards says of it from now on."""
        data = _bytes(rows)
        digest = hashlib.sha256(data).hexdigest()
        path = self.root / f"objects/{digest[:2]}/{digest}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        old = self.shards.slice(shard, 1).to_pylist()[0]
        (self.root / f"objects/{old['sha256'][:2]}/{old['sha256']}.parquet").unlink()
        new = old | {"sha256": digest, "size_bytes": len(data)} | fields
        changed = [new if i == shard else row for i, row in enumerate(self.shards.to_pylist())]
        self.shards = pa.Table.from_pylist(changed, schema=self.shards.schema)

    def finish(self, **fields: Any) -> None:
        data = _bytes(self.shards)
        (self.root / FOLDER / "shards.parquet").write_bytes(data)
        self.manifest |= fields
        self.manifest["shards"] |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        kept = {key: value for key, value in self.manifest.items() if key not in ("name", "version", "created_at")}
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (self.root / FOLDER / "manifest.json").write_text(json.dumps(self.manifest))
        head = json.loads((self.root / "releases/rel/HEAD").read_text())
        head["release_digest"] = hashlib.sha256(text.encode()).hexdigest()
        (self.root / "releases/rel/HEAD").write_text(json.dumps(head))


def _bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _object(root: Path, shard: int = 1) -> Path:
    digest = pq.read_table(root / FOLDER / "shards.parquet")["sha256"][shard].as_py()
    return root / f"objects/{digest[:2]}/{digest}.parquet"


def _edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def flip_a_byte(root: Path) -> None:
    _edit(_object(root), lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:])


def cut_an_object(root: Path) -> None:
    _edit(_object(root), lambda data: data[: len(data) // 2])


def empty_an_object(root: Path) -> None:
    _edit(_object(root), lambda data: b"")


def delete_an_object(root: Path) -> None:
    _object(root).unlink()


def misname_an_object(root: Path) -> None:
    path = root / "objects/00" / f"{'0' * 64}.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"not of this name")


def count_more(root: Path) -> None:
    _edit_json(root / FOLDER / "manifest.json", annotated=23)


def cut_the_table_of_shards(root: Path) -> None:
    _edit(root / FOLDER / "shards.parquet", lambda data: data[:-20])


def drop_the_quarantine(root: Path) -> None:
    path = root / FOLDER / "quarantine.parquet"
    path.write_bytes(_bytes(pq.read_table(path).slice(0, 0)))


def point_head_elsewhere(root: Path) -> None:
    _edit_json(root / "releases/rel/HEAD", version=7, manifest_path="releases/rel/v0007/manifest.json")


def publish_twice(root: Path) -> None:
    (root / "releases/rel/v0002").mkdir()
    (root / "releases/rel/v0002/manifest.json").write_bytes((root / FOLDER / "manifest.json").read_bytes())
    _edit_json(root / "releases/rel/v0002/manifest.json", version=2)


def skip_a_version(root: Path) -> None:
    publish_twice(root)
    (root / "releases/rel/v0002").rename(root / "releases/rel/v0003")
    _edit_json(root / "releases/rel/v0003/manifest.json", version=3)


def forge_a_null(root: Path) -> None:
    forger = Forger(root)
    rows = forger.rows(0)
    forger.replace_rows(0, rows.set_column(0, "dataset", pa.array([None, *["coco"] * (len(rows) - 1)])))
    forger.finish()


def forge_a_nan(root: Path) -> None:
    forger = Forger(root)
    rows = forger.rows(0)
    score = pa.array([float("nan")] * len(rows), pa.float32())
    forger.replace_rows(0, rows.set_column(rows.schema.get_field_index("score"), "score", score))
    forger.finish()


def forge_another_order(root: Path) -> None:
    forger = Forger(root)
    rows = forger.rows(0)
    forger.replace_rows(0, rows.take(list(reversed(range(len(rows))))))
    forger.finish()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip_a_byte, "the sha256 of its bytes is"),
        (cut_an_object, "not Parquet"),
        (empty_an_object, "is empty"),
        (delete_an_object, "is absent"),
        (misname_an_object, "the sha256 of its bytes is"),
        (count_more, "HEAD says the release is"),
        (cut_the_table_of_shards, "shards.parquet: expected"),
        (drop_the_quarantine, "quarantine.parquet counts"),
        (point_head_elsewhere, "HEAD points to version 7"),
        (publish_twice, "version 2 is version 1 again"),
        (skip_a_version, "not 1, 2, 3"),
        (forge_a_null, "with 1 nulls"),
        (forge_a_nan, "score has NaN"),
        (forge_another_order, "not sorted"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_seen(root: Path, world: str, damage: Callable[[Path], None], problem: str) -> None:
    damage(root)
    assert any(problem in found for found in check(str(root), "rel", world)["problems"])


def test_a_person_who_was_dropped_with_all_traces_is_lost(root: Path, world: str) -> None:
    """Counts, digests and conservation agree; only the image shards know better."""
    forger = Forger(root)
    rows = forger.rows(2)
    gone = (rows["key"][3].as_py(), rows["annotation_id"][3].as_py())
    forger.replace_rows(2, pa.concat_tables([rows.slice(0, 3), rows.slice(4)]), planned=7, annotated=7)
    forger.finish(planned=23, annotated=21)
    assert not check(str(root), "rel")["problems"]
    found = check(str(root), "rel", world)
    assert found["lost"] == [gone] and found["problems"] == ["shard 2: 8 persons in shards/000002.tar, planned 7"]


def test_a_person_who_is_there_twice_is_duplicated(root: Path, world: str) -> None:
    forger = Forger(root)
    rows = forger.rows(0)
    forger.replace_rows(0, pa.concat_tables([rows.slice(0, 1), rows]), planned=9, annotated=9)
    forger.finish(planned=25, annotated=23)
    person = (rows["key"][0].as_py(), rows["annotation_id"][0].as_py())
    assert check(str(root), "rel", world)["duplicated"] == [person] == check(str(root), "rel")["duplicated"]


def test_a_person_in_the_place_of_another_is_found(root: Path, world: str) -> None:
    forger = Forger(root)
    rows = forger.rows(0)
    keys = rows["annotation_id"].to_pylist()
    gone, keys[-1] = keys[-1], f"{keys[-1]}9"
    forger.replace_rows(0, rows.set_column(rows.schema.get_field_index("annotation_id"), "annotation_id", pa.array(keys)))
    forger.finish()
    found = check(str(root), "rel", world)
    assert [person for _, person in found["lost"]] == [gone] and [person for _, person in found["duplicated"]] == [keys[-1]]


def test_what_crashes_leave_is_listed_and_is_no_problem(root: Path, world: str) -> None:
    data = b"rows without a record"
    digest = hashlib.sha256(data).hexdigest()
    orphan = f"objects/{digest[:2]}/{digest}.parquet"
    (root / orphan).parent.mkdir(exist_ok=True)
    (root / orphan).write_bytes(data)
    (root / "objects/.partial-1").write_bytes(b"half")
    publish_twice(root)
    _edit_json(root / "releases/rel/v0002/manifest.json", body="smpl")
    found = check(str(root), "rel", world)
    assert (found["orphans"], found["leftovers"], found["unfinished"]) == ([orphan], ["objects/.partial-1"], [2])
    assert not (found["lost"] or found["duplicated"] or found["problems"])


def test_another_shard_set_than_the_release_was_made_from(root: Path, tmp_path: Path) -> None:
    other = write_world(str(tmp_path / "other"), SHARDS, IMAGES + 1, PERSONS)
    found = check(str(root), "rel", other)
    assert len(found["lost"]) == 6 and any("are not the 3 the release was made from" in problem for problem in found["problems"])


def test_the_checker_shares_nothing_with_the_writer() -> None:
    tree = ast.parse((Path(__file__).parent / "annotation/checker.py").read_text())
    modules = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules and not {module.split(".")[0] for module in modules} & {"engine", "schemas", "jobs", "tests"}
