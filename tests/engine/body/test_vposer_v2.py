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
from tests.engine.body.vposer_v2_layout import NAME, N, Z, decode_v2, encode_v2, lightning, save_v2, v2_settings, v2_weights, write_v2


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A VPoser v2 directory as released: settings, a log, and two snapshots, an older epoch last written."""
    directory = tmp_path / "V02_05"
    write_v2(directory)
    save_v2(directory, lightning(v2_weights(seed=8)), "V02_05_epoch=08_val_loss=0.03.ckpt")
    return directory


def _decodes_as(directory: Path, weights: dict[str, torch.Tensor]) -> bool:
    z_BZ = np.random.default_rng(3).normal(size=(5, Z))
    found = read_vposer_v2(directory).decode(torch.from_numpy(z_BZ).float()).detach().numpy()
    return bool(np.abs(found - decode_v2(weights, z_BZ)).max() < 1e-4)


@pytest.mark.parametrize("zipped", [True, False])
def test_it_computes_what_the_published_layers_compute(directory, zipped):
    save_v2(directory, lightning(v2_weights()), zipped=zipped)
    vposer = read_vposer_v2(directory)
    assert find_version(directory) == "v2" and vposer.latentD == Z and not any(module.training for module in vposer.modules())
    assert {value.dtype for value in vposer.parameters()} == {torch.float32}
    rng = np.random.default_rng(1)
    z_BZ, pose_B63 = rng.normal(size=(7, Z)) * 2, rng.normal(size=(7, 63))
    np.testing.assert_allclose(vposer.decode(torch.from_numpy(z_BZ).float()).detach().numpy(), decode_v2(v2_weights(), z_BZ), atol=2e-5)
    posterior = vposer.encode(torch.from_numpy(pose_B63).float())
    mean, std = encode_v2(v2_weights(), pose_B63)
    np.testing.assert_allclose(posterior.mean.detach().numpy(), mean, atol=2e-5)
    np.testing.assert_allclose(posterior.stddev.detach().numpy(), std, atol=2e-5)


def test_the_released_size_is_read(tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "V02_05.yaml").write_text(v2_settings(num_neurons=512))
    state = {key: value.new_ones([512 if size == N else size for size in value.shape]) for key, value in v2_weights().items()}
    save_v2(tmp_path, lightning(state))
    vposer = read_vposer_v2(tmp_path)
    assert sum(parameter.numel() for parameter in vposer.parameters()) == 936_252  # the released log says 0.94 M


def test_the_highest_epoch_is_taken_whenever_it_was_copied(directory):
    os.utime(directory / "snapshots" / NAME, (1, 1))
    assert _decodes_as(directory, v2_weights())
    save_v2(directory, lightning(v2_weights(seed=100)), "V02_05_epoch=100_val_loss=0.02.ckpt")  # 100 comes before 13 by name
    assert _decodes_as(directory, v2_weights(seed=100))


def test_the_settings_of_the_snapshot_are_taken_among_others(directory):
    (directory / "A.yaml").write_text("other: 1")
    (directory / "V02_05_V02_03.yaml").write_text(v2_settings(num_neurons=3))
    assert _decodes_as(directory, v2_weights())


def test_weights_without_lightning_around_them_are_read(directory):
    save_v2(directory, v2_weights(seed=5))
    assert _decodes_as(directory, v2_weights(seed=5))
    doubles = {key: value.double() if value.is_floating_point() else value for key, value in v2_weights(seed=6).items()}
    save_v2(directory, {"state_dict": {f"vp_model.{key}": value for key, value in doubles.items()}})
    assert _decodes_as(directory, v2_weights(seed=6))


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
    save_v2(directory, lightning(v2_weights(), **beside), zipped=zipped)
    before = set(torch.serialization.get_safe_globals())
    assert _decodes_as(directory, v2_weights())
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
    save_v2(directory, lightning(v2_weights(), callbacks={"x": hostile}), zipped=zipped)
    with pytest.raises(UnsafeInput, match=rf"{NAME}.*wants to run code, {name}; it was not run.*keep its weights alone"):
        read_vposer_v2(directory)
    assert not (directory / "ran").exists() and "antigravity" not in sys.modules


def test_the_advice_makes_a_refused_checkpoint_readable(directory, monkeypatch):
    config = _class_in(monkeypatch, "omegaconf.dictconfig", "DictConfig")
    save_v2(directory, lightning(v2_weights(seed=2), hyper_parameters=config()))
    with pytest.raises(UnsafeInput, match=r"omegaconf\.dictconfig\.DictConfig") as refusal:
        read_vposer_v2(directory)
    code = str(refusal.value).split('python -c "')[1].removesuffix('"')
    monkeypatch.chdir(directory / "snapshots")
    exec(code)  # what the message tells the user to run
    assert _decodes_as(directory, v2_weights(seed=2))


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
        (v2_settings(num_neurons=512), r"expected encoder_net\.\S+ \(.*512.*\) by V02_05\.yaml, found"),
        (v2_settings(latentD=16), r"expected encoder_net\.8\.mu\.weight \(16, 24\) by V02_05\.yaml, found \(32, 24\)"),
        (v2_settings(num_neurons=2**40), "expected sizes num_neurons"),
        (v2_settings(latentD="32"), "expected sizes num_neurons"),
        (v2_settings(latentD=True), "expected sizes num_neurons"),
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
    weights = v2_weights()
    without = {key: value for key, value in weights.items() if key != "decoder_net.5.bias"}
    wrong = {
        "'decoder_net.5.bias'.* missing and .*'bodyprior_dec_out.bias'.* unknown": without | {"bodyprior_dec_out.bias": torch.ones(126)},
        r"expected decoder_net\.5\.bias \(126,\) by V02_05\.yaml, found \(63,\)": weights | {"decoder_net.5.bias": torch.ones(63)},
        r"found NaN in decoder_net\.5\.bias": weights | {"decoder_net.5.bias": torch.full((126,), torch.nan)},
        r"expected plain numbers in decoder_net\.5\.bias": weights | {"decoder_net.5.bias": torch.ones(126, device="meta")},
    }
    for message, state in wrong.items():
        save_v2(directory, lightning(state))
        with pytest.raises(CheckpointMismatch, match=message):
            read_vposer_v2(directory)
    for other in ([1, 2], {"state_dict": None}, {"epoch": 3}):
        save_v2(directory, other)
        with pytest.raises(CheckpointMismatch, match="state dict of tensors"):
            read_vposer_v2(directory)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint(directory, zipped):
    save_v2(directory, lightning(v2_weights()), zipped=zipped)
    target = directory / "snapshots" / NAME
    whole = target.read_bytes()
    for keep in range(0, len(whole) - 1, len(whole) // 40):
        target.write_bytes(whole[:keep])
        with pytest.raises(CheckpointMismatch, match=r"damaged file|missing and"):
            read_vposer_v2(directory)
