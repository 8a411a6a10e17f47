"""The baseline stands upright in the middle of its crop, as large as the box says."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.registry import AnnotatorsConfig, resolve_annotator
from engine.body.cameras import project, virtual_camera
from engine.errors import ConfigError, MissingInput
from schemas.skeletons import POSE2POSE33


def _joints(annotator: MeanPoseAnnotator) -> tuple[np.ndarray, np.ndarray]:
    """Joints (33,3) in the camera frame, m, and in crop pixels (33,2)."""
    out = annotator.predict(np.zeros((2, *annotator.crop.hw, 3), np.uint8))
    joints = annotator.body.joints(torch.from_numpy(out.pose_N72), torch.from_numpy(out.betas_N10)).numpy() + out.cam_transl_N3[:, None]
    return joints[1], project(joints[1:], *virtual_camera(annotator.crop.hw))[0]


@pytest.mark.parametrize("crop_hw", [(256, 192), (128, 96)])
def test_it_stands_upright_arms_down_and_fills_the_box(crop_hw: tuple[int, int]) -> None:
    annotator = MeanPoseAnnotator(MeanPoseConfig(crop_hw=crop_hw))
    joints, pixels = _joints(annotator)
    at = {name: pixels[POSE2POSE33.index(name)] for name in POSE2POSE33.joints}
    assert at["Nose"][1] < at["Neck"][1] < at["Pelvis"][1] < at["L_Knee"][1] < at["L_Ankle"][1]
    assert at["L_Shoulder"][0] > at["R_Shoulder"][0], "it faces the camera"
    for side in "LR":
        assert at[f"{side}_Wrist"][1] > at[f"{side}_Elbow"][1] > at[f"{side}_Shoulder"][1]
    nose, chest = (joints[POSE2POSE33.index(name), 2] for name in ("Nose", "Neck"))
    assert nose < chest, "the nose is nearer to the camera than the neck"
    height, width = crop_hw
    np.testing.assert_allclose(at["Pelvis"][0], width / 2, atol=width / 100)
    extent = pixels[:, 1].max() - pixels[:, 1].min()
    assert 0.65 * height < extent < 0.8 * height, "the body is 1/1.25 of the crop, from crown to sole"


def test_every_crop_gets_the_same_and_no_latent() -> None:
    out = MeanPoseAnnotator(MeanPoseConfig()).predict(np.random.default_rng(0).integers(0, 255, (3, 256, 192, 3), dtype=np.uint8))
    for values, n in ((out.pose_N72, 72), (out.betas_N10, 10), (out.cam_transl_N3, 3), (out.latent_N32, 32)):
        assert values.shape == (3, n) and values.dtype == np.float32
        assert np.array_equal(values[0], values[2], equal_nan=True)
    assert np.isnan(out.latent_N32).all()


def test_parameters_come_from_a_file_and_change_the_digest(tmp_path: Path) -> None:
    pose, betas = np.linspace(-0.1, 0.1, 72), np.linspace(-1, 1, 10)
    (tmp_path / "mean.json").write_text(json.dumps({"pose": pose.tolist(), "betas": betas.tolist()}))
    annotator = MeanPoseAnnotator(MeanPoseConfig(params=str(tmp_path / "mean.json")))
    out = annotator.predict(np.zeros((1, 256, 192, 3), np.uint8))
    np.testing.assert_allclose(out.pose_N72[0], pose, atol=1e-7)
    np.testing.assert_allclose(out.betas_N10[0], betas, atol=1e-7)
    default = MeanPoseAnnotator(MeanPoseConfig())
    small = MeanPoseAnnotator(MeanPoseConfig(crop_hw=(128, 96)))
    assert len({annotator.digest, default.digest, small.digest}) == 3
    assert default.digest == MeanPoseAnnotator(MeanPoseConfig()).digest


@pytest.mark.parametrize("content", ["[]", "{", '{"pose": [1, 2], "betas": [0,0,0,0,0,0,0,0,0,0]}', '{"pose": "x", "betas": 1}'])
def test_a_parameter_file_that_is_wrong_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "mean.json").write_text(content)
    with pytest.raises(ConfigError, match=r"mean\.json"):
        MeanPoseAnnotator(MeanPoseConfig(params=str(tmp_path / "mean.json")))
    with pytest.raises(MissingInput, match=r"absent\.json"):
        MeanPoseAnnotator(MeanPoseConfig(params=str(tmp_path / "absent.json")))


def test_workers_build_the_same_one() -> None:
    identity, make = resolve_annotator("mean_pose", AnnotatorsConfig(), "cpu")
    annotator = pickle.loads(pickle.dumps(make))()
    assert (identity.name, identity.digest, identity.body_name) == ("mean_pose", annotator.digest, "open")
    assert identity.body_digest == annotator.body.digest and identity.prior_digest is None
