"""Reading VPoser v2 directories: a numpy implementation's values from weights in the published layout, and one clear error each."""

import os
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from engine.body.vposer import find_version
from engine.body.vposer_v2 import Discarded, read_vposer_v2
from engine.errors import CheckpointMismatch, LicensedFileMissing, UnsafeInput

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


def _weights(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    state = {key: torch.from_numpy(rng.normal(0, 0.3, shape).astype(np.float32)) for key, shape in SHAPES.items()}
    state |= {key: value.abs() + 0.1 for key, value in state.items() if key.endswith("running_var")}
    return state | {f"encoder_net.{i}.num_batches_tracked": torch.tensor(7) for i in (1, 4)}


def _lightning(weights: dict[str, torch.Tensor], **beside: object) -> dict[str, object]:
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


def _settings(**model: object) -> str:
    return yaml.dump({"general": {"expr_id": "V02_05"}, "model_params": MODEL | model, "data_parms": {"num_timeseq_frames": {}}})


def _save(directory: Path, loaded: object, name: str = NAME, zipped: bool = True) -> None:
    torch.save(loaded, directory / "snapshots" / name, _use_new_zipfile_serialization=zipped)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A VPoser v2 directory as released: settings, a log, and two snapshots, an older epoch last written."""
    directory = tmp_path / "V02_05"
    (directory / "snapshots").mkdir(parents=True)
    (directory / "V02_05.yaml").write_text(_settings())
    (directory / "V02_05.log").write_text("[V02_05] -- Epoch 0: val_loss:0.51\n")
    _save(directory, _lightning(_weights()))
    _save(directory, _lightning(_weights(seed=8)), "V02_05_epoch=08_val_loss=0.03.ckpt")
    return directory


def _linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.einsum("bi,oi->bo", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def _norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    scaled = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _numpy64(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy().astype(np.float64) for key, value in weights.items()}


def _decode(weights: dict[str, torch.Tensor], z_BZ: np.ndarray) -> np.ndarray:
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


def _encode(weights: dict[str, torch.Tensor], pose_B63: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = _numpy64(weights)
    hidden = _norm(_leaky(_linear(_norm(pose_B63, w, "encoder_net.1"), w, "encoder_net.2")), w, "encoder_net.4")
    hidden = _linear(_linear(hidden, w, "encoder_net.6"), w, "encoder_net.7")
    return _linear(hidden, w, "encoder_net.8.mu"), np.log1p(np.exp(_linear(hidden, w, "encoder_net.8.logvar")))


def _decodes_as(directory: Path, weights: dict[str, torch.Tensor]) -> bool:
    z_BZ = np.random.default_rng(3).normal(size=(5, Z))
    found = read_vposer_v2(directory).decode(torch.from_numpy(z_BZ).float()).detach().numpy()
    return bool(np.abs(found - _decode(weights, z_BZ)).max() < 1e-4)


@pytest.mark.parametrize("zipped", [True, False])
def test_it_computes_what_the_published_layers_compute(directory, zipped):
    _save(directory, _lightning(_weights()), zipped=zipped)
    vposer = read_vposer_v2(directory)
    assert find_version(directory) == "v2" and vposer.latentD == Z and not any(module.training for module in vposer.modules())
    assert {value.dtype for value in vposer.parameters()} == {torch.float32}
    rng = np.random.default_rng(1)
    z_BZ, pose_B63 = rng.normal(size=(7, Z)) * 2, rng.normal(size=(7, 63))
    np.testing.assert_allclose(vposer.decode(torch.from_numpy(z_BZ).float()).detach().numpy(), _decode(_weights(), z_BZ), atol=2e-5)
    posterior = vposer.encode(torch.from_numpy(pose_B63).float())
    mean, std = _encode(_weights(), pose_B63)
    np.testing.assert_allclose(posterior.mean.detach().numpy(), mean, atol=2e-5)
    np.testing.assert_allclose(posterior.stddev.detach().numpy(), std, atol=2e-5)


def test_the_released_size_is_read(tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "V02_05.yaml").write_text(_settings(num_neurons=512))
    state = {key: value.new_ones([512 if size == N else size for size in value.shape]) for key, value in _weights().items()}
    _save(tmp_path, _lightning(state))
    vposer = read_vposer_v2(tmp_path)
    assert sum(parameter.numel() for parameter in vposer.parameters()) == 936_252  # the released log says 0.94 M


def test_the_highest_epoch_is_taken_whenever_it_was_copied(directory):
    os.utime(directory / "snapshots" / NAME, (1, 1))
    assert _decodes_as(directory, _weights())
    _save(directory, _lightning(_weights(seed=100)), "V02_05_epoch=100_val_loss=0.02.ckpt")  # 100 comes before 13 by name
    assert _decodes_as(directory, _weights(seed=100))


def test_the_settings_of_the_snapshot_are_taken_among_others(directory):
    (directory / "A.yaml").write_text("other: 1")
    (directory / "V02_05_V02_03.yaml").write_text(_settings(num_neurons=3))
    assert _decodes_as(directory, _weights())


def test_weights_without_lightning_around_them_are_read(directory):
    _save(directory, _weights(seed=5))
    assert _decodes_as(directory, _weights(seed=5))
    _save(directory, {"state_dict": {f"vp_model.{key}": value.double() if value.dim() else value for key, value in _weights(seed=6).items()}})
    assert _decodes_as(directory, _weights(seed=6))


def _class_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str, bases: tuple[type, ...] = ()) -> type:
    """A class that pickles under a name of a package that is not installed here."""
    parts = module.split(".")
    for depth in range(len(parts)):
        package = ".".join(parts[: depth + 1])
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
    cls = type(name, bases, {"__module__": module})
    setattr(sys.modules[module], name, cls)
    return cls


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lightning_saves_beside_tensors_is_passed_over(directory, monkeypatch, zipped):
    checkpoint = _class_in(monkeypatch, "pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    stopping = _class_in(monkeypatch, "pytorch_lightning.callbacks.early_stopping", "EarlyStopping")
    attributes = _class_in(monkeypatch, "pytorch_lightning.utilities.parsing", "AttributeDict", (dict,))
    dots = _class_in(monkeypatch, "dotmap", "DotMap", (OrderedDict,))(a=1)
    dots._map = OrderedDict(a=1)
    beside = {
        "callbacks": {checkpoint: {"best_model_score": np.float64(0.03)}, stopping: stopping()},
        "hyper_parameters": attributes(lr=1e-3, model=dots),
    }
    _save(directory, _lightning(_weights(), **beside), zipped=zipped)
    before = set(torch.serialization.get_safe_globals())
    assert _decodes_as(directory, _weights())
    assert set(torch.serialization.get_safe_globals()) == before  # allowed for this one file, not for the process


def test_a_stand_in_keeps_nothing():
    thing = Discarded(1, b=2)
    thing.__setstate__({"c": 3})
    assert vars(thing) == {}


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


class _Importing:
    def __reduce__(self):
        return __import__, ("antigravity",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("hostile", "name"), [(_Hostile(), "posix.system"), (_Importing(), "__import__")])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(directory, zipped, hostile, name, monkeypatch):
    monkeypatch.chdir(directory)
    _save(directory, _lightning(_weights(), callbacks={"x": hostile}), zipped=zipped)
    with pytest.raises(UnsafeInput, match=rf"{NAME}.*wants to run code, {name}; it was not run.*keep its weights alone"):
        read_vposer_v2(directory)
    assert not (directory / "ran").exists() and "antigravity" not in sys.modules


def test_the_advice_makes_a_refused_checkpoint_readable(directory, monkeypatch):
    config = _class_in(monkeypatch, "omegaconf.dictconfig", "DictConfig")
    _save(directory, _lightning(_weights(seed=2), hyper_parameters=config()))
    with pytest.raises(UnsafeInput, match=r"omegaconf\.dictconfig\.DictConfig") as refusal:
        read_vposer_v2(directory)
    code = str(refusal.value).split('python -c "')[1].removesuffix('"')
    monkeypatch.chdir(directory / "snapshots")
    exec(code)  # what the message tells the user to run
    assert _decodes_as(directory, _weights(seed=2))


def test_a_missing_snapshot(directory):
    for snapshot in (directory / "snapshots").iterdir():
        snapshot.unlink()
    with pytest.raises(LicensedFileMissing, match=r"no snapshot in it.*V02_05_epoch=13_val_loss=0\.03\.ckpt"):
        read_vposer_v2(directory)


def test_missing_settings(directory):
    (directory / "V02_05.yaml").unlink()
    with pytest.raises(LicensedFileMissing, match=r"no settings \*\.yaml in it.*V02_05\.yaml"):
        read_vposer_v2(directory)


def test_a_v1_directory(tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "TR00_E096.pt").write_bytes(b"x")
    with pytest.raises(CheckpointMismatch, match=r"expected VPoser v2.*of the other version, v1"):
        read_vposer_v2(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (_settings(num_neurons=512), r"expected encoder_net\.\S+ \(.*512.*\) by V02_05\.yaml, found"),
        (_settings(latentD=16), r"expected encoder_net\.8\.mu\.weight \(16, 24\) by V02_05\.yaml, found \(32, 24\)"),
        (_settings(num_neurons=2**40), "expected sizes num_neurons"),
        (_settings(latentD="32"), "expected sizes num_neurons"),
        (_settings(latentD=True), "expected sizes num_neurons"),
        (yaml.dump({"model_params": {"latentD": 32}}), "KeyError: 'num_neurons'"),
        ("model_params: 3", "found TypeError"),
        ("", "found TypeError"),
        ("- [", "found ParserError"),
        ("[" * 1500, "found RecursionError"),
        ("model_params: !!python/object/apply:os.getcwd []", "found ConstructorError"),
    ],
)
def test_settings_that_do_not_fit(directory, settings, message):
    (directory / "V02_05.yaml").write_text(settings)
    with pytest.raises(CheckpointMismatch, match=message):
        read_vposer_v2(directory)


def test_weights_that_do_not_fit(directory):
    weights = _weights()
    without = {key: value for key, value in weights.items() if key != "decoder_net.5.bias"}
    wrong = {
        "'decoder_net.5.bias'.* missing and .*'bodyprior_dec_out.bias'.* unknown": without | {"bodyprior_dec_out.bias": torch.ones(126)},
        r"expected decoder_net\.5\.bias \(126,\) by V02_05\.yaml, found \(63,\)": weights | {"decoder_net.5.bias": torch.ones(63)},
        r"found NaN in decoder_net\.5\.bias": weights | {"decoder_net.5.bias": torch.full((126,), torch.nan)},
        r"expected plain numbers in decoder_net\.5\.bias": weights | {"decoder_net.5.bias": torch.ones(126, device="meta")},
    }
    for message, state in wrong.items():
        _save(directory, _lightning(state))
        with pytest.raises(CheckpointMismatch, match=message):
            read_vposer_v2(directory)
    for other in ([1, 2], {"state_dict": None}, {"epoch": 3}):
        _save(directory, other)
        with pytest.raises(CheckpointMismatch, match="state dict of tensors"):
            read_vposer_v2(directory)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint(directory, zipped):
    _save(directory, _lightning(_weights()), zipped=zipped)
    target = directory / "snapshots" / NAME
    whole = target.read_bytes()
    for keep in range(0, len(whole) - 1, len(whole) // 40):
        target.write_bytes(whole[:keep])
        with pytest.raises(CheckpointMismatch, match=r"damaged file|missing and"):
            read_vposer_v2(directory)
