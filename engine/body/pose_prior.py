"""The pose prior: a frozen decoder from a 32-number latent to a body pose, VPoser's or the open one, behind one class.

Recipe 3 of the paper lets the annotator predict VPoser's latent, so whatever it says is a pose a body can take. The network is
human_body_prior's; what differs between the two kinds is only the directory the weights are read from.

It cannot be trained by accident: its weights are buffers (no optimiser sees them, and no checkpoint stores licensed weights),
and it stays in eval mode whatever its parent does, because VPoser's decoder has dropout.

Shapes: B batch, 21 body joints (SMPL without root and hands), latent of 32.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import torch
from human_body_prior.train.vposer_smpl import VPoser
from pydantic import Field
from torch import Tensor, nn

from engine.body.joint_angles import BODY_JOINTS
from engine.body.rotations import matrix_to_axis_angle
from engine.body.vposer import read_vposer
from engine.config import Config
from engine.errors import ConfigError

OPEN_PRIOR = Path(__file__).parent / "assets" / "open_prior"


class PriorConfig(Config):
    """Which pose prior to use."""

    kind: Literal["open", "vposer"] = Field("open", description="open: the bundled free prior; vposer: VPoser v1 from the user's files")
    vposer_dir: str | None = Field(
        None, description="a VPoser v1 directory (snapshots/*.pt and *.ini): the unpacked vposer_v1_0, or what train_pose_prior wrote"
    )


class PosePrior(nn.Module):
    """A frozen pose prior. Build it with `load_prior`.

    Attributes: `name` ('open' or 'vposer'), `digest` (sha256 over its weights), `latent_dim`.
    """

    def __init__(self, vposer: VPoser, name: str) -> None:
        super().__init__()
        self.name = name
        self.digest = _digest(vposer)
        self.latent_dim = int(vposer.latentD)
        self._vposer = vposer
        _freeze(vposer)
        self.train(False)

    def train(self, mode: bool = True) -> PosePrior:
        """Stays in eval mode: a parent's `train()` must not switch dropout or batch statistics on."""
        return super().train(False)

    def decode(self, latent_BZ: Tensor) -> Tensor:
        """Rotation matrices (B, 21, 3, 3) of the body joints, relative to their parents; differentiable in the latent (B, 32).

        Always float32, also under autocast: Gram-Schmidt in half precision is off by degrees.
        """
        if latent_BZ.dim() != 2 or latent_BZ.shape[1] != self.latent_dim:
            raise ValueError(f"latent: expected (B, {self.latent_dim}), found {tuple(latent_BZ.shape)}")
        with torch.autocast(latent_BZ.device.type, enabled=False):
            return self._vposer.decode(latent_BZ.float(), output_type="matrot").view(len(latent_BZ), len(BODY_JOINTS), 3, 3)

    def encode(self, rotmats_BJ33: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, 32) each of the latent of body poses (B, 21, 3, 3)."""
        if rotmats_BJ33.shape[1:] != (len(BODY_JOINTS), 3, 3):
            raise ValueError(f"rotmats: expected (B, {len(BODY_JOINTS)}, 3, 3), found {tuple(rotmats_BJ33.shape)}")
        with torch.autocast(rotmats_BJ33.device.type, enabled=False):
            posterior = self._vposer.encode(matrix_to_axis_angle(rotmats_BJ33.float()).flatten(1))
        return posterior.mean, posterior.stddev


def load_prior(config: PriorConfig) -> PosePrior:
    """The pose prior of a config, in float32 on the CPU.

    Raises ConfigError if kind=vposer lacks vposer_dir, and read_vposer's errors for what is wrong with the directory.
    """
    if config.kind == "open" and config.vposer_dir is not None:
        raise ConfigError(f"prior.vposer_dir is {config.vposer_dir!r} but prior.kind is open, which would ignore it; set prior.kind=vposer")
    if config.kind == "vposer" and config.vposer_dir is None:
        raise ConfigError("prior.kind=vposer needs prior.vposer_dir, an unpacked vposer_v1_0 directory; or use prior.kind=open")
    return PosePrior(read_vposer(OPEN_PRIOR if config.vposer_dir is None else Path(config.vposer_dir)), config.kind)


def _freeze(module: nn.Module) -> None:
    """Every parameter becomes a buffer, and no buffer is saved with a checkpoint."""
    for child in module.modules():
        for name, parameter in list(child.named_parameters(recurse=False)):
            delattr(child, name)
            child.register_buffer(name, parameter.detach(), persistent=False)
        for name, buffer in list(child.named_buffers(recurse=False)):
            child.register_buffer(name, buffer, persistent=False)
        if isinstance(child, nn.BatchNorm1d):  # or it asks a parent's state dict for its batch counter; in eval mode it has no other effect
            child.track_running_stats = False


def _digest(module: nn.Module) -> str:
    sha = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        sha.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
