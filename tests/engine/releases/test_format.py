"""docs/FORMAT.md keeps its word: its programs, run as they stand in there without this project, read a real release."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from engine.fanout.actor import ShardWorker
from engine.fanout.plan import lineage
from engine.releases.commit import load_commits, save_plan
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release, object_key
from engine.shards.reader import open_shard_set
from engine.storage import Store
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from tests.engine.fanout.conftest import make_shards, write_shard_set
from tests.engine.fanout.test_actor import make_job

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "FORMAT.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = tmp_path_factory.mktemp("format")
    shards = make_shards(2, 3)
    sample, image, extension = shards[1][0]
    shards[1][0] = (sample, image[:300], extension)
    job = make_job(write_shard_set(str(root / "set"), shards), str(root / "out"))
    worker, store = ShardWorker(job.worker), Store(job.out_url)
    save_plan(store, job.plan)
    for shard in job.plan.shards:
        worker.run(shard)
    made_from = lineage(job.plan, open_shard_set(job.shard_set_url).manifest, worker.annotator.identity())
    return publish(store, draft_release("rel", job.plan, load_commits(store, job.plan), "open", made_from))


def _run(program: str, *arguments: object, cwd: Path) -> str:
    assert "engine" not in program and "schemas" not in program
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reading(release: Release, tmp_path: Path) -> None:
    assert _run(PROGRAMS[0], release.store.url, "rel", cwd=tmp_path) == "10 persons; coco train ; body: open\n"


def test_reading_a_part(release: Release, tmp_path: Path) -> None:
    ids = release.table()["annotation_id"].to_pylist()[1:9:2]
    part = derive(release, "part", Expression(f"annotation_id in {ids}", "truth"))
    assert part.manifest.annotated == part.table().num_rows
    told = f"{part.manifest.annotated} persons; coco train ; body: open\n"
    assert 0 < part.manifest.annotated < 10 and _run(PROGRAMS[0], release.store.url, "part", cwd=tmp_path) == told
    assert _run(PROGRAMS[3], release.store.path("releases/part/v0001/manifest.json"), cwd=tmp_path).strip() == part.digest
    section = DOCUMENT.split("## Derived releases")[1]
    assert part.selection is not None and all(f"`{name}`" in section for name in part.selection.column_names)


def test_the_score(release: Release, tmp_path: Path) -> None:
    shard = next(release.commits())
    assert _run(PROGRAMS[1], release.store.path(object_key(shard.sha256)), cwd=tmp_path).startswith("6 scores, median 0.")


def test_joining_with_images(release: Release, tmp_path: Path) -> None:
    shard = next(release.commits())
    tar = Path(release.store.url).parent / "set" / "shards" / "000000.tar"
    lines = _run(PROGRAMS[2], release.store.path(object_key(shard.sha256)), tar, cwd=tmp_path).splitlines()
    rows = release.rows(shard.source_sha256).to_pylist()
    assert len(lines) == len(rows) == 6
    for line, row in zip(lines, rows, strict=True):
        assert line.startswith(f"{row['key']} {row['annotation_id']} ") and line.endswith(f"joints: {row['valid_joints']}")


def test_the_digest(release: Release, tmp_path: Path) -> None:
    path = release.store.path("releases/rel/v0001/manifest.json")
    assert _run(PROGRAMS[3], path, cwd=tmp_path).strip() == release.digest


def test_every_column_is_described_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (string|float32(?:\[\d+\])?|int16) \| (\w*) ?\| ", DOCUMENT, re.MULTILINE)
    assert [name for name, _, _ in rows] == PSEUDO_GT_SCHEMA.names
    for (name, kind, unit), field in zip(rows, PSEUDO_GT_SCHEMA, strict=True):
        vector = pa.types.is_fixed_size_list(field.type)
        scalar = {"float": "float32", "halffloat": "float16"}.get(str(field.type.value_type if vector else field.type), str(field.type))
        assert kind == (f"{scalar}[{field.type.list_size}]" if vector else scalar), name
        assert field.metadata[b"unit"].decode() == unit, name


def test_the_manifests_fields_are_described(release: Release) -> None:
    manifest, shards = DOCUMENT.split("## The manifest")[1].split("## The table of shards")
    for field in release.manifest.model_dump():
        assert f"`{field}`" in manifest, field
    for column in release.shards.column_names:
        figure, _, kind = column.rpartition("_")
        assert f"`<figure>_{kind}`" in shards if figure in release.manifest.figures else f"`{column}`" in shards, column


def test_the_distribution_of_a_figure(release: Release) -> None:
    path = release.store.path("releases/rel/v0001/manifest.json")
    lines = _run(PROGRAMS[4], path, cwd=Path(path).parent).splitlines()
    scores = [row["score"] for row in release.table().to_pylist() if row["valid_joints"]]
    assert lines == [f"{i / 50} {sum(score < i / 50 for score in scores)} of {len(scores)}" for i in range(51)]
