"""Fitting as an annotator: the library's fits in the crop's camera, in batches, with an identity of their own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from engine.annotators.network import NetworkAnnotator
from engine.annotators.registry import AnnotatorsConfig, SmplifyConfig, resolve_annotator
from engine.annotators.rows import batch_rows
from engine.annotators.seen import Seen
from engine.annotators.smplify import SmplifyAnnotator
from engine.body.cameras import camera_to_image, project
from engine.body.config import BodyConfig
from engine.body.smpl import load_body
from engine.loading.augmentation import Augmentation
from engine.loading.boxes import person_box
from engine.loading.crops import crop_affines
from engine.loading.persons import CropBatch
from schemas.crops import CropSpec
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33
from tests.engine.annotators.runs import write_run

BOX = (300.0, 100.0, 180.0, 400.0)
CROP = CropSpec(256, 192)


def _photographed(persons: int = 3) -> CropBatch:
    """Persons in poses near standing, photographed by the row's own camera, with their true COCO joints; the last has none."""
    rng = np.random.default_rng(3)
    body = load_body(BodyConfig())
    pose = rng.normal(0, 0.15, (persons, 72))
    pose[:, :3] = (np.pi, 0, 0)
    pose[:, -6:] = 0
    joints = body.joints(torch.tensor(pose, dtype=torch.float32), torch.zeros(persons, 10)).double().numpy()
    box = np.array([person_box(BOX, (1000, 700), CROP)] * persons)
    focal, princpt = camera_to_image(box, CROP.hw)
    pixels = project(joints + np.array([0, 0.2, 45.0]), focal.astype(float), princpt.astype(float))
    ours = [POSE2POSE33.index(name) for name in COCO17.joints]
    instances = [
        Instance(
            annotation_id=str(i), bbox_xywh=BOX, skeleton="coco17", joints_img=tuple(map(tuple, pixels[i, ours].tolist())),
            joints_valid=(i < persons - 1,) * 17,
        )
        for i in range(persons)
    ]  # fmt: skip
    sample = Sample(key="k", dataset="d", image_path="p", width=1000, height=700, instances=tuple(instances))
    affines = crop_affines(box, CROP.hw, Augmentation.identity(persons))
    return CropBatch(np.zeros((persons, *CROP.hw, 3), np.uint8), box, affines, [sample] * persons, instances)


def test_the_fits_rows_lie_on_the_annotated_joints() -> None:
    batch, annotator = _photographed(), SmplifyAnnotator(SmplifyConfig(), "cpu")
    out = annotator.predict(batch.crops_NHW3, Seen(batch, len(batch)))
    rows = batch_rows(batch, out, annotator.body, annotator.crop).rows.to_pylist()
    assert all(row["keypoint_similarity"] > 0.97 and row["valid_joints"] == 17 for row in rows[:-1])
    assert rows[-1]["valid_joints"] == 0 and rows[-1]["score"] == 0 and np.isfinite(rows[-1]["pose"]).all()
    assert np.isfinite(out.latent_N32).all() and out.pose_N72.dtype == np.float32


def test_a_fit_may_start_from_a_network_and_takes_over_its_crop(tmp_path: Path) -> None:
    write_run(str(tmp_path), "vposer")
    identity, make = resolve_annotator("smplify", AnnotatorsConfig(smplify=SmplifyConfig(init=str(tmp_path))), "cpu")
    annotator = pickle.loads(pickle.dumps(make))()
    network = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu")
    assert annotator.crop == network.crop and annotator.digest == identity.digest and annotator.body.digest == identity.body_digest
    assert identity.lineage["init"] == network.digest and identity.prior_digest == network.prior.digest


def test_its_identity_is_every_option_of_the_fit() -> None:
    one, two = (
        resolve_annotator("smplify", AnnotatorsConfig.model_validate({"smplify": {"fit": {"tolerance": tolerance}}}), "cpu")[0]
        for tolerance in (1e-4, 1e-3)
    )
    assert one.digest != two.digest and one.name == "smplify" and one.body_name == "open" and not one.location
