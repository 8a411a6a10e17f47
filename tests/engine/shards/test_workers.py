"""Shards made by real Ray workers: the same bytes as without them, through killed processes, and an error that says who killed them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from engine.datasets.base import DatasetConfig
from engine.errors import CommitConflict, EngineError
from engine.shards.ingest import IngestConfig, ingest
from engine.storage import Store


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of two CPUs whose workers die once over image 003, and always over image 'poison'; the folder that counts deaths."""
    deaths = tmp_path_factory.mktemp("deaths")
    faults = [
        {"point": "ingest_image", "match": "003", "action": "kill", "times": 1},
        {"point": "ingest_image", "match": "poison", "action": "kill"},
    ]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PSEUDOGT_FAULTS", json.dumps(faults))
        environment.setenv("PSEUDOGT_FAULTS_DIR", str(deaths))
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100 << 20
        )
        yield deaths
        ray.shutdown()


def test_workers_that_die_change_no_byte(cluster: Path, coco, ingest_config, tmp_path: Path) -> None:
    root = coco(12)
    alone = ingest(ingest_config(root, out="alone"))
    said: list[str] = []
    together = ingest(ingest_config(root, out="together", workers=None), said.append)
    assert together.digest() == alone.digest()
    assert len(list(cluster.glob("ingest_image-kill-003-*"))) == 1
    assert said[-1].startswith("ingest: 6/6 shards · 12/12 images · 24 persons")
    for key in Store(str(tmp_path / "alone")).list("shards"):
        assert Store(str(tmp_path / "together")).get(key) == Store(str(tmp_path / "alone")).get(key)


def test_a_photograph_that_changed_is_the_workers_error_too(cluster: Path, coco, ingest_config, encode) -> None:
    root = coco(6)
    config = ingest_config(root, workers=2)
    ingest(config)
    store = Store(config.out)
    for key in ("manifest.json", *store.list("ingest")):
        store.delete(key)
    (root / "tiny/004.jpg").write_bytes(encode(seed=77))
    with pytest.raises(CommitConflict, match=r"000002.tar: holds other bytes"):
        ingest(config)


def test_an_image_that_kills_is_an_error_and_the_rest_is_kept(cluster: Path, coco, ingest_config) -> None:
    root = coco(6)
    path = root / "annotations/person_keypoints_tiny.json"
    path.write_text(path.read_text().replace('"005.jpg"', '"poison.jpg"'))
    (root / "tiny/005.jpg").rename(root / "tiny/poison.jpg")
    config = ingest_config(root, workers=2)
    with pytest.raises(EngineError, match="shard 2 cannot be made: 4 processes died with it in hand"):
        ingest(config)
    assert len(list(cluster.glob("ingest_image-kill-poison-*"))) == 4
    store = Store(config.out)
    assert [key.rsplit("/", 1)[-1] for key in store.list("ingest")] == ["000000.json", "000001.json"]
    assert not store.exists("manifest.json")
    assert ingest(config.model_copy(update={"workers": 0})).instances == 12


def test_one_shard_is_made_without_workers(cluster: Path, coco, tmp_path: Path) -> None:
    root = coco(3)
    path = root / "annotations/person_keypoints_tiny.json"
    path.write_text(path.read_text().replace('"002.jpg"', '"poison.jpg"'))
    (root / "tiny/002.jpg").rename(root / "tiny/poison.jpg")
    dataset = DatasetConfig(name="coco", root=str(root), split="tiny")
    assert ingest(IngestConfig(dataset=dataset, out=str(tmp_path / "out"))).samples == 3
