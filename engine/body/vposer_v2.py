"""Reads VPoser v2 directories, without running anything found in them. The network is written here: PyPI's human_body_prior has v1's alone.

A VPoser v2 directory holds `V02_05.yaml` and `snapshots/V02_05_epoch=13_val_loss=0.03.ckpt`, PyTorch Lightning's checkpoint: the network's
weights under `state_dict`, their keys behind `vp_model.`, among those of the SMPL-X body it was trained with (left alone), and
beside them optimiser, callbacks and hyper-parameters. Of the latter, what is not a tensor is never built: a stand-in takes its place.

v2 against v1: leaky ReLUs of slope 0.01 instead of 0.2, one more linear layer in the encoder, trained on other data with other
weights of the losses. The latent has 32 numbers and the prior N(0, I) in both, but a latent of one means nothing to the other.

Shapes: B batch, Z latent (32), 21 body joints, 63 their axis-angles in radians.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import leaky_relu, softplus

from engine.body.joint_angles import BODY_JOINTS
from engine.body.rotations import rotation_6d_to_matrix
from engine.body.vposer import ADVICE, as_tensors, check_sizes, find_files, fitting, read_snapshot
from engine.errors import CheckpointMismatch

SLOPE = 0.01
PREFIX = "vp_model."


class Discarded:
    """Takes the place of anything a checkpoint may name and nobody needs: accepts every argument and keeps none."""

    def __new__(cls, *args: object, **kwargs: object) -> Discarded:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


_CALLBACKS = (
    "model_checkpoint.ModelCheckpoint",
    "early_stopping.EarlyStopping",
    "lr_logger.LearningRateLogger",
    "lr_monitor.LearningRateMonitor",
)
_MAPPINGS = (
    "dotmap.DotMap",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
_SCALARS = ("argparse.Namespace", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
STAND_INS: list[tuple[type, str]] = [
    *((Discarded, f"{package}.callbacks.{name}") for package in ("pytorch_lightning", "lightning.pytorch") for name in _CALLBACKS),
    *((OrderedDict, name) for name in _MAPPINGS),
    *((Discarded, name) for name in _SCALARS),
]


class VPoserV2(nn.Module):
    """VPoser v2's encoder and decoder, for use and not for training: its dropout, which does nothing in eval mode, is left out.

    The names of the layers are those of the published weights; `latentD` is what v1's class calls the size of the latent.
    """

    def __init__(self, num_neurons: int, latent_dim: int) -> None:
        super().__init__()
        self.latentD = latent_dim
        numbers = 3 * len(BODY_JOINTS)
        self.encoder_net = nn.ModuleDict(
            {
                "1": nn.BatchNorm1d(numbers),
                "2": nn.Linear(numbers, num_neurons),
                "4": nn.BatchNorm1d(num_neurons),
                "6": nn.Linear(num_neurons, num_neurons),
                "7": nn.Linear(num_neurons, num_neurons),
                "8": nn.ModuleDict({"mu": nn.Linear(num_neurons, latent_dim), "logvar": nn.Linear(num_neurons, latent_dim)}),
            }
        )
        self.decoder_net = nn.ModuleDict(
            {
                "0": nn.Linear(latent_dim, num_neurons),
                "3": nn.Linear(num_neurons, num_neurons),
                "5": nn.Linear(num_neurons, 6 * len(BODY_JOINTS)),
            }
        )

    def decode(self, latent_BZ: Tensor) -> Tensor:
        """Rotation matrices (B, 21, 3, 3) of the body joints, relative to their parents."""
        layers = self.decoder_net
        hidden = leaky_relu(layers["0"](latent_BZ), SLOPE)
        hidden = leaky_relu(layers["3"](hidden), SLOPE)
        return rotation_6d_to_matrix(layers["5"](hidden).unflatten(1, (len(BODY_JOINTS), 6)))

    def encode(self, pose_B63: Tensor) -> Normal:
        """Posterior (B, Z) of body poses in axis-angle."""
        layers = self.encoder_net
        hidden = leaky_relu(layers["2"](layers["1"](pose_B63)), SLOPE)
        hidden = layers["7"](layers["6"](layers["4"](hidden)))  # two linear layers with nothing in between, as published
        return Normal(layers["8"]["mu"](hidden), softplus(layers["8"]["logvar"](hidden)))


def read_vposer_v2(directory: Path) -> VPoserV2:
    """The network of a VPoser v2 directory, float32, in eval mode.

    Of several snapshots, that of the highest epoch in the name (then the last name): the official loader takes the newest by the
    file's date, which copying loses. Raises LicensedFileMissing where the snapshot or the .yaml are absent, CheckpointMismatch for
    VPoser v1 or weights that do not fit the .yaml, UnsafeInput for a snapshot that names things neither tensors nor known to be harmless.
    """
    snapshot, settings = find_files(directory, "v2", "*.yaml", _age)
    sizes = _read_settings(settings)
    with torch.device("meta"):
        vposer = VPoserV2(sizes["num_neurons"], sizes["latentD"])
    state = as_tensors(_state_dict(snapshot), snapshot)
    if any(key.startswith(PREFIX) for key in state):  # or somebody has stripped it already
        state = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    vposer.load_state_dict(fitting(state, vposer.state_dict(), snapshot, settings, "v2"), assign=True)
    return vposer.eval()


def _age(snapshot: Path) -> tuple[int, str]:
    epoch = re.search(r"epoch=(\d+)", snapshot.stem)
    return int(epoch[1]) if epoch else -1, snapshot.name


def _read_settings(path: Path) -> dict[str, int]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))["model_params"]
        found = {key: settings[key] for key in ("num_neurons", "latentD")}
    except (yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointMismatch(
            f"{path}: expected VPoser v2 settings model_params.num_neurons and .latentD, found {type(error).__name__}: {reason}; {ADVICE}"
        ) from None
    return check_sizes(found, path)


def _state_dict(snapshot: Path) -> Any:
    convert = f"import torch as t; f={snapshot.name!r}; t.save(dict(state_dict=t.load(f, weights_only=False)['state_dict']), f)"
    advice = f'get VPoser from its own site; if you trust this file, keep its weights alone, in a sandbox: python -c "{convert}"'
    loaded = read_snapshot(snapshot, advice, STAND_INS)
    return loaded["state_dict"] if isinstance(loaded, dict) and "state_dict" in loaded else loaded
