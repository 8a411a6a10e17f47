"""A tiny MoCap set with 3D truth and a tiny in-the-wild set with 2D alone, a prior's directory, and a training config for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from human_body_prior.train.vposer_smpl import VPoser

from engine.body.cameras import project
from engine.body.smpl import BodyConfig, load_body
from engine.body.vposer import DATA_SHAPE, vposer_files
from engine.shards.writer import write_shard
from engine.storage import Store
from engine.training.config import TrainAnnotatorConfig
from schemas.manifests import ShardEntry, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Camera, Instance, Sample, SmplParams
from schemas.skeletons import COCO17, POSE2POSE33

WIDTH, HEIGHT = 160, 200
FOCAL, PRINCPT = (300.0, 300.0), (80.0, 100.0)


def _people(count: int, skeleton: str) -> list[Instance]:
    body, rng = load_body(BodyConfig()), np.random.default_rng(3)
    pose = rng.normal(0, 0.15, (count, 72)).astype(np.float32)
    pose[:, :3] = [np.pi - 0.2, 0, 0]
    betas = rng.normal(0, 0.5, (count, 10)).astype(np.float32)
    transl = np.array([0.0, 0.3, 3.5])
    with torch.no_grad():
        joints = body.joints(torch.from_numpy(pose), torch.from_numpy(betas)).numpy() + transl
    pixels = project(joints, np.array(FOCAL), np.array(PRINCPT))
    people = []
    for i in range(count):
        truth = {}
        names = POSE2POSE33.joints
        if skeleton == "coco17":
            names = COCO17.joints
        else:
            smpl = SmplParams(pose=tuple(pose[i].tolist()), betas=tuple(betas[i].tolist()), transl=tuple(transl.tolist()))
            truth = {"joints_cam": tuple(map(tuple, joints[i].tolist())), "smpl": smpl, "camera": Camera(focal=FOCAL, princpt=PRINCPT)}
        points = pixels[i, [POSE2POSE33.index(n) for n in names]]
        low, size = points.min(0) - 5, np.ptp(points, axis=0) + 10
        box = (*low.tolist(), *size.tolist())
        img = tuple(map(tuple, points.tolist()))
        people.append(
            Instance(annotation_id=str(i), bbox_xywh=box, skeleton=skeleton, joints_img=img, joints_valid=(True,) * len(names), **truth)
        )
    return people


def write_set(url: str, dataset: str, skeleton: str, supervision: str, count: int = 8) -> str:
    """A shard set of one shard with one person an image; its URL."""
    rng, samples = np.random.default_rng(1), []
    for i, person in enumerate(_people(count, skeleton)):
        coarse = rng.integers(0, 256, (10, 8, 3), dtype=np.uint8)
        image = cv2.imencode(".jpg", cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))[1].tobytes()
        sample = Sample(key=f"{dataset}-{i}", dataset=dataset, image_path=f"{i}.jpg", width=WIDTH, height=HEIGHT, instances=(person,))
        samples.append((sample, image, "jpg"))
    tar, index = write_shard(samples)
    store = Store(url)
    store.create("shards/000000.tar", tar)
    store.create("shards/000000.index.jsonl", index)
    entry = ShardEntry(
        path="shards/000000.tar",
        sha256=sha256_hex(tar),
        size_bytes=len(tar),
        samples=count,
        instances=count,
        index_path="shards/000000.index.jsonl",
        index_sha256=sha256_hex(index),
    )
    manifest = ShardSetManifest(
        dataset=dataset,
        split="train",
        supervision=supervision,
        shards=(entry,),
        samples=count,
        instances=count,
        found_instances=count,
        skipped={},
        quarantined={},
        quarantine=(),
        raw_digest="0" * 64,
        config_digest="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
    )
    store.create("manifest.json", manifest.to_bytes())
    return url


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URLs of the MoCap set and of the in-the-wild set."""
    root = tmp_path_factory.mktemp("sets")
    return (
        write_set(str(root / "studio"), "studio", POSE2POSE33.name, "mocap"),
        write_set(str(root / "wild"), "wild", "coco17", "itw2d"),
    )


@pytest.fixture(scope="session")
def vposer_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A VPoser v1 directory of random weights."""
    root = tmp_path_factory.mktemp("vposer")
    torch.manual_seed(0)
    for name, data in vposer_files(VPoser(num_neurons=512, latentD=32, data_shape=DATA_SHAPE), {}, 1, "random").items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return str(root)


@pytest.fixture
def make_config(sets: tuple[str, str], vposer_dir: str, tmp_path: Path) -> Callable[..., TrainAnnotatorConfig]:
    """A config of six steps of four crops; fields given by keyword replace top-level ones."""

    def make(**fields: object) -> TrainAnnotatorConfig:
        values = {
            "out": str(tmp_path / "run"),
            "loading": {"mocap": [{"url": sets[0]}], "itw": [{"url": sets[1]}], "batch_size": 4, "cache_dir": str(tmp_path / "cache")},
            "model": {"backbone": "resnet18", "width": 0.125, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 8},
            "prior": {"kind": "vposer", "vposer_dir": vposer_dir},
            "optim": {"lr": 1e-3, "schedule": "onecycle", "ema_decay": 0.9},
            "max_steps": 6,
            "checkpoint_every_steps": 3,
            "log_every_steps": 2,
            "progress_every_s": 0,
            "precision": "fp32",
        }
        return TrainAnnotatorConfig.model_validate(values | fields)

    return make
