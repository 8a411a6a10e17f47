"""Finds out which VPoser a directory holds, and reads and writes v1's, without running anything found in them.

A VPoser v1 directory holds `snapshots/*.pt` (a plain state dict), one `*.ini` of settings and a `vposer_smpl.py`, which
human_body_prior's own loader imports and executes. Here the network is human_body_prior's class, the settings are read with
configparser, the weights with `weights_only`, and code in the directory is never looked at. A v2 directory
(`snapshots/*.ckpt`, `*.yaml`) holds another network, read by vposer_v2.py.
"""

from __future__ import annotations

import ast
import configparser
import io
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from human_body_prior.train.vposer_smpl import VPoser
from torch import Tensor

from engine.body.joint_angles import BODY_JOINTS
from engine.errors import CheckpointMismatch, LicensedFileMissing, UnsafeInput

VPoserVersion = Literal["v1", "v2"]

DATA_SHAPE = [1, len(BODY_JOINTS), 3]
LAYOUTS = {
    "v1": "snapshots/TR00_E096.pt and TR00_004_00_WO_accad.ini, as in vposer_v1_0.zip",
    "v2": "snapshots/V02_05_epoch=13_val_loss=0.03.ckpt and V02_05.yaml, as in VPoser v2.0",
}
ADVICE = "point prior.vposer_dir at an unpacked VPoser of https://smpl-x.is.tue.mpg.de, or use prior.kind=open, the bundled free prior"
_PATTERNS: dict[VPoserVersion, str] = {"v1": "snapshots/*.pt", "v2": "snapshots/*.ckpt"}


def find_version(directory: Path, asked: VPoserVersion | Literal["auto"] = "auto") -> VPoserVersion:
    """Which VPoser a directory holds, by the layout: snapshots/*.pt is v1, snapshots/*.ckpt is v2.

    Raises LicensedFileMissing where the directory or its snapshots are absent, CheckpointMismatch if it holds the other version
    than `asked`, or both while `asked` is 'auto'.
    """
    if not directory.is_dir():
        raise LicensedFileMissing(f"VPoser directory {directory}: no such directory; expected {' or '.join(LAYOUTS.values())}; {ADVICE}")
    found = {version: sorted(directory.glob(pattern)) for version, pattern in _PATTERNS.items()}
    held = [version for version, snapshots in found.items() if snapshots]
    if not held:
        below = sorted(path.parent for path in directory.glob("*/snapshots"))
        advice = f"is it {below[0]} that you mean? If not, {ADVICE}" if below else ADVICE
        raise LicensedFileMissing(f"VPoser directory {directory}: no snapshot in it; expected {' or '.join(LAYOUTS.values())}; {advice}")
    if asked in held:
        return asked
    if asked != "auto":
        raise CheckpointMismatch(
            f"VPoser directory {directory}: expected VPoser {asked}, as prior.vposer_version says, found a VPoser directory of the other "
            f"version, {held[0]} ({found[held[0]][0].name}); set prior.vposer_version={held[0]}, or {ADVICE}"
        )
    if len(held) > 1:
        names = " and ".join(found[version][0].name for version in held)
        raise CheckpointMismatch(
            f"VPoser directory {directory}: expected one version of VPoser, found both ({names}); "
            "say which with prior.vposer_version, or keep them in a directory each"
        )
    return held[0]


def read_vposer_v1(directory: Path) -> VPoser:
    """The network of a VPoser v1 directory, float32, in eval mode, from its newest snapshot (by try and epoch in the name).

    Raises LicensedFileMissing where the directory, its snapshot or its settings are absent, CheckpointMismatch for VPoser v2 or weights
    that do not fit the settings, UnsafeInput for a snapshot that wants to run code.
    """
    snapshot, ini = find_files(directory, "v1", "*.ini", _age)
    settings = _read_settings(ini)
    with torch.device("meta"):  # costs nothing, whatever size the settings claim
        vposer = VPoser(settings["num_neurons"], settings["latentD"], DATA_SHAPE)
    loaded = read_snapshot(snapshot, advice="do not use this file; get VPoser from its own site")
    state = {key.removeprefix("module."): value for key, value in as_tensors(loaded, snapshot).items()}
    vposer.load_state_dict(fitting(state, vposer.state_dict(), snapshot, ini, "v1"), assign=True)
    return vposer.eval()


def vposer_files(vposer: VPoser, settings: dict[str, object], epoch: int, name: str) -> dict[str, bytes]:
    """Files of a VPoser v1 directory by relative path, weights in half precision (they are float32 again once read).

    `settings` go into the .ini beside what the architecture needs.
    """
    state = {key: value.half() if value.is_floating_point() else value for key, value in vposer.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    architecture = {
        "num_neurons": vposer.bodyprior_dec_fc1.out_features,
        "latentD": vposer.latentD,
        "data_shape": DATA_SHAPE,
        "use_cont_repr": True,
    }
    ini = "[All]\n" + "".join(f"{key} : {value}\n" for key, value in sorted({**settings, **architecture}.items()))
    return {f"snapshots/TR00_E{epoch:03d}.pt": buffer.getvalue(), f"TR00_{name}.ini": ini.encode()}


def find_files(directory: Path, version: VPoserVersion, settings: str, age: Callable[[Path], Any]) -> tuple[Path, Path]:
    """The newest snapshot by `age`, and the settings file: of several, the one whose name the snapshot's begins with.

    Raises find_version's errors, and LicensedFileMissing where the settings are absent.
    """
    find_version(directory, version)
    newest = max(directory.glob(_PATTERNS[version]), key=age)
    found = sorted(directory.glob(settings), key=lambda path: (not newest.name.startswith(f"{path.stem}_"), path.name))
    if not found:
        raise LicensedFileMissing(f"VPoser directory {directory}: no settings {settings} in it; expected {LAYOUTS[version]}; {ADVICE}")
    return newest, found[0]


def check_sizes(settings: dict[str, Any], where: Path) -> dict[str, int]:
    """`settings` if its num_neurons and latentD are sizes of a network. CheckpointMismatch otherwise."""
    sizes = {key: settings[key] for key in ("num_neurons", "latentD")}
    if not all(type(size) is int and 0 < size <= 2**20 for size in sizes.values()):
        raise CheckpointMismatch(f"{where}: expected sizes num_neurons and latentD, whole numbers from 1 to 2^20, found {sizes}; {ADVICE}")
    return sizes


def read_snapshot(snapshot: Path, advice: str, stand_ins: Iterable[tuple[Any, str]] = ()) -> Any:
    """What torch.save wrote: tensors and containers alone, on the CPU.

    `stand_ins` are (harmless class of ours, name in the file) for things other than tensors that the file may name.
    Raises UnsafeInput, which ends with `advice`, if it names anything else, CheckpointMismatch if it is damaged.
    """
    data = io.BytesIO(snapshot.read_bytes())
    try:
        with torch.serialization.safe_globals(list(stand_ins)):
            return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        if isinstance(error, pickle.UnpicklingError) and re.search("GLOBAL|Trying to call|Can only", str(error)):
            name = re.search(r"GLOBAL (\S+)", str(error))
            code = f"code, {name[1] if name else 'a call of something in it'}"
            raise UnsafeInput(f"{snapshot}: expected tensors, found a pickle that wants to run {code}; it was not run; {advice}") from None
        raise CheckpointMismatch(
            f"{snapshot}: expected a PyTorch state dict, found a damaged file ({type(error).__name__}); get it again"
        ) from None


def as_tensors(state: Any, snapshot: Path) -> dict[str, Tensor]:
    """`state` if it is a state dict. CheckpointMismatch otherwise."""
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointMismatch(f"{snapshot}: expected a state dict of tensors, found {type(state).__name__} of other things; {ADVICE}")
    return state


def fitting(
    state: dict[str, Tensor], expected: dict[str, Tensor], snapshot: Path, settings: Path, version: VPoserVersion
) -> dict[str, Tensor]:
    """`state` in float32, if it has the keys and shapes of `expected` (of a network built by `settings`) and is finite.

    CheckpointMismatch names the first thing that differs.
    """
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointMismatch(
            f"{snapshot}: expected the tensors of VPoser {version}, found {missing[:3]} missing and {unknown[:3]} unknown; {ADVICE}"
        )
    for key, value in expected.items():
        found = state[key]
        if found.shape != value.shape:
            raise CheckpointMismatch(
                f"{snapshot}: expected {key} {tuple(value.shape)} by {settings.name}, found {tuple(found.shape)}; {ADVICE}"
            )
        plain = found.layout is torch.strided and found.device.type == "cpu" and not found.is_quantized
        if not plain or found.is_floating_point() != value.is_floating_point():
            raise CheckpointMismatch(
                f"{snapshot}: expected plain numbers in {key}, found {found.dtype}, {found.layout}, on {found.device}; {ADVICE}"
            )
        if found.is_floating_point() and not found.isfinite().all():
            raise CheckpointMismatch(f"{snapshot}: expected finite weights, found NaN in {key}; get it again")
    return {key: value.detach().float() if value.is_floating_point() else value.detach() for key, value in state.items()}


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
            f"{ini}: expected VPoser v1 settings num_neurons, latentD and data_shape, found {type(error).__name__}: {error}; {ADVICE}"
        ) from None
    sizes = check_sizes(settings, ini)
    if settings["data_shape"] not in (DATA_SHAPE, tuple(DATA_SHAPE)):
        raise CheckpointMismatch(f"{ini}: expected data_shape {DATA_SHAPE}, found {settings['data_shape']}; {ADVICE}")
    if found.get("use_cont_repr", "True") != "True":
        raise CheckpointMismatch(f"{ini}: expected use_cont_repr True (6D rotations), found {found['use_cont_repr']}; {ADVICE}")
    return sizes
