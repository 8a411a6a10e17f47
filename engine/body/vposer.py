"""Reads and writes VPoser directories (v1 layout) without running anything found in them.

A VPoser v1 directory holds `snapshots/*.pt` (a plain state dict), one `*.ini` of settings and a `vposer_smpl.py`, which
human_body_prior's own loader imports and executes. Here the network is human_body_prior's class, the settings are read with
configparser, the weights with `weights_only`, and code in the directory is never looked at.
"""

from __future__ import annotations

import ast
import configparser
import io
import pickle
import re
import zipfile
from pathlib import Path

import torch
from human_body_prior.train.vposer_smpl import VPoser
from torch import Tensor

from engine.body.joint_angles import BODY_JOINTS
from engine.errors import CheckpointMismatch, LicensedFileMissing, UnsafeInput

DATA_SHAPE = [1, len(BODY_JOINTS), 3]
_LAYOUT = "expected VPoser v1's layout: snapshots/TR00_E096.pt and TR00_004_00_WO_accad.ini, as in vposer_v1_0.zip from https://smpl-x.is.tue.mpg.de"
_ADVICE = "point vposer_dir at the unpacked vposer_v1_0 directory, or use kind=open, the bundled free prior"


def read_vposer(directory: Path) -> VPoser:
    """The network of a VPoser v1 directory, float32, in eval mode, from its newest snapshot (by try and epoch in the name).

    Raises LicensedFileMissing where the directory, its snapshot or its settings are absent, CheckpointMismatch for another
    generation of VPoser or weights that do not fit the settings, UnsafeInput for a snapshot that wants to run code.
    """
    snapshot, ini = _find_files(directory)
    settings = _read_settings(ini)
    with torch.device("meta"):  # costs nothing, whatever size the settings claim
        vposer = VPoser(settings["num_neurons"], settings["latentD"], DATA_SHAPE)
    state = _read_snapshot(snapshot)
    _check_fits(state, vposer.state_dict(), snapshot, ini)
    vposer.load_state_dict(state, assign=True)
    return vposer.eval()


def vposer_files(vposer: VPoser, settings: dict[str, object], epoch: int, name: str) -> dict[str, bytes]:
    """Files of a VPoser v1 directory by relative path, weights in half precision (they are float32 again once read).

    `settings` go into the .ini beside what the architecture needs.
    """
    state = {key: value.half() if value.is_floating_point() else value for key, value in vposer.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    architecture = {
        "num_neurons": vposer.bodyprior_dec_fc1.out_features, "latentD": vposer.latentD, "data_shape": DATA_SHAPE, "use_cont_repr": True,
    }
    ini = "[All]\n" + "".join(f"{key} : {value}\n" for key, value in sorted({**settings, **architecture}.items()))
    return {f"snapshots/TR00_E{epoch:03d}.pt": buffer.getvalue(), f"TR00_{name}.ini": ini.encode()}


def _find_files(directory: Path) -> tuple[Path, Path]:
    if not directory.is_dir():
        raise LicensedFileMissing(f"VPoser directory {directory}: no such directory; {_LAYOUT}; {_ADVICE}")
    snapshots = sorted(directory.glob("snapshots/*.pt"), key=_age)
    if not snapshots and (list(directory.glob("snapshots/*.ckpt")) or list(directory.glob("*.yaml"))):
        raise CheckpointMismatch(f"VPoser directory {directory}: found VPoser v2 (*.yaml, *.ckpt), another network; {_LAYOUT}; {_ADVICE}")
    if not snapshots:
        raise LicensedFileMissing(f"VPoser directory {directory}: no snapshot snapshots/*.pt in it; {_LAYOUT}; {_ADVICE}")
    settings = sorted(directory.glob("*.ini"))
    if not settings:
        raise LicensedFileMissing(f"VPoser directory {directory}: no settings *.ini in it; {_LAYOUT}; {_ADVICE}")
    return snapshots[-1], settings[0]


def _age(snapshot: Path) -> tuple[int, int, str]:
    numbers = [re.search(letters + r"(\d+)", snapshot.stem) for letters in ("TR", "E")]
    attempt, epoch = (int(match[1]) if match else -1 for match in numbers)
    return attempt, epoch, snapshot.name


def _read_settings(ini: Path) -> dict[str, int]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(ini.read_text(encoding="utf-8", errors="replace"))
        found = {key: value for section in parser.sections() for key, value in parser.items(section)}  # configparser lowers keys
        settings = {key: ast.literal_eval(found[key.lower()]) for key in ("num_neurons", "latentD", "data_shape")}
    except (configparser.Error, KeyError, ValueError, SyntaxError) as error:
        raise CheckpointMismatch(
            f"{ini}: expected VPoser v1 settings num_neurons, latentD and data_shape, found {type(error).__name__}: {error}; {_ADVICE}"
        ) from None
    sizes_fit = all(type(settings[key]) is int and 0 < settings[key] <= 2**20 for key in ("num_neurons", "latentD"))
    if not sizes_fit or settings["data_shape"] not in (DATA_SHAPE, tuple(DATA_SHAPE)):
        raise CheckpointMismatch(f"{ini}: expected sizes num_neurons, latentD and data_shape {DATA_SHAPE}, found {settings}; {_ADVICE}")
    if found.get("use_cont_repr", "True") != "True":
        raise CheckpointMismatch(f"{ini}: expected use_cont_repr True (6D rotations), found {found['use_cont_repr']}; {_ADVICE}")
    return settings


def _read_snapshot(snapshot: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(snapshot, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "global" in str(error):
            raise UnsafeInput(
                f"{snapshot}: expected a state dict of tensors, found a pickle that wants to run code; it was not run. "
                "Do not use this file; get VPoser from its own site"
            ) from None
        raise CheckpointMismatch(f"{snapshot}: expected a PyTorch state dict, found a damaged file; get it again") from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointMismatch(f"{snapshot}: expected a PyTorch state dict, found a damaged file ({error}); get it again") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointMismatch(f"{snapshot}: expected a state dict of tensors, found {type(state).__name__} of other things; {_ADVICE}")
    return {key.removeprefix("module."): value.float() if value.is_floating_point() else value for key, value in state.items()}


def _check_fits(state: dict[str, Tensor], expected: dict[str, Tensor], snapshot: Path, ini: Path) -> None:
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointMismatch(
            f"{snapshot}: expected the tensors of VPoser v1, found {missing[:3]} missing and {unknown[:3]} unknown; {_ADVICE}"
        )
    for key, value in expected.items():
        if state[key].shape != value.shape:
            found = tuple(state[key].shape)
            raise CheckpointMismatch(f"{snapshot}: expected {key} {tuple(value.shape)} by {ini.name}, found {found}; {_ADVICE}")
        if state[key].is_floating_point() and not state[key].isfinite().all():
            raise CheckpointMismatch(f"{snapshot}: expected finite weights, found NaN in {key}; get it again")
