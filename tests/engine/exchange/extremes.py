"""A shard set and a release of persons as odd as they come.

Shapes of five standard deviations, joints turned by up to pi, boxes that are tiny, huge, oblong, far from the middle or mostly outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from engine.annotators.base import Prediction
from engine.annotators.rows import assemble, person_rows
from engine.body.cameras import camera_to_image
from engine.body.smpl import Body
from engine.errors import SampleRejected
from engine.loading.boxes import person_box
from engine.releases.commit import commit_shard, make_commit, save_plan
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.shards.reader import ShardSet, open_shard_set, read_samples
from engine.shards.writer import write_shard
from engine.storage import Store
from schemas.crops import CropSpec
from schemas.manifests import AnnotationPlan, ShardEntry, ShardPlan, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33
from tests.engine.exchange.independent import Body3D

ANY = "1" * 64
_SIZES = ((640, 480), (4000, 3000), (90, 64), (3000, 220), (500, 2400))
_IMAGES_A_SHARD = 200


def people(body: Body, count: int, seed: int = 0, own_cameras: bool = True) -> list[Body3D]:
    """Persons with numbers for names, two or three a photograph. Cameras are the crops' virtual ones, or CLIFF's, one a photograph."""
    rng, made, image = np.random.default_rng(seed), [], 0
    while len(made) < count:
        size = _SIZES[image % len(_SIZES)]
        for _ in range(min(2 + image % 2, count - len(made))):
            made.append(_person(rng, body, str(1000 + len(made)), f"photos/{image:06d}.jpg", size, own_cameras))
        image += 1
    return made


def _person(rng: np.random.Generator, body: Body, name: str, image: str, size: tuple[int, int], own_camera: bool) -> Body3D:
    pose = Rotation.random(24, random_state=int(rng.integers(1 << 31))).as_rotvec()  # angles up to pi, most of them large
    pose[rng.integers(24)] *= np.pi / np.linalg.norm(pose[0])
    pose[rng.integers(1, 24)] = 0
    betas = rng.uniform(-5, 5, 10)
    while True:
        box = _box(rng, size)
        try:
            crop = person_box(box, size, CropSpec(256, 192))
        except SampleRejected:
            continue
        focal, princpt = (values.astype(np.float32).astype(np.float64) for values in camera_to_image(crop, (256, 192)))
        transl = np.array([*rng.uniform(-1, 1, 2), rng.uniform(8, 56)])
        if not own_camera:
            focal, princpt = np.full(2, np.hypot(*size)), np.array(size) / 2
            depth = rng.uniform(3, 30)
            transl = np.array([*((box[:2] + box[2:] / 2 - princpt) / focal * depth), depth])
        numbers = (np.float32(v).astype(np.float64) for v in (pose.ravel(), betas, transl))
        return Body3D(name, image, size, tuple(box.tolist()), *numbers, focal, princpt)


def _box(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Left, top, width, height, px."""
    w, h = size
    kind = rng.integers(6)
    if kind == 0:  # tiny
        return np.array([rng.uniform(1, w - 10), rng.uniform(1, h - 10), *rng.uniform(3, 8, 2)]).round(2)
    if kind == 1:  # larger than the photograph
        return np.array([-0.3 * w, -0.3 * h, 1.7 * w, 1.7 * h]) + rng.uniform(-5, 5, 4).round(2)
    if kind == 2:  # mostly outside
        return np.array([-0.4 * w, rng.uniform(0, h / 2), 0.5 * w, 0.4 * h]).round(2)
    if kind == 3:  # very oblong
        return np.array([rng.uniform(1, w / 4), rng.uniform(1, h / 2), w / 2, max(4, h / 40)]).round(2)
    if kind == 4:  # in the far corner
        return np.array([w - 0.15 * w, h - 0.2 * h, 0.1 * w, 0.15 * h]) + rng.uniform(0, 3, 4).round(2)
    return np.array([0.2 * w, 0.2 * h, 0.3 * w, 0.6 * h]) + rng.uniform(0, 3, 4).round(2)


def write_people(folder: Path, body: Body, persons: list[Body3D], images_a_shard: int = _IMAGES_A_SHARD) -> ShardSet:
    """Their shard set, with 2D joints where their bodies' are seen."""
    image = cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    samples = [(sample, image, "jpg") for sample in _samples(body, persons)]
    entries, store = [], Store(str(folder))
    for number, at in enumerate(range(0, len(samples), images_a_shard)):
        mine = samples[at : at + images_a_shard]
        tar, index = write_shard(mine)
        path, index_path = f"shards/{number:06d}.tar", f"shards/{number:06d}.index.jsonl"
        store.create(path, tar)
        store.create(index_path, index)
        counts = {"samples": len(mine), "instances": sum(len(sample.instances) for sample, *_ in mine)}
        digests = {"sha256": sha256_hex(tar), "size_bytes": len(tar), "index_sha256": sha256_hex(index)}
        entries.append(ShardEntry(path=path, index_path=index_path, **counts, **digests))
    manifest = ShardSetManifest(
        dataset="extremes", split="train", supervision="itw2d", shards=tuple(entries), samples=len(samples), instances=len(persons),
        found_instances=len(persons), skipped={}, quarantined={}, quarantine=(), raw_digest=ANY, config_digest=ANY, created_at="2020",
    )  # fmt: skip
    store.create("manifest.json", manifest.to_bytes())
    return open_shard_set(str(folder))


def _samples(body: Body, persons: list[Body3D]) -> Iterator[Sample]:
    joints = joints_of(body, persons)
    places = [POSE2POSE33.index(name) for name in COCO17.joints]
    for image in dict.fromkeys(p.image for p in persons):
        instances = []
        for n, p in enumerate(persons):
            if p.image == image:
                camera_J3 = joints[n, places] + p.transl
                pixels = camera_J3[:, :2] / camera_J3[:, 2:] * p.focal + p.princpt
                instances.append(
                    Instance(
                        annotation_id=p.name, bbox_xywh=p.box, skeleton="coco17", joints_img=pixels.tolist(), joints_valid=(True,) * 17
                    )
                )
        width, height = next(p.size for p in persons if p.image == image)
        yield Sample(key=Path(image).stem, dataset="extremes", image_path=image, width=width, height=height, instances=tuple(instances))


def joints_of(body: Body, persons: list[Body3D]) -> np.ndarray:
    """Joints (N, 33, 3) of `pose2pose33`, m, without translation."""
    pose, betas = (torch.from_numpy(np.float32([getattr(p, name) for p in persons])) for name in ("pose", "betas"))
    with torch.inference_mode():
        return body.joints(pose, betas).double().numpy()


def write_release(root: Path, shard_set: ShardSet, body: Body, persons: list[Body3D], name: str = "extremes") -> Release:
    """Their release: every person, and everything of each row as annotation would make it."""
    store, named = Store(str(root)), {p.name: p for p in persons}
    plans = tuple(
        ShardPlan(index=i, url=shard_set.shard_url(e), sha256=e.sha256, size_bytes=e.size_bytes, samples=e.samples, instances=e.instances)
        for i, e in enumerate(shard_set.manifest.shards)
    )
    plan = AnnotationPlan(
        dataset="extremes", split="train", shard_set_digest=shard_set.digest, annotator="truth", annotator_digest=ANY,
        body_digest=body.digest, prior_digest=None, settings={}, shards=plans,
    )  # fmt: skip
    save_plan(store, plan)
    commits = {}
    for shard, entry in zip(plans, shard_set.manifest.shards, strict=True):
        found = [(sample, i, named[i.annotation_id]) for sample, _ in read_samples(shard_set.fetch(entry), entry) for i in sample.instances]
        samples, instances, mine = zip(*found, strict=True)
        columns = [np.float32([getattr(p, part) for p in mine]) for part in ("pose", "betas", "transl", "focal", "princpt")]
        latent = np.random.default_rng(0).standard_normal((len(mine), 32)).astype(np.float32)
        rows = person_rows(samples, instances, columns[3], columns[4], Prediction(*columns[:3], latent), body)
        table = assemble([rows]).table
        assert len(table) == len(mine)
        data = encode(table)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, table, ()), data).commit
    return publish(store, draft_release(name, plan, commits, body.name, {"shard_set": shard_set.digest, "body": body.digest}))


def rows_of(release: Release, persons: list[Body3D]) -> dict[str, Body3D]:
    """A release's rows as persons, by name."""
    named = {p.name: p for p in persons}
    found = {}
    for row in release.table().to_pylist():
        parts = {ours: np.array(row[column]) for ours, column in (("pose", "pose"), ("betas", "betas"), ("transl", "transl"))}
        camera = {name: np.array(row[name]) for name in ("focal", "princpt")}
        found[row["annotation_id"]] = replace(named[row["annotation_id"]], **parts, **camera)
    return found
