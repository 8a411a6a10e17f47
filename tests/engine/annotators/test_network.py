"""A checkpoint as an annotator: its numbers are the network's own, its identity needs no network."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from engine.annotators.flip import disagreement, mean_rotation, mirror_prediction
from engine.annotators.identity import read_identity
from engine.annotators.network import NetworkAnnotator
from engine.annotators.network_config import NetworkAnnotatorConfig
from engine.annotators.registry import AnnotatorsConfig, resolve_annotator
from engine.body.smpl import BodyConfig, load_body
from engine.errors import CheckpointMismatch, MissingInput
from engine.models.simple_baselines import SimpleBaselines, SimpleBaselinesConfig
from engine.storage import Store
from engine.training.checkpoint import LoadedNetwork, commit, open_checkpoint, part, serialise
from schemas.crops import CropSpec
from schemas.records import sha256_hex
from tests.engine.annotators.runs import write_run


@pytest.mark.parametrize("head", ["6d", "vposer"])
def test_predictions_are_the_networks(tmp_path: Path, head: Literal["6d", "vposer"]) -> None:
    model = write_run(str(tmp_path), head)
    annotator = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu")
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), dtype=np.uint8)
    out = annotator.predict(crops)
    with torch.no_grad():
        expected = model({"image": torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()})
    pairs = [(out.pose_N72, expected.pose_B72), (out.betas_N10, expected.betas_B10), (out.cam_transl_N3, expected.cam_transl_B3)]
    if head == "vposer":
        pairs.append((out.latent_N32, expected.latent_B32))
    else:
        assert out.latent_N32.shape == (3, 32) and np.isnan(out.latent_N32).all()
    for found, truth in pairs:
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, truth.numpy(), atol=1e-5)
    assert np.array_equal(annotator.predict(crops).pose_N72, out.pose_N72)


def _crops(n: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, 128, 96, 3), dtype=np.uint8)


def test_folded_batch_norms_change_nothing(tmp_path: Path) -> None:
    """With statistics of a trained network, not those of a fresh one."""
    torch.manual_seed(0)
    model = write_run(str(tmp_path), "6d")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    body = load_body(BodyConfig())
    with torch.no_grad():
        expected = model({"image": torch.from_numpy(_crops()).permute(0, 3, 1, 2)})
    manifest = open_checkpoint(str(tmp_path)).manifest
    annotator = NetworkAnnotator(LoadedNetwork(model, manifest, body, None, "0" * 64), "cpu")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.backbone.modules())
    out = annotator.predict(_crops())
    for found, truth in (
        (out.pose_N72, expected.pose_B72),
        (out.betas_N10, expected.betas_B10),
        (out.cam_transl_N3, expected.cam_transl_B3),
    ):
        np.testing.assert_allclose(found, truth.numpy(), atol=1e-5, rtol=1e-5)


def test_flip_averages_with_the_mirror_image(tmp_path: Path) -> None:
    write_run(str(tmp_path), "vposer")
    plain = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu")
    both = NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu", NetworkAnnotatorConfig(flip=True))
    crops = _crops()
    direct, out = plain.predict(crops), both.predict(crops)
    mirrored = mirror_prediction(plain.predict(np.concatenate([crops[:, :, -1:], crops[:, :, :0:-1]], axis=2)))
    assert direct.flip_disagreement_N is None and out.flip_disagreement_N.shape == (4,)
    np.testing.assert_allclose(out.betas_N10, (direct.betas_N10 + mirrored.betas_N10) / 2, atol=1e-6)
    np.testing.assert_allclose(out.cam_transl_N3, (direct.cam_transl_N3 + mirrored.cam_transl_N3) / 2, atol=1e-5)
    rotations = mean_rotation(direct.pose_N72.reshape(-1, 24, 3), mirrored.pose_N72.reshape(-1, 24, 3))
    np.testing.assert_allclose(out.pose_N72, rotations.reshape(-1, 72), atol=1e-5)
    np.testing.assert_array_equal(out.latent_N32, direct.latent_N32)
    joints = [plain.body.joints(torch.from_numpy(p.pose_N72), torch.from_numpy(p.betas_N10)).numpy() for p in (direct, mirrored)]
    np.testing.assert_allclose(out.flip_disagreement_N, disagreement(*joints), atol=5e-4)
    assert (out.flip_disagreement_N > 0).all()


def test_bf16_is_another_precision_of_the_same_network(tmp_path: Path) -> None:
    write_run(str(tmp_path), "6d")
    out, coarse = (
        NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu", NetworkAnnotatorConfig(precision=precision)).predict(_crops())
        for precision in ("fp32", "bf16")
    )
    assert coarse.pose_N72.dtype == np.float32 and not np.array_equal(out.pose_N72, coarse.pose_N72)
    np.testing.assert_allclose(coarse.pose_N72, out.pose_N72, atol=0.05)


def test_the_identity_is_read_without_the_network_and_stays_at_its_checkpoint(tmp_path: Path) -> None:
    url = str(tmp_path)
    write_run(url, "6d", step=3)
    identity, make = resolve_annotator(url, AnnotatorsConfig(), "cpu")
    write_run(url, "6d", step=4)
    annotator = pickle.loads(pickle.dumps(make))()
    assert annotator.digest == identity.digest != NetworkAnnotator.from_checkpoint(url, "cpu").digest
    assert annotator.crop == CropSpec(128, 96)
    assert (identity.name, identity.body_name, identity.body_digest, identity.prior_digest) == (
        "pose2pose",
        "open",
        annotator.body.digest,
        None,
    )
    assert identity.lineage == annotator.lineage == {"config": sha256_hex(b"config"), "trained_on.mocap": sha256_hex(b"mocap")}


def test_a_place_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="nothing/here"):
        read_identity(str(tmp_path / "nothing" / "here"))


def test_a_2d_pose_network_is_no_annotator(tmp_path: Path) -> None:
    body = load_body(BodyConfig())
    config = SimpleBaselinesConfig(backbone="resnet18", width=0.25, input_hw=(128, 96), deconv_channels=8)
    commit(
        Store(str(tmp_path)), {"model.pt": serialise(SimpleBaselines(config, body).state_dict())}, keep=1, role="pose2d", step=1, epoch=0,
        total_steps=1, samples_consumed=4, model=config.model_dump(mode="json"), body=part(body, BodyConfig()), prior=None, config={},
        config_digest="0" * 64, training_sets={"people": "0" * 64},
    )  # fmt: skip
    with pytest.raises(CheckpointMismatch, match="'simple_baselines' network, which gives no body"):
        NetworkAnnotator.from_checkpoint(str(tmp_path), "cpu")
