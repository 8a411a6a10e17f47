"""Training of the prior: it learns, it is deterministic, it reads the user's poses, it never overwrites."""

import json

import numpy as np
import pytest
import torch
from human_body_prior.tools.model_loader import load_vposer
from human_body_prior.train.vposer_smpl import VPoser

from engine.body.pose_prior import PriorConfig, load_prior
from engine.body.pose_sampling import sample_poses
from engine.body.train_prior import PriorTrainingConfig, train_prior
from engine.errors import AlreadyExists, ConfigError

SMALL = {"sampled_poses": 400, "steps": 60, "batch_size": 64, "num_neurons": 48, "learning_rate": 4e-3}


def test_it_learns_and_writes_a_directory_that_everybody_reads(tmp_path, capsys):
    out = tmp_path / "prior"
    untrained = train_prior(PriorTrainingConfig(out=str(tmp_path / "one"), **SMALL | {"steps": 1}))
    measures = train_prior(PriorTrainingConfig(out=str(out), **SMALL))
    assert measures["joint_error_mm"] < 0.7 * untrained["joint_error_mm"]
    assert "step 60/60" in capsys.readouterr().out
    theirs, settings = load_vposer(str(out), vp_model=VPoser)
    assert (settings.latentD, settings.num_neurons) == (32, 48)
    ours = load_prior(PriorConfig(kind="vposer", vposer_dir=str(out)))
    z_B32 = torch.randn(3, 32)
    torch.testing.assert_close(ours.decode(z_B32).flatten(2), theirs.decode(z_B32)[:, 0])
    assert json.loads((out / "training.json").read_text())["measures"]["held_out_poses"] == 20


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone(tmp_path):
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(11)
        train_prior(PriorTrainingConfig(out=str(tmp_path / name), seed=seed, **SMALL | {"steps": 4}))
        assert torch.initial_seed() == 11
        digests.append(load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path / name))).digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_users_poses_are_trained_on(tmp_path):
    poses = np.zeros((50, 156))
    poses[:, 3:66] = sample_poses(50, np.random.default_rng(0), ("sitting",))
    np.savez(tmp_path / "amass.npz", poses=poses)
    files = (str(tmp_path / "amass.npz"),)
    measures = train_prior(PriorTrainingConfig(out=str(tmp_path / "both"), pose_files=files, **SMALL | {"steps": 3}))
    assert measures["held_out_poses"] == 20 + 2
    measures = train_prior(PriorTrainingConfig(out=str(tmp_path / "alone"), pose_files=files, **SMALL | {"steps": 3, "sampled_poses": 0}))
    assert measures["held_out_poses"] == 2


def test_it_refuses_to_overwrite_before_it_trains(tmp_path):
    (tmp_path / "version.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match="never overwritten"):
        train_prior(PriorTrainingConfig(out=str(tmp_path), steps=10**9))
    assert [path.name for path in tmp_path.iterdir()] == ["version.txt"]


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(ConfigError, match="nothing to train on"):
        train_prior(PriorTrainingConfig(out=str(tmp_path / "x"), sampled_poses=0))
