"""Tiny shard sets of people whose SMPL parameters, cameras and joints are known, written through engine.shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from engine.body.cameras import project
from engine.body.smpl import Body, BodyConfig, load_body
from engine.releases.commit import commit_shard, make_commit
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.shards.reader import open_shard_set, read_samples
from engine.shards.writer import write_shard
from engine.storage import Store
from schemas.manifests import AnnotationPlan, QuarantineRow, ShardEntry, ShardPlan, ShardSetManifest
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex
from schemas.sample import Camera, Instance, Sample, SmplParams
from schemas.skeletons import SKELETONS

IMAGE_WH = (400, 300)
FOCAL, PRINCPT = (520.0, 520.0), (203.0, 148.0)


@pytest.fixture(scope="session")
def open_body() -> Body:
    return load_body(BodyConfig())


@pytest.fixture(scope="session")
def make_person(open_body: Body) -> Callable[..., Instance]:
    """A person in front of the camera; joints are those of the posed body, so 2D, 3D and SMPL agree exactly."""

    def make(seed: int, skeleton: str = "smpl24", with_3d: bool = True, gender: str = "neutral", betas_valid: bool = True) -> Instance:
        rng = np.random.default_rng(seed)
        pose = rng.normal(0, 0.2, 72)
        pose[:3] = np.array([np.pi, 0, 0]) + rng.normal(0, 0.3, 3)  # upright in a camera whose y points down
        betas = rng.normal(0, 1, 10).clip(-2.5, 2.5)
        transl = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.2, 0.5), rng.uniform(4.0, 5.5)])
        with torch.no_grad():
            name = "pose2pose33" if skeleton == "coco17" else skeleton
            joints = open_body.joints(torch.tensor(pose[None]).float(), torch.tensor(betas[None]).float(), name)[0].numpy() + transl
        names = SKELETONS[name].joints
        joints = joints[[names.index(joint) for joint in SKELETONS[skeleton].joints]]
        img = project(joints[None], np.array(FOCAL), np.array(PRINCPT))[0]
        low, high = img.min(0), img.max(0)
        smpl = SmplParams(pose=tuple(pose), betas=tuple(betas), transl=tuple(transl), gender=gender, betas_valid=betas_valid)
        return Instance(
            annotation_id=f"p{seed}",
            bbox_xywh=(*(low - 10).tolist(), *(high - low + 20).tolist()),
            skeleton=skeleton,
            joints_img=tuple(map(tuple, img.tolist())),
            joints_valid=(True,) * len(joints),
            joints_cam=tuple(map(tuple, joints.tolist())) if with_3d else None,
            smpl=smpl if with_3d else None,
            camera=Camera(focal=FOCAL, princpt=PRINCPT) if with_3d else None,
        )

    return make


@pytest.fixture(scope="session")
def shard_sets() -> ShardSets:
    return ShardSets()


class ShardSets:
    """Makers of photographs, samples, shard sets and releases, for tests to call."""

    image_wh = IMAGE_WH

    def photo(self, seed: int, wh: tuple[int, int] = IMAGE_WH) -> bytes:
        """A smooth random JPEG."""
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        return cv2.imencode(".jpg", cv2.resize(coarse, wh, interpolation=cv2.INTER_CUBIC), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()

    def sample(self, dataset: str, number: int, people: Sequence[Instance], wh: tuple[int, int] = IMAGE_WH) -> Sample:
        return Sample(
            key=f"{dataset}-{number:04d}", dataset=dataset, image_path=f"{number}.jpg", width=wh[0], height=wh[1], instances=tuple(people)
        )

    def write(self, folder: Path, dataset: str, shards: list[list[tuple[Sample, bytes]]], supervision: str = "mocap") -> str:
        """A shard set of these samples; its URL."""
        entries = []
        for number, items in enumerate(shards):
            tar, index = write_shard([(record, image, "jpg") for record, image in items])
            path, index_path = f"shards/{number:06d}.tar", f"shards/{number:06d}.index.jsonl"
            (folder / "shards").mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(tar)
            (folder / index_path).write_bytes(index)
            entries.append(
                ShardEntry(
                    path=path,
                    sha256=sha256_hex(tar),
                    size_bytes=len(tar),
                    samples=len(items),
                    instances=sum(len(record.instances) for record, _ in items),
                    index_path=index_path,
                    index_sha256=sha256_hex(index),
                )
            )
        instances = sum(entry.instances for entry in entries)
        manifest = ShardSetManifest(
            dataset=dataset,
            split="train",
            supervision=supervision,
            shards=tuple(entries),
            samples=sum(entry.samples for entry in entries),
            instances=instances,
            found_instances=instances,
            skipped={},
            quarantined={},
            quarantine=(),
            raw_digest="0" * 64,
            config_digest="0" * 64,
            created_at="2026-01-01T00:00:00+00:00",
        )
        (folder / "manifest.json").write_bytes(manifest.to_bytes())
        return str(folder)

    def release(
        self, root: Path, shard_set_url: str, body: Body, annotate: Callable[[Sample, Instance], dict | None], name: str = "test"
    ) -> Release:
        """A release of the shard set: `annotate` gives pose, betas, transl, focal, princpt of an instance, or None to quarantine it."""
        shard_set, store = open_shard_set(shard_set_url), Store(str(root))
        manifest = shard_set.manifest
        shards = tuple(
            ShardPlan(
                index=i, url=shard_set.shard_url(e), sha256=e.sha256, size_bytes=e.size_bytes, samples=e.samples, instances=e.instances
            )
            for i, e in enumerate(manifest.shards)
        )
        plan = AnnotationPlan(
            dataset=manifest.dataset,
            split=manifest.split,
            shard_set_digest=shard_set.digest,
            annotator="test",
            annotator_digest="1" * 64,
            body_digest=body.digest,
            prior_digest=None,
            settings={},
            shards=shards,
        )
        commits = {}
        for shard, entry in zip(shards, manifest.shards, strict=True):
            rows, quarantine = [], []
            for record, _ in read_samples(shard_set.fetch(entry)):
                for instance in record.instances:
                    values = annotate(record, instance)
                    if values is None:
                        who = {"dataset": record.dataset, "key": record.key, "annotation_id": instance.annotation_id}
                        quarantine.append(QuarantineRow(**who, reason="test"))
                        continue
                    rows.append(_row(record, instance, values))
            table = pa.Table.from_pylist(rows, schema=PSEUDO_GT_SCHEMA)
            data = encode(table)
            commit = make_commit(plan.digest(), shard, data, table, tuple(quarantine))
            commits[shard.index] = commit_shard(store, commit, data).commit
        lineage = {"shard_set": shard_set.digest, "body": body.digest}
        return publish(store, draft_release(name, plan, commits, body.name, lineage))


def _row(record: Sample, instance: Instance, values: dict) -> dict:
    names = ("reprojection_error", "visible_fraction", "keypoint_similarity", "latent_norm", "flip_disagreement", "truncation", "score")
    figures = dict.fromkeys(names, 0.0)
    who = {"dataset": record.dataset, "key": record.key, "annotation_id": instance.annotation_id, "bbox_xywh": instance.bbox_xywh}
    return who | figures | {"latent": [0.0] * 32, "valid_joints": 0} | values
