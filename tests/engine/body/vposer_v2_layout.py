"""VPoser v2 directories in the published layout, with random weights of a small network, and what they compute, in numpy."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import yaml

N, Z = 24, 32
NAME = "V02_05_epoch=13_val_loss=0.03.ckpt"
SHAPES = {
    **{f"encoder_net.1.{key}": (63,) for key in ("weight", "bias", "running_mean", "running_var")},
    **{f"encoder_net.4.{key}": (N,) for key in ("weight", "bias", "running_mean", "running_var")},
    "encoder_net.2.weight": (N, 63), "encoder_net.2.bias": (N,),
    "encoder_net.6.weight": (N, N), "encoder_net.6.bias": (N,),
    "encoder_net.7.weight": (N, N), "encoder_net.7.bias": (N,),
    "encoder_net.8.mu.weight": (Z, N), "encoder_net.8.mu.bias": (Z,),
    "encoder_net.8.logvar.weight": (Z, N), "encoder_net.8.logvar.bias": (Z,),
    "decoder_net.0.weight": (N, Z), "decoder_net.0.bias": (N,),
    "decoder_net.3.weight": (N, N), "decoder_net.3.bias": (N,),
    "decoder_net.5.weight": (126, N), "decoder_net.5.bias": (126,),
}  # fmt: skip
MODEL = {"latentD": Z, "num_neurons": N}


def v2_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    state = {key: torch.from_numpy(rng.normal(0, 0.3, shape).astype(np.float32)) for key, shape in SHAPES.items()}
    state |= {key: value.abs() + 0.1 for key, value in state.items() if key.endswith("running_var")}
    return state | {f"encoder_net.{i}.num_batches_tracked": torch.tensor(7) for i in (1, 4)}


def lightning(weights: dict[str, torch.Tensor], **beside: object) -> dict[str, object]:
    """A checkpoint as Lightning 0.9 writes it, the weights among those of the body the trainer also holds."""
    state = OrderedDict((f"vp_model.{key}", value) for key, value in weights.items())
    state["bm_train.v_template"] = torch.zeros(10, 3)
    return {
        "epoch": 14, "global_step": 1000, "pytorch-lightning_version": "0.9.0",
        "checkpoint_callback_best_model_score": torch.tensor(0.03), "checkpoint_callback_best_model_path": f"/x/snapshots/{NAME}",
        "early_stop_callback_state_dict": {"wait": 0, "stopped_epoch": 0, "best_score": torch.tensor(0.03), "patience": 10},
        "optimizer_states": [{"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
        "lr_schedulers": [{"factor": 0.1, "best": 0.03, "mode_worse": float("inf"), "_last_lr": [1e-3]}],
        "state_dict": state, **beside,
    }  # fmt: skip


def v2_settings(**model: object) -> str:
    return yaml.dump({"general": {"expr_id": "V02_05"}, "model_params": MODEL | model, "data_parms": {"num_timeseq_frames": {}}})


def save_v2(directory: Path, loaded: object, name: str = NAME, zipped: bool = True) -> None:
    torch.save(loaded, directory / "snapshots" / name, _use_new_zipfile_serialization=zipped)


def _linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.einsum("bi,oi->bo", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def _norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    scaled = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _numpy64(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy().astype(np.float64) for key, value in weights.items()}


def decode_v2(weights: dict[str, torch.Tensor], z_BZ: np.ndarray) -> np.ndarray:
    """The decoder in float64, one joint at a time: the even numbers of its six are the first column's, the odd ones the second's."""
    w = _numpy64(weights)
    out = _linear(_leaky(_linear(_leaky(_linear(z_BZ, w, "decoder_net.0")), w, "decoder_net.3")), w, "decoder_net.5")
    rotmats = np.zeros((len(z_BZ), 21, 3, 3))
    for b, j in np.ndindex(len(z_BZ), 21):
        six = out[b, 6 * j : 6 * j + 6]
        x = six[[0, 2, 4]] / np.linalg.norm(six[[0, 2, 4]])
        y = six[[1, 3, 5]] - x * (x @ six[[1, 3, 5]])
        y /= np.linalg.norm(y)
        rotmats[b, j] = np.column_stack((x, y, np.cross(x, y)))
    return rotmats


def encode_v2(weights: dict[str, torch.Tensor], pose_B63: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = _numpy64(weights)
    hidden = _norm(_leaky(_linear(_norm(pose_B63, w, "encoder_net.1"), w, "encoder_net.2")), w, "encoder_net.4")
    hidden = _linear(_linear(hidden, w, "encoder_net.6"), w, "encoder_net.7")
    return _linear(hidden, w, "encoder_net.8.mu"), np.log1p(np.exp(_linear(hidden, w, "encoder_net.8.logvar")))


def write_v2(directory: Path, seed: int = 0) -> None:
    """Settings, a log, and one snapshot."""
    (directory / "snapshots").mkdir(parents=True)
    (directory / "V02_05.yaml").write_text(v2_settings())
    (directory / "V02_05.log").write_text("[V02_05] -- Epoch 0: val_loss:0.51\n")
    save_v2(directory, lightning(v2_weights(seed)))
