"""Small shard sets of real JPEGs, written by the engine's own shard writer, and one Ray cluster for all tests here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.fanout.config import AnnotateConfig, PoolConfig
from engine.shards.writer import write_shard
from engine.storage import Store
from schemas.manifests import ShardEntry, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17

WIDTH, HEIGHT = 160, 120


def make_image(rng: np.random.Generator) -> bytes:
    """A JPEG of WIDTH x HEIGHT with something on it."""
    coarse = rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_sample(key: str, persons: int, rng: np.random.Generator) -> Sample:
    """A sample of the dataset 'coco' whose persons stand somewhere in the image."""
    instances = []
    for i in range(persons):
        x, y = rng.uniform(0, WIDTH / 2), rng.uniform(0, HEIGHT / 3)
        w, h = rng.uniform(30, WIDTH / 2), rng.uniform(50, HEIGHT * 0.6)
        joints = rng.uniform((x, y), (x + w, y + h), (len(COCO17), 2))
        instances.append(
            Instance(
                annotation_id=f"{key}-{i}",
                bbox_xywh=(x, y, w, h),
                skeleton="coco17",
                joints_img=tuple(map(tuple, joints.tolist())),
                joints_valid=tuple((rng.uniform(size=len(COCO17)) < 0.7).tolist()),
            )
        )
    return Sample(key=key, dataset="coco", image_path=f"train/{key}.jpg", width=WIDTH, height=HEIGHT, instances=tuple(instances))


def make_shards(count: int, images: int, persons: int = 2) -> list[list[tuple[Sample, bytes, str]]]:
    rng = np.random.default_rng(7)
    return [[(make_sample(f"s{s:02d}_{i:03d}", persons, rng), make_image(rng), "jpg") for i in range(images)] for s in range(count)]


def write_shard_set(url: str, shards: list[list[tuple[Sample, bytes, str]]]) -> str:
    """The shard set's URL. What is in the shards is not looked at, as an ingest would."""
    store, entries = Store(url), []
    for number, samples in enumerate(shards):
        data, index = write_shard(samples)
        path = f"shards/{number:06d}.tar"
        store.create(path, data)
        store.create(f"shards/{number:06d}.index.jsonl", index)
        entries.append(
            ShardEntry(
                path=path,
                sha256=sha256_hex(data),
                size_bytes=len(data),
                samples=len(samples),
                instances=sum(len(s.instances) for s, _, _ in samples),
                index_path=f"shards/{number:06d}.index.jsonl",
                index_sha256=sha256_hex(index),
            )
        )
    total = sum(e.instances for e in entries)
    manifest = ShardSetManifest(
        dataset="coco",
        split="train",
        supervision="itw2d",
        shards=tuple(entries),
        samples=sum(e.samples for e in entries),
        instances=total,
        found_instances=total,
        skipped={},
        quarantined={},
        quarantine=(),
        raw_digest=sha256_hex(b"raw"),
        config_digest=sha256_hex(b"config"),
        created_at="2025-01-01T00:00:00+00:00",
    )
    store.create("manifest.json", manifest.to_bytes())
    return url


@pytest.fixture
def shard_set(tmp_path: Path) -> str:
    """Three shards of three images with two persons each: 18 persons."""
    return write_shard_set(str(tmp_path / "set"), make_shards(3, 3))


@pytest.fixture
def config(shard_set: str, tmp_path: Path) -> AnnotateConfig:
    return make_config(shard_set, tmp_path)


def make_config(shard_set: str, tmp_path: Path, **fields: object) -> AnnotateConfig:
    pool = PoolConfig(min_size=1, max_size=1, cpus=0.5)
    values = {"shard_set": shard_set, "annotator": "mean_pose", "out": str(tmp_path / "out"), "name": "coco", "batch_size": 4, "pool": pool}
    return AnnotateConfig.model_validate(values | fields)
