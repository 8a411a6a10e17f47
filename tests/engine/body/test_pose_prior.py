"""The frozen prior: human_body_prior's own output, eval whatever the parent does, and samples a person can hold."""

import copy
import shutil

import numpy as np
import pytest
import torch
from human_body_prior.train.vposer_smpl import VPoser
from pydantic import ValidationError
from torch import nn

from engine.body.config import OPEN_PRIOR_DIGEST
from engine.body.joint_angles import within_limits
from engine.body.pose_prior import OPEN_PRIOR, PriorConfig, load_prior
from engine.body.pose_sampling import sample_poses
from engine.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from engine.body.self_contact import overlap_m
from engine.body.vposer import DATA_SHAPE, vposer_files
from engine.errors import CheckpointMismatch, ConfigError, LicensedFileMissing
from tests.engine.body.vposer_v2_layout import decode_v2, encode_v2, v2_weights, write_v2


@pytest.fixture(scope="module")
def prior():
    return load_prior(PriorConfig())


@pytest.fixture(scope="module")
def v2_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vposer") / "V02_05"
    write_v2(directory)
    return directory


@pytest.fixture(scope="module", params=["open", "v2"])
def either(request, prior, v2_dir):
    return prior if request.param == "open" else load_prior(PriorConfig(kind="vposer", vposer_dir=str(v2_dir)))


def _latents(n: int) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(0))


def test_plans_know_its_digest(prior):
    assert prior.digest == OPEN_PRIOR_DIGEST


def test_it_decodes_and_encodes_as_human_body_priors_class_does(prior):
    (snapshot,) = (OPEN_PRIOR / "snapshots").glob("*.pt")
    theirs = VPoser(512, 32, DATA_SHAPE)
    theirs.load_state_dict(torch.load(snapshot, weights_only=True))
    theirs.eval()
    z_B32 = _latents(6)
    rotmats = prior.decode(z_B32)
    assert rotmats.shape == (6, 21, 3, 3)
    torch.testing.assert_close(rotmats.flatten(2), theirs.decode(z_B32, output_type="matrot")[:, 0])
    pose_B63 = torch.from_numpy(sample_poses(6, np.random.default_rng(0)))
    mean, std = prior.encode(axis_angle_to_matrix(pose_B63.unflatten(-1, (21, 3))))
    posterior = theirs.encode(pose_B63)
    torch.testing.assert_close(mean, posterior.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(std, posterior.scale, atol=1e-4, rtol=1e-4)


def test_decoded_matrices_are_rotations(either):
    rotmats = either.decode(_latents(50) * 3)
    torch.testing.assert_close(rotmats @ rotmats.mT, torch.eye(3).expand_as(rotmats), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotmats), torch.ones(50, 21), atol=1e-5, rtol=0)


def test_it_stays_in_eval_mode_whatever_its_parent_does(either):
    parent = nn.Sequential(nn.Dropout(0.5), copy.deepcopy(either)).train()
    inside = parent[1]
    assert parent.training and not any(module.training for module in inside.modules())
    z_B32 = _latents(4)
    before = inside.encode(inside.decode(z_B32))[0]
    assert torch.equal(inside.decode(z_B32), either.decode(z_B32))
    assert torch.equal(inside.encode(inside.decode(z_B32))[0], before)  # no batch statistics moved
    assert not any(module.training for module in inside.train(True).modules())


def test_the_gradient_reaches_the_latent_and_nothing_else(either):
    z_B32 = _latents(3).requires_grad_()
    either.decode(z_B32).square().sum().add(either.decode(z_B32)[:, 3].sum()).backward()
    assert z_B32.grad.isfinite().all() and (z_B32.grad.abs().sum(1) > 0).all()
    assert list(either.parameters()) == [] and not any(buffer.requires_grad for buffer in either.buffers())


def test_checkpoints_of_a_parent_hold_none_of_its_weights(either):
    assert either.state_dict() == {}
    nn.ModuleDict({"prior": either, "head": nn.Linear(2, 2)}).load_state_dict(nn.ModuleDict({"head": nn.Linear(2, 2)}).state_dict())
    assert torch.equal(copy.deepcopy(either).decode(_latents(2)), either.decode(_latents(2)))


def test_mixed_precision_does_not_reach_it(either):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rotmats = either.decode(_latents(4).bfloat16())
    assert rotmats.dtype == torch.float32
    torch.testing.assert_close(rotmats, either.decode(_latents(4).bfloat16().float()))


def test_name_digest_and_size(prior, tmp_path):
    assert (prior.name, prior.latent_dim, len(prior.digest)) == ("open", 32, 64)
    assert load_prior(PriorConfig()).digest == prior.digest
    assert sum(path.stat().st_size for path in OPEN_PRIOR.rglob("*") if path.is_file()) < 3_000_000
    torch.manual_seed(0)
    for key, data in vposer_files(VPoser(24, 32, DATA_SHAPE), {}, epoch=1, name="other").items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(data)
    other = load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path)))
    assert other.name == "vposer-v1" and other.digest != prior.digest


def test_v2_decodes_and_encodes_as_its_published_layers_do(v2_dir):
    prior = load_prior(PriorConfig(kind="vposer", vposer_dir=str(v2_dir)))
    assert (prior.name, prior.latent_dim) == ("vposer-v2", 32)
    z_BZ = _latents(6)
    rotmats = prior.decode(z_BZ)
    assert rotmats.shape == (6, 21, 3, 3) and rotmats.dtype == torch.float32
    np.testing.assert_allclose(rotmats.numpy(), decode_v2(v2_weights(), z_BZ.double().numpy()), atol=2e-5)
    pose_B63 = sample_poses(6, np.random.default_rng(0))
    found = prior.encode(axis_angle_to_matrix(torch.from_numpy(pose_B63).unflatten(-1, (21, 3))))
    for ours, expected in zip(found, encode_v2(v2_weights(), pose_B63.astype(np.float64)), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


def test_name_and_digest_tell_v1_v2_and_open_apart(prior, v2_dir, tmp_path):
    for key, data in vposer_files(VPoser(24, 32, DATA_SHAPE), {}, epoch=1, name="other").items():
        (tmp_path / "v1" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v1" / key).write_bytes(data)
    write_v2(tmp_path / "v2", seed=1)
    priors = [load_prior(PriorConfig(kind="vposer", vposer_dir=str(path))) for path in (tmp_path / "v1", tmp_path / "v2", v2_dir)]
    assert [each.name for each in (prior, *priors)] == ["open", "vposer-v1", "vposer-v2", "vposer-v2"]
    assert len({each.digest for each in (prior, *priors)}) == 4
    shutil.copytree(v2_dir, tmp_path / "copy")
    assert load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path / "copy"), vposer_version="v2")).digest == priors[2].digest


def test_the_version_asked_for_is_the_version_loaded(v2_dir, tmp_path):
    with pytest.raises(CheckpointMismatch, match=r"expected VPoser v1.*a VPoser directory of the other version, v2"):
        load_prior(PriorConfig(kind="vposer", vposer_dir=str(v2_dir), vposer_version="v1"))
    with pytest.raises(CheckpointMismatch, match=r"expected VPoser v2.*a VPoser directory of the other version, v1"):
        load_prior(PriorConfig(kind="vposer", vposer_dir=str(OPEN_PRIOR), vposer_version="v2"))
    shutil.copytree(v2_dir, tmp_path / "both")
    shutil.copytree(OPEN_PRIOR, tmp_path / "both", dirs_exist_ok=True)
    with pytest.raises(CheckpointMismatch, match="found both"):
        load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path / "both")))
    for version in ("v1", "v2"):
        assert load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path / "both"), vposer_version=version)).name == f"vposer-{version}"


def test_wrong_shapes_are_named(either):
    with pytest.raises(ValueError, match=r"expected \(B, 32\), found \(4, 31\)"):
        either.decode(torch.zeros(4, 31))
    with pytest.raises(ValueError, match=r"expected \(B, 21, 3, 3\), found \(4, 24, 3, 3\)"):
        either.encode(torch.zeros(4, 24, 3, 3))


def test_configs_that_cannot_work(tmp_path):
    with pytest.raises(ConfigError, match=r"needs prior\.vposer_dir"):
        load_prior(PriorConfig(kind="vposer"))
    with pytest.raises(ConfigError, match=r"prior\.kind is open"):
        load_prior(PriorConfig(vposer_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"prior\.vposer_version is 'v2' but prior\.kind is open"):
        load_prior(PriorConfig(vposer_version="v2"))
    with pytest.raises(LicensedFileMissing, match="no such directory"):
        load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path / "absent")))
    for wrong in ({"kind": "gmm"}, {"kind": "vposer", "vposer_version": "v3"}):
        with pytest.raises(ValidationError):
            PriorConfig(**wrong)


def test_the_open_prior_samples_poses_a_person_can_hold(prior):
    pose_N63 = matrix_to_axis_angle(prior.decode(_latents(1000))).flatten(1).numpy()
    assert within_limits(pose_N63, slack_deg=15).all(axis=1).mean() >= 0.95
    assert (overlap_m(pose_N63) < 0.07).mean() >= 0.95
    assert pose_N63.std(axis=0).mean() > 0.1  # and they are not all the same


def test_the_open_prior_keeps_poses_it_has_not_seen(prior):
    pose_N63 = torch.from_numpy(sample_poses(300, np.random.default_rng(987)))
    rotmats = axis_angle_to_matrix(pose_N63.unflatten(-1, (21, 3)))
    mean, std = prior.encode(rotmats)
    error_deg = torch.rad2deg(matrix_to_axis_angle(prior.decode(mean).mT @ rotmats).norm(dim=-1)).mean()
    assert error_deg < 8
    assert 0.7 < (mean.var(0) + std.square().mean(0)).sqrt().mean() < 1.3  # its latents are spread as N(0, I) is
