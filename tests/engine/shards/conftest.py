"""A small dataset in COCO's layout that tests damage as they like."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.datasets.base import DatasetConfig
from engine.shards.ingest import IngestConfig

KEYPOINTS = [v for i in range(17) for v in (4 + i, 9 + i, 2)]


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """encode(wh, format, seed, **save options) -> bytes of a noisy image."""

    def make(wh: tuple[int, int] = (48, 32), kind: str = "JPEG", seed: int = 0, orientation: int | None = None, **options) -> bytes:
        if orientation is not None:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = orientation
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize(wh, Image.Resampling.BICUBIC).save(out, kind, **options)
        return out.getvalue()

    return make


@pytest.fixture
def coco(tmp_path: Path, encode) -> Callable[..., Path]:
    """coco(images=6, persons=2) -> root; image i is 48x32, in '<i>.jpg', with annotation ids 100 * i + person."""

    def make(images: int = 6, persons: int = 2) -> Path:
        root = tmp_path / "coco"
        (root / "annotations").mkdir(parents=True)
        (root / "tiny").mkdir()
        for i in range(images):
            (root / f"tiny/{i:03d}.jpg").write_bytes(encode(seed=i))
        content = {
            "images": [{"id": i, "file_name": f"{i:03d}.jpg", "width": 48, "height": 32} for i in range(images)],
            "annotations": [
                {"id": 100 * i + p, "image_id": i, "iscrowd": 0, "bbox": [3, 4, 30, 25 - p], "keypoints": KEYPOINTS, "num_keypoints": 17}
                for i in range(images) for p in range(persons)
            ],
        }  # fmt: skip
        (root / "annotations/person_keypoints_tiny.json").write_text(json.dumps(content))
        return root

    return make


@pytest.fixture
def ingest_config(tmp_path: Path) -> Callable[..., IngestConfig]:
    """ingest_config(root, out='out', **fields) -> config with 2 samples a shard, made in this process."""

    def make(root: Path, out: str = "out", **fields) -> IngestConfig:
        url = out if "://" in out else str(tmp_path / out)
        small = {"samples_per_shard": 2, "workers": 0}
        return IngestConfig(**({"dataset": DatasetConfig(name="coco", root=str(root), split="tiny"), "out": url} | small | fields))

    return make
