"""A tiny MoCap set with 3D truth and a tiny in-the-wild set with 2D alone."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from engine.body.cameras import project
from engine.body.smpl import BodyConfig, load_body
from engine.shards.writer import write_shard
from engine.storage import Store
from schemas.manifests import ShardEntry, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Camera, Instance, Sample, SmplParams
from schemas.skeletons import COCO17, POSE2POSE33

WIDTH, HEIGHT = 160, 200
FOCAL, PRINCPT = (300.0, 300.0), (80.0, 100.0)


def people(count: int, skeleton: str) -> list[Instance]:
    """Persons with the joints of a skeleton; in pose2pose33 with 3D joints and an SMPL fit, in coco17 without."""
    body, rng = load_body(BodyConfig()), np.random.default_rng(3)
    pose = rng.normal(0, 0.15, (count, 72)).astype(np.float32)
    pose[:, :3] = [np.pi - 0.2, 0, 0]
    betas = rng.normal(0, 0.5, (count, 10)).astype(np.float32)
    transl = np.array([0.0, 0.3, 3.5])
    with torch.no_grad():
        joints = body.joints(torch.from_numpy(pose), torch.from_numpy(betas)).numpy() + transl
    pixels = project(joints, np.array(FOCAL), np.array(PRINCPT))
    made = []
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
        made.append(
            Instance(annotation_id=str(i), bbox_xywh=box, skeleton=skeleton, joints_img=img, joints_valid=(True,) * len(names), **truth)
        )
    return made


def write_set(
    url: str, dataset: str, skeleton: str, supervision: str, count: int = 8, persons: list[Instance] | None = None, instances: bool = True
) -> str:
    """A shard set of one shard with one person an image; its URL. `persons` takes the place of `people`'s; or the images are empty."""
    rng, samples = np.random.default_rng(1), []
    persons = people(count, skeleton) if persons is None else persons
    count = len(persons)
    for i, person in enumerate(persons):
        coarse = rng.integers(0, 256, (10, 8, 3), dtype=np.uint8)
        image = cv2.imencode(".jpg", cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))[1].tobytes()
        shown = (person,) * instances
        sample = Sample(key=f"{dataset}-{i}", dataset=dataset, image_path=f"{i}.jpg", width=WIDTH, height=HEIGHT, instances=shown)
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
        instances=count * instances,
        index_path="shards/000000.index.jsonl",
        index_sha256=sha256_hex(index),
    )
    manifest = ShardSetManifest(
        dataset=dataset,
        split="train",
        supervision=supervision,
        shards=(entry,),
        samples=count,
        instances=count * instances,
        found_instances=count * instances,
        skipped={},
        quarantined={},
        quarantine=(),
        raw_digest="0" * 64,
        config_digest="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
    )
    store.create("manifest.json", manifest.to_bytes())
    return url
