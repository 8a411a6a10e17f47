"""Training runs of small networks that were never trained: a checkpoint in a folder."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch

from engine.body.config import BodyConfig, PriorConfig
from engine.body.pose_prior import load_prior
from engine.body.smpl import load_body
from engine.models.estimator import Estimator
from engine.models.estimators.hmr import Hmr, HmrConfig
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig
from engine.storage import Store
from engine.training.checkpoint import commit, part, serialise
from schemas.records import sha256_hex

N = TypeVar("N", bound=Estimator)


def write_run(url: str, head: Literal["6d", "vposer"], step: int = 3) -> Pose2Pose:
    """The network whose checkpoint now lies at `url`, in eval mode."""
    torch.manual_seed(step)
    body, prior = load_body(BodyConfig()), load_prior(PriorConfig()) if head == "vposer" else None
    config = Pose2PoseConfig(backbone="resnet18", width=0.25, output_stride=16, input_hw=(128, 96), feature_dim=16, head=head)
    return _committed(url, Pose2Pose(config, body, prior), step)


def write_hmr_run(url: str) -> Hmr:
    """The same for an HMR."""
    torch.manual_seed(3)
    return _committed(url, Hmr(HmrConfig(backbone="resnet18", width=0.25, input_hw=(64, 64), hidden=16), load_body(BodyConfig())), 3)


def _committed(url: str, model: N, step: int) -> N:
    prior = None if model.prior is None else part(model.prior, PriorConfig())
    commit(
        Store(url), {"model.pt": serialise(model.state_dict())}, keep=5, role="annotator",
        step=step, epoch=0, total_steps=9, samples_consumed=1,
        model=model.config.model_dump(mode="json"), body=part(model.body, BodyConfig()), prior=prior,
        config={}, config_digest=sha256_hex(b"config"), training_sets={"mocap": sha256_hex(b"mocap")},
    )  # fmt: skip
    return model.eval()
