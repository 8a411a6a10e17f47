"""Exemplar fine-tuning: many persons at once are the same as a plain loop with torch's own Adam, person by person."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.annotators.eft import EftAnnotator, shin_loss
from engine.annotators.network import NetworkAnnotator
from engine.annotators.registry import AnnotatorsConfig, EftConfig, resolve_annotator
from engine.annotators.seen import Seen
from engine.body.cameras import virtual_camera
from engine.errors import ConfigError
from engine.loading.persons import CropBatch
from engine.training.checkpoint import load_network
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33
from tests.engine.annotators.runs import write_hmr_run, write_run

CROP = (128, 96)


def _seen(persons: int, size: int) -> tuple[np.ndarray, Seen]:
    """Random crops, and a batch of persons whose joints are somewhere in them; the second has none."""
    rng = np.random.default_rng(0)
    instances = [
        Instance(
            annotation_id=str(i),
            bbox_xywh=(0, 0, 96, 128),
            skeleton="coco17",
            joints_img=tuple(map(tuple, rng.uniform((20, 20), (76, 108), (17, 2)).tolist())),
            joints_valid=tuple((rng.uniform(size=17) < (0.8 if i != 1 else 0)).tolist()),
        )
        for i in range(persons)
    ]
    sample = Sample(key="k", dataset="d", image_path="p", width=96, height=128, instances=tuple(instances))
    affines = np.stack([np.array([[1.0, 0, 0], [0, 1.0, 0]])] * persons)
    crops = np.zeros((size, *CROP, 3), np.uint8)
    crops[:persons] = rng.integers(0, 256, (persons, *CROP, 3))
    return crops, Seen(CropBatch(crops[:persons], np.zeros((persons, 4)), affines, [sample] * persons, instances), size)


def _by_a_plain_loop(url: str, crop: np.ndarray, joints_J2: np.ndarray, weight_J: np.ndarray, config: EftConfig) -> tuple[np.ndarray, ...]:
    """EFT of one person, written again: torch's Adam, a deep copy of the network, numpy for what is counted."""
    model = copy.deepcopy(load_network(url).model).eval()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    model.requires_grad_(True)
    for part in (*norms, *([model.backbone] if config.trainable == "head" else [])):
        part.requires_grad_(False)
    focal, princpt = (torch.from_numpy(v) for v in virtual_camera(CROP))
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=config.lr)
    names = POSE2POSE33.joints
    counted = torch.tensor(
        [float(w) * (n not in {"Pelvis", "L_Hip", "R_Hip", "L_Ankle", "R_Ankle"}) for n, w in zip(names, weight_J, strict=True)]
    )
    truth = (torch.from_numpy(joints_J2) - princpt) / 64
    for _ in range(config.iterations):
        out = model({"image": torch.from_numpy(crop)[None].permute(0, 3, 1, 2)})
        points = out.joints_B333[0] + out.cam_transl_B3[0]
        pixels = points[:, :2] / (points[:, 2:] + 1e-4) * focal
        error = (((pixels / 64) - truth) ** 2 * counted[:, None]).sum() / 66
        loss = config.keypoints * error + config.betas * (out.betas_B10**2).sum() / 10
        for side in "LR":
            knee, ankle = names.index(f"{side}_Knee"), names.index(f"{side}_Ankle")
            shin = truth[ankle] - truth[knee]
            if weight_J[knee] and weight_J[ankle] and math.hypot(*shin.tolist()) >= 1 / 112:
                ours = (pixels[ankle] - pixels[knee]) / 64
                loss = loss + config.shins * (1 - ours @ shin / (ours.norm() * shin.norm()))
        if error < config.enough or not counted.any():
            break
        optimiser.zero_grad()
        (config.factor * loss).backward()
        optimiser.step()
    return tuple(v[0].detach().numpy() for v in (out.pose_B72, out.betas_B10, out.cam_transl_B3))


@pytest.mark.parametrize(("trainable", "head"), [("head", "vposer"), ("head", "6d"), ("all", "vposer")])
def test_together_is_as_one_by_one_in_a_plain_loop(tmp_path: Path, trainable: str, head: str) -> None:
    write_run(str(tmp_path), head)
    config = EftConfig(base=str(tmp_path), trainable=trainable, iterations=4, lr=1e-4)
    crops, seen = _seen(3, 4)
    annotator = EftAnnotator(config, "cpu")
    out = annotator.predict(crops, seen)
    for i in range(3):
        pose, betas, transl = _by_a_plain_loop(str(tmp_path), crops[i], seen.joints_BJ2[i], seen.weight_BJ[i], config)
        assert np.abs(out.pose_N72[i] - pose).max() < 2e-3 and np.abs(out.betas_N10[i] - betas).max() < 2e-3
        assert np.abs(out.cam_transl_N3[i] - transl).max() < 2e-2
    before = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu").predict(crops)
    assert np.allclose(out.pose_N72[[1, 3]], before.pose_N72[[1, 3]], atol=2e-3), "nobody's joints: what the network says"
    assert np.abs(out.betas_N10[0] - before.betas_N10[0]).max() > 1e-3
    assert np.array_equal(annotator.predict(crops, seen).pose_N72, out.pose_N72), "the same batch, the same bytes"


def test_a_person_that_is_met_is_left_as_it_is(tmp_path: Path) -> None:
    write_run(str(tmp_path), "6d")
    crops, seen = _seen(2, 2)
    kept = EftAnnotator(EftConfig(base=str(tmp_path), enough=1e9), "cpu").predict(crops, seen)
    before = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu").predict(crops)
    assert np.allclose(kept.pose_N72, before.pose_N72, atol=2e-3) and np.allclose(kept.betas_N10, before.betas_N10, atol=1e-4)


def test_its_identity_is_its_base_and_every_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"eft\.base"):
        resolve_annotator("eft", AnnotatorsConfig(), "cpu")
    url = str(tmp_path)
    write_run(url, "6d", step=3)
    identity, make = resolve_annotator("eft", AnnotatorsConfig(eft=EftConfig(base=url)), "cpu")
    other, _ = resolve_annotator("eft", AnnotatorsConfig(eft=EftConfig(base=url, lr=1e-3)), "cpu")
    write_run(url, "6d", step=4)
    later, _ = resolve_annotator("eft", AnnotatorsConfig(eft=EftConfig(base=url)), "cpu")
    assert len({identity.digest, other.digest, later.digest}) == 3
    assert pickle.loads(pickle.dumps(make))().digest == identity.digest
    assert identity.name == "eft" and set(identity.lineage) == {"base", "base.config", "base.trained_on.mocap"}


def test_shins_count_by_their_direction_and_where_they_are_known() -> None:
    joints, weight = torch.zeros(33, 2), torch.zeros(33)
    places = {name: POSE2POSE33.index(name) for name in ("L_Knee", "L_Ankle", "R_Knee", "R_Ankle")}
    joints[places["L_Ankle"]], joints[places["R_Ankle"]] = torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.004])
    turned = joints.clone()
    turned[places["L_Ankle"]], turned[places["R_Ankle"]] = torch.tensor([0.3, 0.0]), torch.tensor([0.3, 0.0])
    assert shin_loss(turned, joints, weight) == 0
    for name in places.values():
        weight[name] = 1
    assert shin_loss(turned, joints, weight).item() == pytest.approx(1), "a right angle; the other shin is too short to have a direction"
    assert shin_loss(2 * joints, joints, weight).item() == pytest.approx(0, abs=1e-6)
    assert COCO17.index("L_Knee") >= 0


@pytest.mark.parametrize("kind", ["pose2pose", "hmr"])
def test_batch_mates_do_not_change_a_bit_and_every_estimator_can_be_tuned(tmp_path: Path, kind: str) -> None:
    if kind == "hmr":
        write_hmr_run(str(tmp_path))
    else:
        write_run(str(tmp_path), "vposer")
    annotator = EftAnnotator(EftConfig(base=str(tmp_path), iterations=4, lr=1e-3), "cpu")
    H, W = annotator.crop.hw
    crops, seen = _seen(4, 4)
    crops = np.ascontiguousarray(crops[:, :H, :W])
    out = annotator.predict(crops, seen)
    before = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu").predict(crops, seen.alone([]))
    others = crops[::-1].copy()
    others[2] = crops[2]
    alone = annotator.predict(others, seen.alone([2]))
    for name in ("pose_N72", "betas_N10", "cam_transl_N3", "latent_N32"):
        assert np.array_equal(getattr(out, name)[2], getattr(alone, name)[2], equal_nan=True)
    assert np.abs(out.betas_N10[2] - before.betas_N10[2]).max() > 1e-3, "it is tuned"
    assert np.isnan(out.latent_N32).all() == (kind == "hmr")


def test_a_head_alone_has_a_rate_of_its_own() -> None:
    assert EftConfig(trainable="all").learning_rate == 5e-6 < EftConfig().learning_rate
    assert EftConfig(lr=0.5).learning_rate == 0.5
