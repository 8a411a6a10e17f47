"""A few rendered people in real shards, a real checkpoint and a real release, for the tests of evaluation and report."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.annotators.base import Prediction, no_latent
from engine.body.cameras import camera_to_image
from engine.body.smpl import Body, BodyConfig
from engine.loading.boxes import person_box
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig
from engine.releases.commit import commit_shard, make_commit
from engine.releases.publish import draft_release, publish
from engine.releases.store import Release
from engine.releases.tables import encode
from engine.report.render import View, composite, project, render_mesh
from engine.shards.reader import ShardSet, open_shard_set, read_samples
from engine.shards.writer import write_shard
from engine.storage import Store
from engine.training.checkpoint import commit, history_bytes, part, serialise
from schemas.crops import CropSpec
from schemas.manifests import AnnotationPlan, ShardEntry, ShardPlan, ShardSetManifest
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.records import sha256_hex
from schemas.sample import Camera, Instance, Sample, SmplParams
from schemas.skeletons import H36M17, SKELETONS

WIDTH, HEIGHT, FOCAL = 200, 160, 220.0
ANY_DIGEST = "0" * 64
PATHS = {
    "3dpw": "imageFiles/sequence_{}/image_{:05d}.jpg",
    "mupots": "TS{}/img_{:06d}.jpg",
    "3dhp": "TS{}/imageSequence/img_{:06d}.jpg",
    "human36m": "images/s_09_act_02_subact_0{}_ca_04/s_09_{:06d}.jpg",
}
UNIVERSAL = 0.9
"""Size of the universal skeleton over the true one."""


class KnowsTheTruth:
    """An annotator that answers with the truth of a shard set, person by person, turned at the joints by `noise` rad."""

    digest, crop = "0" * 64, CropSpec(128, 96)

    def __init__(self, people: ShardSet, body, noise: float = 0.0, bad: float | None = None) -> None:
        self.body = body
        known = [(s, i) for e in people.manifest.shards for s, _ in read_samples(people.fetch(e), e) for i in s.instances]
        self._smpls = [i.smpl.model_copy(update={"transl": self._in_crop(s, i)}) for s, i in known]
        self._noise, self._bad, self._next = noise, bad, 0

    def _in_crop(self, sample: Sample, instance: Instance) -> tuple[float, ...]:
        """The translation that puts the person, in the crop's virtual camera, where the true one is in the photograph."""
        focal, princpt = camera_to_image(person_box(instance.bbox_xywh, (sample.width, sample.height), self.crop), self.crop.hw)
        x, y, z = instance.smpl.transl
        pixel = np.array([x, y]) / z * instance.camera.focal + instance.camera.princpt
        depth = z * focal[0] / instance.camera.focal[0]
        return (*((pixel - princpt) / focal * depth).tolist(), float(depth))

    def predict(self, crops_NHW3, seen=None):
        assert crops_NHW3.shape[1:] == (*self.crop.hw, 3) and crops_NHW3.dtype == np.uint8
        mine = self._smpls[self._next : self._next + len(crops_NHW3)]
        self._next += len(mine)
        pose = np.array([s.pose for s in mine], np.float32)
        pose[:, 3:] += np.random.default_rng(self._next).normal(0, self._noise, (len(mine), 69))
        if self._bad is not None:
            pose[-1, 5] = self._bad
        betas, transl = (np.array([getattr(s, name) for s in mine], np.float32) for name in ("betas", "transl"))
        return Prediction(pose, betas, transl, no_latent(len(mine)))


def person(rng: np.random.Generator, number: int, x: float) -> SmplParams:
    """Somebody upright and facing the camera, 4 m away, `x` m to the side."""
    pose = rng.normal(0, 0.2, (24, 3))
    pose[0] = (np.pi, 0, 0)
    pose[16, 2], pose[17, 2] = -1.1, 1.1
    return SmplParams(
        pose=tuple(pose.ravel().tolist()),
        betas=tuple(rng.normal(0, 0.5, 10).tolist()),
        transl=(x, 0.2, 4.0),
        gender=("male", "female")[number % 2],
    )


def posed(body: Body, smpl: SmplParams) -> np.ndarray:
    """The true mesh (V, 3) in camera frame."""
    with torch.inference_mode():
        out = body(torch.tensor([smpl.pose]), torch.tensor([smpl.betas]), torch.tensor([smpl.transl]), gender=smpl.gender)
    return out.vertices_BV3[0].numpy()


def photograph(body: Body, smpls: list[SmplParams]) -> tuple[bytes, list[tuple[float, float, float, float]]]:
    """A JPEG of rendered people on a gradient, and their boxes."""
    view = View((FOCAL, FOCAL), ((WIDTH - 1) / 2, (HEIGHT - 1) / 2), WIDTH, HEIGHT)
    image = np.broadcast_to(np.linspace(90, 200, WIDTH, dtype=np.uint8)[None, :, None], (HEIGHT, WIDTH, 3)).copy()
    boxes = []
    for smpl in smpls:
        vertices = posed(body, smpl)
        image = composite(image, render_mesh(vertices, body.faces, view, samples=1))
        pixels = project(vertices, view)
        low, high = np.clip(pixels.min(0), 0, (WIDTH, HEIGHT)), np.clip(pixels.max(0), 0, (WIDTH, HEIGHT))
        boxes.append((*low.tolist(), *(high - low).tolist()))
    return cv2.imencode(".jpg", image[..., ::-1])[1].tobytes(), boxes


def write_people(
    url: str,
    body: Body,
    images: int = 4,
    shards: int = 2,
    truth: bool = True,
    seed: int = 0,
    broken: int | None = None,
    layout: str = "3dpw",
) -> ShardSet:
    """A shard set in 3DPW's manner: two sequences, two persons an image; without `truth`, 2D keypoints alone; one image cut short.

    In the layout of "mupots", "3dhp" or "human36m" the same persons have measured joints for truth, and no SMPL.
    """
    rng, store = np.random.default_rng(seed), Store(url)
    samples = []
    for i in range(images):
        smpls = [person(rng, k, x) for k, x in enumerate((-0.7, 0.7))]
        data, boxes = photograph(body, smpls)
        data = data[: len(data) // 2] if i == broken else data
        instances = tuple(instance_of(f"{i}{k}", smpl, box, truth) for k, (smpl, box) in enumerate(zip(smpls, boxes, strict=True)))
        path = PATHS[layout].format(i % 2 + 1, i)
        if layout != "3dpw":
            instances = tuple(measured(instance, body, "h36m17" if layout == "human36m" else "mi17") for instance in instances)
        sample = Sample(key=f"image{i}", dataset="people", image_path=path, width=WIDTH, height=HEIGHT, instances=instances)
        samples.append((sample, data, "jpg"))
    entries = []
    for s in range(shards):
        mine = samples[s::shards]
        tar, index = write_shard(mine)
        path, index_path = f"shards/{s:06d}.tar", f"shards/{s:06d}.index.jsonl"
        store.create(path, tar)
        store.create(index_path, index)
        entries.append(
            ShardEntry(
                path=path,
                sha256=sha256_hex(tar),
                size_bytes=len(tar),
                samples=len(mine),
                instances=2 * len(mine),
                index_path=index_path,
                index_sha256=sha256_hex(index),
            )
        )
    manifest = ShardSetManifest(
        dataset="people",
        split="test",
        supervision="itw3d",
        shards=tuple(entries),
        samples=images,
        instances=2 * images,
        found_instances=2 * images,
        skipped={},
        quarantined={},
        quarantine=(),
        raw_digest=ANY_DIGEST,
        config_digest=ANY_DIGEST,
        created_at="2020",
    )
    store.create("manifest.json", manifest.to_bytes())
    return open_shard_set(url)


def write_checkpoint(url: str, body: Body, seed: int = 0) -> None:
    """A run directory with one checkpoint of a small untrained network, and a history."""
    torch.manual_seed(seed)
    config = Pose2PoseConfig(backbone="resnet18", width=0.25, output_stride=16, input_hw=(128, 96), feature_dim=16, head="6d")
    rows = [{"step": s, "epoch": 0, "lr": 1e-3, "loss": 9.0 / s, "joint_img": 5.0 / s, "samples_per_s": 100.0} for s in (1, 2, 3)]
    commit(
        Store(url),
        {"model.pt": serialise(Pose2Pose(config, body).state_dict()), "history.jsonl": history_bytes(rows)},
        keep=1,
        role="annotator",
        step=3,
        epoch=0,
        total_steps=3,
        samples_consumed=12,
        model=config.model_dump(mode="json"),
        body=part(body, BodyConfig()),
        prior=None,
        config={},
        config_digest=ANY_DIGEST,
        training_sets={"people": ANY_DIGEST},
    )


def write_release(url: str, name: str, people: ShardSet, body: Body, seed: int = 0, noise: float = 0.0) -> Release:
    """A release whose rows are the truth of `people` (which must have it), turned at the joints by `noise` rad, all but one person."""
    rng, store = np.random.default_rng(seed), Store(url)
    plans = tuple(
        ShardPlan(index=i, url=people.shard_url(e), sha256=e.sha256, size_bytes=e.size_bytes, samples=e.samples, instances=e.instances)
        for i, e in enumerate(people.manifest.shards)
    )
    plan = AnnotationPlan(
        dataset="people",
        split="test",
        shard_set_digest=people.digest,
        annotator="truth",
        annotator_digest=ANY_DIGEST,
        body_digest=body.digest,
        prior_digest=None,
        settings={},
        shards=plans,
    )
    commits = {}
    for shard, entry in zip(plans, people.manifest.shards, strict=True):
        rows = [_row(sample, i, rng, noise) for sample, _ in read_samples(people.fetch(entry), entry) for i in sample.instances]
        table = pa.Table.from_pylist(rows, schema=PSEUDO_GT_SCHEMA)
        data = encode(table)
        commits[shard.index] = commit_shard(store, make_commit(plan.digest(), shard, data, table, ()), data).commit
    lineage = {"shard_set": people.digest, "body": body.digest}
    return publish(store, draft_release(name, plan, commits, body.name, lineage))


def truth_bytes(people: ShardSet) -> bytes:
    """The truth table of a shard set as the synthetic world writes it."""
    smpls = [(i.annotation_id, i.smpl) for e in people.manifest.shards for s, _ in read_samples(people.fetch(e), e) for i in s.instances]
    buffer = io.BytesIO()
    table = {"annotation_id": [a for a, _ in smpls], "pose": [list(s.pose) for _, s in smpls], "betas": [list(s.betas) for _, s in smpls]}
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def instance_of(name: str, smpl: SmplParams, box: tuple[float, float, float, float], truth: bool) -> Instance:
    x, y, w, h = box
    joints = [(x + w * (i % 5) / 4, y + h * i / 16) for i in range(17)]
    camera = Camera(focal=(FOCAL, FOCAL), princpt=((WIDTH - 1) / 2, (HEIGHT - 1) / 2))
    return Instance(
        annotation_id=name,
        bbox_xywh=box,
        skeleton="coco17",
        joints_img=tuple(joints),
        joints_valid=(True,) * 17,
        smpl=smpl if truth else None,
        camera=camera if truth else None,
    )


def measured(instance: Instance, body: Body, skeleton: str) -> Instance:
    """The person with joints for truth: those H36M's regressor makes of the true mesh, and smaller ones as the universal skeleton."""
    names, smpl = SKELETONS[skeleton].joints, instance.smpl
    cam_173 = body.regress(torch.from_numpy(posed(body, smpl))[None], "h36m17")[0].numpy()[[H36M17.index(n) for n in names]]
    camera = instance.camera
    pixels = cam_173[:, :2] / cam_173[:, 2:] * np.array(camera.focal) + np.array(camera.princpt)
    joints = {"joints_img": pixels, "joints_cam": cam_173, "joints_univ": UNIVERSAL * cam_173}
    known = {name: tuple(map(tuple, values.tolist())) for name, values in joints.items()}
    return Instance(**instance.model_dump() | known | {"skeleton": skeleton, "joints_valid": (True,) * 17, "smpl": None})


def _row(sample: Sample, instance: Instance, rng: np.random.Generator, noise: float) -> dict:
    turned = np.array(instance.smpl.pose) + rng.normal(0, noise, 72) * (np.arange(72) >= 3)
    error = float(rng.uniform(0.01, 0.1))
    return {
        "dataset": sample.dataset,
        "key": sample.key,
        "annotation_id": instance.annotation_id,
        "bbox_xywh": instance.bbox_xywh,
        "pose": turned.tolist(),
        "betas": instance.smpl.betas,
        "transl": instance.smpl.transl,
        "focal": instance.camera.focal,
        "princpt": instance.camera.princpt,
        "latent": [float("nan")] * 32,
        "reprojection_error": error,
        "visible_fraction": 0.9,
        "keypoint_similarity": 2 ** -((error / 0.1) ** 2),
        "valid_joints": 17,
        "latent_norm": float("nan"),
        "flip_disagreement": float("nan"),
        "truncation": 0.0,
        "score": 2 ** -((error / 0.1) ** 2),
    }
