"""Trains a pose prior in VPoser's architecture and writes it as a VPoser v1 directory.

VPoser is a variational auto-encoder (Pavlakos et al., "Expressive Body Capture", CVPR 2019, section 3.2) on AMASS. This one is
trained on poses drawn from anatomy (pose_sampling.py) and on whatever npz files of SMPL poses the user has, with VPoser's
losses: reconstruction in millimetres on the body (its joints, not its mesh: a hundredth of the cost), reconstruction of
rotation matrices, and the KL divergence to N(0, I).

Shapes: B batch, N poses, J = 21 body joints, Z latent numbers.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache

import numpy as np
import torch
from human_body_prior.train.vposer_smpl import VPoser
from pydantic import Field
from torch import Tensor

from engine.body.lbs import bone_transforms
from engine.body.pose_files import read_pose_files
from engine.body.pose_sampling import sample_poses
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import BodyConfig, load_body
from engine.body.vposer import DATA_SHAPE, vposer_files
from engine.config import Config
from engine.errors import AlreadyExists, ConfigError
from engine.storage import Store
from schemas.records import canonical_json


class PriorTrainingConfig(Config):
    """Training of a pose prior. The defaults made the bundled one, in ten minutes on one core of a busy machine."""

    out: str = Field(description="directory or URL to write, in VPoser v1's layout; must not hold a prior yet")
    name: str = Field("open_prior", description="name of the settings file")
    seed: int = Field(0, description="the same seed, files and machine give the same weights")
    sampled_poses: int = Field(60_000, ge=0, description="training poses drawn from joint limits and postures")
    pose_files: tuple[str, ...] = Field((), description="npz files (paths, URLs, globs) of SMPL or AMASS poses to train on too")
    file_share: float = Field(0.5, gt=0, le=1, description="share of every batch taken from pose_files, where there are any")
    held_out: float = Field(0.05, gt=0, lt=1, description="share of the poses kept for measuring; of a sequence, its end")
    steps: int = Field(4000, ge=1, description="optimiser steps")
    batch_size: int = Field(512, ge=2, description="poses a step")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's, at the start; falls to 0 along a cosine")
    kl_weight: float = Field(
        0.1,
        ge=0,
        description="weight of the KL divergence to N(0, I), summed over the latent (nats); with VPoser's own 5e-3 the latents of "
        "poses spread 1.8 times wider than N(0, I)",
    )
    joint_weight: float = Field(1.0, ge=0, description="weight of the mean absolute joint position error (per mm)")
    rotation_weight: float = Field(1.0, ge=0, description="weight of the squared rotation matrix error, summed over joints")
    num_neurons: int = Field(512, ge=1, description="width of the hidden layers (VPoser: 512)")
    latent_dim: int = Field(32, ge=1, description="numbers in the latent (VPoser: 32)")


def train_prior(config: PriorTrainingConfig) -> dict[str, float]:
    """Train, measure on held-out poses and write `config.out`; the measures (units in their names).

    Raises AlreadyExists before training where a prior is there already.
    """
    store = Store(config.out)
    if taken := store.list():
        raise AlreadyExists(f"{config.out}: holds {len(taken)} files already ({taken[0]}); it is never overwritten, choose another out")
    began = time.monotonic()
    sources, held_out = _poses(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        vposer = VPoser(config.num_neurons, config.latent_dim, DATA_SHAPE)
        _fit(vposer, sources, config)
    files = vposer_files(vposer, _settings(config), epoch=config.steps, name=config.name)
    measures = measure(vposer.half().float().eval(), held_out)
    measures["train_seconds"] = round(time.monotonic() - began, 1)
    for key, data in files.items():
        store.create(key, data)
    store.create("training.json", canonical_json({"config": config.model_dump(mode="json", exclude={"out"}), "measures": measures}))
    print(f"wrote {config.out}: " + ", ".join(f"{key} {value:.4g}" for key, value in measures.items()), flush=True)
    return measures


def measure(vposer: VPoser, pose_N63: Tensor) -> dict[str, float]:
    """How well poses survive encoding and decoding, and how far their latents are from N(0, I)."""
    with torch.no_grad():
        posterior = vposer.encode(pose_N63)
        rotmats_NJ33 = axis_angle_to_matrix(pose_N63.unflatten(-1, (-1, 3)))
        decoded_NJ33 = vposer.decode(posterior.mean).view(rotmats_NJ33.shape)
        cosine_NJ = ((decoded_NJ33 * rotmats_NJ33).sum((-1, -2)) - 1) / 2
        apart_NJ = (_joints(decoded_NJ33) - _joints(rotmats_NJ33)).norm(dim=-1)
        std_Z = (posterior.mean.var(0) + posterior.stddev.square().mean(0)).sqrt()
    return {
        "held_out_poses": float(len(pose_N63)),
        "rotation_error_deg": math.degrees(cosine_NJ.clamp(-1, 1).acos().mean().item()),
        "joint_error_mm": 1000 * apart_NJ.mean().item(),
        "kl_nats": _kl(posterior).mean().item(),
        "latent_std_mean": std_Z.mean().item(),
    }


def _poses(config: PriorTrainingConfig) -> tuple[list[Tensor], Tensor]:
    """Training poses of each source (sampled, files) and the held-out poses of both."""
    sampled = sample_poses(config.sampled_poses, np.random.default_rng(config.seed))
    sources = [[sampled]] if len(sampled) else []
    if sequences := read_pose_files(config.pose_files):
        sources.append(sequences)
    if not sources:
        raise ConfigError("sampled_poses is 0 and pose_files is empty: nothing to train on")
    train, held_out = [], []
    for sequences in sources:
        cuts = [max(1, round(len(s) * (1 - config.held_out))) for s in sequences]
        train.append(torch.from_numpy(np.concatenate([s[:cut] for s, cut in zip(sequences, cuts, strict=True)])))
        held_out += [s[cut:] for s, cut in zip(sequences, cuts, strict=True)]
    return train, torch.from_numpy(np.concatenate(held_out))


def _fit(vposer: VPoser, sources: list[Tensor], config: PriorTrainingConfig) -> None:
    optimizer = torch.optim.Adam(vposer.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    shares = [config.batch_size] if len(sources) == 1 else [config.batch_size - round(config.batch_size * config.file_share)]
    shares += [config.batch_size - shares[0]] * (len(sources) - 1)
    vposer.train()
    began = time.monotonic()
    for step in range(1, config.steps + 1):
        pose_B63 = torch.cat([poses[torch.randint(len(poses), (share,))] for poses, share in zip(sources, shares, strict=True)])
        terms = _losses(vposer, pose_B63, config)
        optimizer.zero_grad(set_to_none=True)
        sum(terms.values()).backward()
        optimizer.step()
        schedule.step()
        if step % max(1, config.steps // 20) == 0:
            rate = step / (time.monotonic() - began)
            losses = ", ".join(f"{name} {value.item():.3f}" for name, value in terms.items())
            print(f"step {step}/{config.steps}: {losses}; {rate:.0f} steps/s, {(config.steps - step) / rate:.0f} s left", flush=True)
    vposer.eval()


def _losses(vposer: VPoser, pose_B63: Tensor, config: PriorTrainingConfig) -> dict[str, Tensor]:
    rotmats_BJ33 = axis_angle_to_matrix(pose_B63.unflatten(-1, (-1, 3)))
    posterior = vposer.encode(pose_B63)
    decoded_BJ33 = vposer.decode(posterior.rsample()).view(rotmats_BJ33.shape)
    apart_mm = 1000 * (_joints(decoded_BJ33) - _joints(rotmats_BJ33)).abs().mean()
    return {
        "joints": config.joint_weight * apart_mm,
        "rotations": config.rotation_weight * (decoded_BJ33 - rotmats_BJ33).square().sum((1, 2, 3)).mean(),
        "kl": config.kl_weight * _kl(posterior).mean(),
    }


def _kl(posterior: torch.distributions.Normal) -> Tensor:
    """(B,) divergence of the posterior from N(0, I) in nats."""
    return (0.5 * (posterior.mean.square() + posterior.variance - 1) - posterior.stddev.log()).sum(-1)


def _joints(rotmats_BJ33: Tensor) -> Tensor:
    """(B, 24, 3) joints in metres of the open body's mean shape, pelvis upright."""
    eye_B133 = torch.eye(3).expand(len(rotmats_BJ33), 1, 3, 3)
    full_BK33 = torch.cat((eye_B133, rotmats_BJ33, eye_B133, eye_B133), dim=1)
    return bone_transforms(full_BK33, _rest_joints().expand(len(rotmats_BJ33), -1, -1))[0]


@lru_cache(maxsize=1)
def _rest_joints() -> Tensor:
    return load_body(BodyConfig()).rest_joints


def _settings(config: PriorTrainingConfig) -> dict[str, object]:
    """The settings VPoser's own .ini has, where they mean the same here."""
    return {
        "batch_size": config.batch_size,
        "base_lr": config.learning_rate,
        "kl_coef": config.kl_weight,
        "seed": config.seed,
        "expr_code": config.name,
        "num_iterations": config.steps,
    }
