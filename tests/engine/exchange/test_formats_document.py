"""docs/FORMATS.md keeps its word: its programs run without this project, and its table says what the formats say of themselves."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.rows import annotate_batches
from engine.body.body_files import OPEN_BODY
from engine.body.smpl import Body
from engine.datasets.base import DatasetConfig
from engine.evaluation.meshes import mesh
from engine.exchange.config import ExportConfig
from engine.exchange.export import export
from engine.exchange.registry import FORMATS, format_module
from engine.fanout.plan import plan_annotation
from engine.loading.decode import Decoder
from engine.loading.persons import person_batches
from engine.releases.commit import commit_shard, make_commit
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from tests.engine.exchange.conftest import World

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "FORMATS.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def _run(program: str, *arguments: object) -> str:
    """What a program prints, run in this process: its libraries take longer to import than it takes."""
    assert "engine" not in program and "schemas" not in program
    before, printed = sys.argv, io.StringIO()
    sys.argv = ["program", *map(str, arguments)]
    try:
        with redirect_stdout(printed):
            exec(compile(program, "docs/FORMATS.md", "exec"), {})
    finally:
        sys.argv = before
    return printed.getvalue()


def _assert_same_pixels(release: Release, exported: Path, body: Body, every: int) -> None:
    """Of every so many persons of NeuralAnnot's file, by the document's program."""
    fits = json.loads(exported.read_text())
    assert list(fits) == release.table()["annotation_id"].to_pylist()
    some = exported.with_name("some.json")
    some.write_text(json.dumps(dict(list(fits.items())[::every])))
    _run(PROGRAMS[0], OPEN_BODY, some, some.with_suffix(".npz"))
    found = np.load(some.with_suffix(".npz"))
    for row in release.table().to_pylist()[::every]:
        vertices = mesh(body, np.float32([row["pose"]]), np.float32([row["betas"]]))[0].astype(np.float64) + row["transl"]
        ours = vertices[:, :2] / vertices[:, 2:] * row["focal"] + row["princpt"]
        assert np.abs(ours - found[row["annotation_id"]]).max() < 0.1, row["annotation_id"]


def test_a_stranger_projects_neuralannots_file_where_we_do(world: World, tmp_path: Path) -> None:
    (file,) = world.export("neuralannot", tmp_path / "out").files
    _assert_same_pixels(world.release, tmp_path / "out" / file.path, world.body, every=4)


def test_a_stranger_streams_the_tars(world: World, tmp_path: Path) -> None:
    record = world.export("webdataset", tmp_path / "out", max_shard_mb=0.05)
    tars = [tmp_path / "out" / file.path for file in record.files]
    assert len(tars) > 1 and _run(PROGRAMS[1], *tars) == "90 persons in 36 images\n"


def test_real_photographs(real_data: Path, tmp_path: Path) -> None:
    """COCO's own photographs and persons, one pose for everybody."""
    ingest(
        IngestConfig(
            dataset=DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017"), out=str(tmp_path / "set"), workers=0
        )
    )
    shards, annotator, store = (
        open_shard_set(str(tmp_path / "set")),
        MeanPoseAnnotator(MeanPoseConfig(crop_hw=(64, 48))),
        Store(str(tmp_path)),
    )
    plan = plan_annotation(shards.manifest, shards.digest, shards.url, annotator.identity(), {})
    (shard,), (entry,) = plan.shards, shards.manifest.shards
    rows = annotate_batches(person_batches(read_samples(shards.fetch(entry), entry), Decoder(max_batch=8), annotator.crop, 32), annotator)
    data = encode(rows.table)
    commit = commit_shard(store, make_commit(plan.digest(), shard, data, rows.table, rows.quarantine), data).commit
    lineage = {"shard_set": shards.digest, "body": annotator.body.digest}
    release = publish(store, draft_release("real", plan, {0: commit}, "open", lineage))
    config = ExportConfig(release=f"{tmp_path}#real", format="neuralannot", shard_set=shards.url, out=str(tmp_path / "out"))
    assert [file.path for file in export(config).files] == ["MSCOCO_train_SMPL_NeuralAnnot.json"]
    _assert_same_pixels(release, tmp_path / "out" / "MSCOCO_train_SMPL_NeuralAnnot.json", annotator.body, every=5)


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_says_what_a_format_can(name: str) -> None:
    cells = re.search(rf"^\| `{name}` \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert cells, f"no row of {name}"
    written, read, camera, latent, quality, images, *_ = cells[1].split(" | ")
    module = format_module(name)
    can = module.CAPABILITIES
    assert ((written == "yes"), (read == "yes")) == (hasattr(module, "open_writer"), hasattr(module, "open_reader"))
    assert (camera == "exact") == can.camera
    assert [cell != "no" for cell in (latent, quality, images)] == [can.latent, can.quality, can.images]
