"""An export is whole or not there, says what it was made from, and never overwrites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import CommitConflict, ConfigError, MissingInput, ReleaseError
from engine.exchange.export import persons
from engine.exchange.registry import FORMATS, format_module
from engine.exchange.sidecar import ExportRecord
from engine.storage import Store
from schemas.records import sha256_hex
from tests.engine.exchange import extremes
from tests.engine.exchange.conftest import World


def test_a_folder_with_its_record(world: World, tmp_path: Path) -> None:
    record = world.export("huggingface", tmp_path / "a" / "out", max_shard_mb=0.03)
    folder = tmp_path / "a" / "out"
    assert ExportRecord.from_bytes((folder / "export.json").read_bytes()) == record
    m = world.release.manifest
    assert (record.release, record.release_digest, record.body, record.lineage) == (
        "extremes v0001",
        world.release.digest,
        m.body,
        m.lineage,
    )
    assert record.options["max_shard_mb"] == 0.03
    on_disk = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert on_disk.keys() == {file.path for file in record.files} | {"export.json"}
    assert all((sha256_hex(on_disk[f.path]), len(on_disk[f.path])) == (f.sha256, f.size_bytes) for f in record.files)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"], "nothing is left beside it"


@pytest.mark.parametrize("name", ["neuralannot", "coco_json", "webdataset", "huggingface"])
def test_done_again_it_is_the_same_bytes(world: World, tmp_path: Path, name: str) -> None:
    assert world.export(name, tmp_path / "a") == world.export(name, tmp_path / "b")


def test_a_folder_that_is_taken(world: World, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    world.export("neuralannot", tmp_path / "out")
    for taken in (tmp_path / "out", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError, match="never overwrite"):
            world.export("neuralannot", taken)


def test_a_folder_that_cannot_be(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file/out: cannot be created: Not a directory"):
        world.export("neuralannot", tmp_path / "file" / "out")


def test_to_another_store_and_back(world: World, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/out"
    record = world.export("huggingface", url)
    store = Store(url)
    assert set(store.list()) == {file.path for file in record.files} | {"export.json"}
    back = world.load("huggingface", url, tmp_path / "store")
    assert back.manifest.annotated == 90
    with pytest.raises(ConfigError, match="never overwrite"):
        world.export("huggingface", url)
    store.delete("export.json")
    assert world.export("huggingface", url) == record, "an interrupted upload is gone on with"
    store.delete("export.json")
    store.delete("README.md")
    store.create("README.md", b"another's")
    with pytest.raises(CommitConflict, match="other bytes"):
        world.export("huggingface", url)


def test_one_file_of_another_store(world: World, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/single"
    (file,) = world.export("neuralannot", url).files
    assert world.load("neuralannot", f"{url}/{file.path}", tmp_path / "store").manifest.annotated == 90


def test_the_shard_set_of_another_release(world: World, tmp_path: Path) -> None:
    other = extremes.write_people(tmp_path / "shards", world.body, world.persons[:20])
    with pytest.raises(ReleaseError, match=f"{other.url} is {other.digest} and lacks"):
        next(persons(world.release, other))


def test_formats_that_are_none(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of neuralannot"):
        format_module("fbx")
    with pytest.raises(MissingInput, match="no such file"):
        world.load("neuralannot", tmp_path / "nowhere", tmp_path / "store")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_offers_what_the_registry_promises(name: str) -> None:
    module = format_module(name)
    assert module.Options() and module.CAPABILITIES is not None and callable(module.open_reader)


def test_the_order_is_the_releases(world: World, tmp_path: Path) -> None:
    world.export("coco_json", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("person*")
    names = [annotation["annotation_id"] for annotation in json.loads(path.read_text())["annotations"]]
    assert names == world.release.table()["annotation_id"].to_pylist()
