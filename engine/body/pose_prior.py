"""The pose prior: a frozen decoder from a 32-number latent to a body pose, VPoser's (v1 or v2) or the open one, behind one class.

Recipe 3 of the paper lets the annotator predict VPoser's latent, so whatever it says is a pose a body can take. v1 and the open prior
are human_body_prior's network and differ in the weights alone; v2 is another network with the same inputs and outputs.

Each of them was trained with its latents pulled towards N(0, I), so weights of the latent's L2 are of one order for all. They were
pulled with different force against different reconstruction losses, though, so how far poses lie from zero differs: the paper's
weight (1e-2) was found with one of them (v1, by its authors' habit; the paper does not say), and is a starting point for another.

It cannot be trained by accident: its weights are buffers (no optimiser sees them, and no checkpoint stores licensed weights),
and it stays in eval mode whatever its parent does, because VPoser's decoder has dropout.

Shapes: B batch, 21 body joints (SMPL without root and hands), latent of 32.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from human_body_prior.train.vposer_smpl import VPoser
from torch import Tensor, nn

from engine.body.config import PriorConfig
from engine.body.joint_angles import BODY_JOINTS
from engine.body.rotations import matrix_to_axis_angle
from engine.body.vposer import find_version, read_vposer_v1
from engine.body.vposer_v2 import SLOPE as VPOSER_V2_SLOPE
from engine.body.vposer_v2 import VPoserV2, read_vposer_v2
from engine.errors import ConfigError

VPOSER_V1_SLOPE = 0.2
"""Of the leaky ReLUs of human_body_prior's network."""
OPEN_PRIOR = Path(__file__).parent / "assets" / "open_prior"


class DecoderLayers(NamedTuple):
    """A decoder as arithmetic: linear layers with leaky ReLUs of `slope` between them, then Gram-Schmidt (`rotation_6d_to_matrix`)."""

    weights: tuple[Tensor, Tensor, Tensor]
    biases: tuple[Tensor, Tensor, Tensor]
    slope: float


class PosePrior(nn.Module):
    """A frozen pose prior. Build it with `load_prior`.

    Attributes: `name` ('open', 'vposer-v1' or 'vposer-v2'), `digest` (sha256 over its weights and, for v2, its version), `latent_dim`.
    """

    def __init__(self, vposer: VPoser | VPoserV2, name: str) -> None:
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
            return self._vposer.decode(latent_BZ.float()).view(len(latent_BZ), len(BODY_JOINTS), 3, 3)

    @property
    def decoder_layers(self) -> DecoderLayers:
        """What `decode` computes, for whoever needs derivatives of it: three layers from the latent to (21 * 6) numbers."""
        network = self._vposer
        if isinstance(network, VPoserV2):
            layers, slope = [network.decoder_net[key] for key in ("0", "3", "5")], VPOSER_V2_SLOPE
        else:
            layers, slope = [network.bodyprior_dec_fc1, network.bodyprior_dec_fc2, network.bodyprior_dec_out], VPOSER_V1_SLOPE
        return DecoderLayers(tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers), slope)

    def encode(self, rotmats_BJ33: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, 32) each of the latent of body poses (B, 21, 3, 3)."""
        if rotmats_BJ33.shape[1:] != (len(BODY_JOINTS), 3, 3):
            raise ValueError(f"rotmats: expected (B, {len(BODY_JOINTS)}, 3, 3), found {tuple(rotmats_BJ33.shape)}")
        with torch.autocast(rotmats_BJ33.device.type, enabled=False):
            posterior = self._vposer.encode(matrix_to_axis_angle(rotmats_BJ33.float()).flatten(1))
        return posterior.mean, posterior.stddev


def load_prior(config: PriorConfig) -> PosePrior:
    """The pose prior of a config, in float32 on the CPU.

    Raises ConfigError if fields contradict each other, and find_version's, read_vposer_v1's or read_vposer_v2's errors for what is wrong
    with the directory, among them CheckpointMismatch if it holds another version than vposer_version says.
    """
    if config.kind == "open":
        for field, ignored in (("vposer_dir", config.vposer_dir is not None), ("vposer_version", config.vposer_version != "auto")):
            if ignored:
                raise ConfigError(
                    f"prior.{field} is {getattr(config, field)!r} but prior.kind is open, which would ignore it; set prior.kind=vposer"
                )
        return PosePrior(read_vposer_v1(OPEN_PRIOR), "open")
    if config.vposer_dir is None:
        raise ConfigError("prior.kind=vposer needs prior.vposer_dir, an unpacked vposer_v1_0 or V02_05 directory; or use prior.kind=open")
    directory = Path(config.vposer_dir)
    version = find_version(directory, config.vposer_version)
    return PosePrior(read_vposer_v1(directory) if version == "v1" else read_vposer_v2(directory), f"vposer-{version}")


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
    sha = hashlib.sha256(b"vposer-v2\n" if isinstance(module, VPoserV2) else b"")  # v1's digests are in checkpoints from before v2
    for key, value in sorted(module.state_dict().items()):
        sha.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
