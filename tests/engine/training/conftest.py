"""Tiny shard sets, a prior's directory, and a training config for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from human_body_prior.train.vposer_smpl import VPoser

from engine.body.vposer import DATA_SHAPE, vposer_files
from engine.training.config import TrainAnnotatorConfig
from schemas.skeletons import POSE2POSE33
from tests.engine.training.builders import write_set


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URLs of the MoCap set and of the in-the-wild set."""
    root = tmp_path_factory.mktemp("sets")
    return (
        write_set(str(root / "studio"), "studio", POSE2POSE33.name, "mocap"),
        write_set(str(root / "wild"), "wild", "coco17", "itw2d"),
    )


@pytest.fixture(scope="session")
def vposer_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A VPoser v1 directory of random weights."""
    root = tmp_path_factory.mktemp("vposer")
    torch.manual_seed(0)
    for name, data in vposer_files(VPoser(num_neurons=512, latentD=32, data_shape=DATA_SHAPE), {}, 1, "random").items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return str(root)


@pytest.fixture
def make_config(sets: tuple[str, str], vposer_dir: str, tmp_path: Path) -> Callable[..., TrainAnnotatorConfig]:
    """A config of six steps of four crops; fields given by keyword replace top-level ones."""

    def make(**fields: object) -> TrainAnnotatorConfig:
        values = {
            "out": str(tmp_path / "run"),
            "loading": {"mocap": [{"url": sets[0]}], "itw": [{"url": sets[1]}], "batch_size": 4, "cache_dir": str(tmp_path / "cache")},
            "model": {"backbone": "resnet18", "width": 0.125, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 8},
            "prior": {"kind": "vposer", "vposer_dir": vposer_dir},
            "optim": {"lr": 1e-3, "schedule": "onecycle", "ema_decay": 0.9},
            "max_steps": 6,
            "checkpoint_every_steps": 3,
            "log_every_steps": 2,
            "progress_every_s": 0,
            "precision": "fp32",
        }
        return TrainAnnotatorConfig.model_validate(values | fields)

    return make
