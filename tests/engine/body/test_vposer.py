"""Which VPoser a directory holds, and reading v1's as human_body_prior's own loader does; one clear error for each thing that is wrong."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from human_body_prior.tools.model_loader import load_vposer
from human_body_prior.train.vposer_smpl import VPoser

from engine.body.vposer import DATA_SHAPE, find_version, read_vposer_v1, vposer_files
from engine.errors import CheckpointMismatch, LicensedFileMissing, UnsafeInput

INI = "[All]\nnum_neurons : 24\nlatentD : 32\ndata_shape : [1, 21, 3]\nuse_cont_repr : True\nkl_coef : 0.005\nexpr_message : 100%% of it\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A VPoser v1 directory as released, code that must not run among it."""
    (tmp_path / "snapshots").mkdir()
    torch.manual_seed(0)
    torch.save(VPoser(24, 32, DATA_SHAPE).state_dict(), tmp_path / "snapshots" / "TR00_E096.pt")
    (tmp_path / "TR00_004_00_WO_accad.ini").write_text(INI)
    (tmp_path / "vposer_smpl.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    return tmp_path


def _state(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "snapshots" / "TR00_E096.pt", weights_only=True)


def _replace(directory: Path, state: object) -> None:
    torch.save(state, directory / "snapshots" / "TR00_E096.pt")


def _same(a: VPoser, b: VPoser) -> bool:
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_it_reads_what_human_body_priors_loader_reads_and_runs_nothing(directory):
    ours = read_vposer_v1(directory)
    theirs, _ = load_vposer(str(directory), vp_model=VPoser)
    assert _same(ours, theirs) and not ours.training
    assert not (directory / "ran").exists()


def test_data_parallel_and_legacy_snapshots_are_read(directory):
    state = _state(directory)
    plain = read_vposer_v1(directory)
    renamed = {f"module.{key}": value for key, value in state.items()}
    torch.save(renamed, directory / "snapshots" / "TR00_E096.pt", _use_new_zipfile_serialization=False)
    assert _same(plain, read_vposer_v1(directory))


def test_the_newest_snapshot_is_the_one_of_the_last_epoch_not_of_the_last_copy(directory):
    newest = {key: value + 1 for key, value in _state(directory).items()}
    torch.save(newest, directory / "snapshots" / "TR00_E100.pt")
    os.utime(directory / "snapshots" / "TR00_E100.pt", (1, 1))
    assert torch.equal(read_vposer_v1(directory).state_dict()["bodyprior_dec_out.bias"], newest["bodyprior_dec_out.bias"])


def test_written_files_are_read_by_human_body_priors_loader(tmp_path):
    torch.manual_seed(1)
    vposer = VPoser(24, 32, DATA_SHAPE).eval()
    for key, data in vposer_files(vposer, {"kl_coef": 0.1, "expr_code": "x"}, epoch=7, name="mine").items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(data)
    theirs, settings = load_vposer(str(tmp_path), vp_model=VPoser)
    assert (settings.num_neurons, settings.latentD, settings.data_shape, settings.kl_coef) == (24, 32, [1, 21, 3], 0.1)
    assert _same(read_vposer_v1(tmp_path), theirs)
    z_B32 = torch.randn(5, 32)
    assert (theirs.decode(z_B32) - vposer.decode(z_B32)).abs().max() < 5e-3  # stored in half precision


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_snapshot_with_code_in_it_is_refused_and_not_run(directory, legacy, monkeypatch):
    monkeypatch.chdir(directory)
    state = _state(directory) | {"bodyprior_dec_out.bias": _Hostile()}
    torch.save(state, directory / "snapshots" / "TR00_E096.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeInput, match=r"TR00_E096\.pt.*wants to run code"):
        read_vposer_v1(directory)
    assert not (directory / "ran").exists()


def test_a_missing_directory(tmp_path):
    with pytest.raises(LicensedFileMissing, match=r"no such directory.*snapshots/TR00_E096.pt.*V02_05.yaml.*kind=open"):
        read_vposer_v1(tmp_path / "vposer_v1_0")


def test_a_missing_snapshot(directory):
    (directory / "snapshots" / "TR00_E096.pt").unlink()
    with pytest.raises(LicensedFileMissing, match=r"no snapshot in it.*snapshots/TR00_E096.pt"):
        read_vposer_v1(directory)


def test_missing_settings(directory):
    (directory / "TR00_004_00_WO_accad.ini").unlink()
    with pytest.raises(LicensedFileMissing, match=r"no settings \*\.ini"):
        read_vposer_v1(directory)


def _add_v2(directory: Path) -> None:
    (directory / "snapshots").mkdir(exist_ok=True)
    (directory / "V02_05.yaml").write_text("{}")
    (directory / "snapshots" / "V02_05_epoch=13_val_loss=0.03.ckpt").write_bytes(b"x")


def test_the_layout_tells_the_version(directory, tmp_path_factory):
    other = tmp_path_factory.mktemp("V02_05")
    _add_v2(other)
    assert [find_version(directory), find_version(directory, "v1")] == ["v1", "v1"]
    assert [find_version(other), find_version(other, "v2")] == ["v2", "v2"]
    (directory / "notes.yaml").write_text("mine")
    assert find_version(directory) == "v1"  # settings of the other kind say nothing without its snapshot


@pytest.mark.parametrize(("held", "asked"), [("v1", "v2"), ("v2", "v1")])
def test_the_other_version_than_asked_for(directory, tmp_path_factory, held, asked):
    other = tmp_path_factory.mktemp("V02_05")
    _add_v2(other)
    message = rf"expected VPoser {asked}.*a VPoser directory of the other version, {held}.*set prior\.vposer_version={held}"
    with pytest.raises(CheckpointMismatch, match=message):
        find_version({"v1": directory, "v2": other}[held], asked)


def test_v1s_reader_names_a_v2_directory(tmp_path):
    _add_v2(tmp_path)
    with pytest.raises(CheckpointMismatch, match="other version, v2"):
        read_vposer_v1(tmp_path)


def test_a_directory_with_both(directory):
    plain = read_vposer_v1(directory)
    _add_v2(directory)
    with pytest.raises(CheckpointMismatch, match=r"found both \(TR00_E096\.pt and V02_05_epoch=13_val_loss=0\.03\.ckpt\); say which"):
        find_version(directory)
    assert (find_version(directory, "v1"), find_version(directory, "v2")) == ("v1", "v2")
    assert _same(read_vposer_v1(directory), plain)


def test_a_directory_too_high(directory, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    shutil.copytree(directory, outer / "vposer_v1_0")
    with pytest.raises(LicensedFileMissing, match=f"no snapshot in it.*is it {outer / 'vposer_v1_0'} that you mean"):
        find_version(outer)


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        (INI.replace("num_neurons : 24", "num_neurons : 512"), r"expected bodyprior_enc_fc1.weight \(512, 63\).*found \(24, 63\)"),
        (INI.replace("num_neurons : 24", "num_neurons : 999999999"), "expected sizes num_neurons"),
        (INI.replace("[1, 21, 3]", "[1, 23, 3]"), r"data_shape \[1, 21, 3\], found"),
        (INI.replace("use_cont_repr : True", "use_cont_repr : False"), "use_cont_repr"),
        (INI.replace("latentD : 32\n", ""), "latentd"),
        (INI.replace("24", "__import__('os').getcwd()"), "ValueError"),
        ("no sections here", "MissingSectionHeader"),
    ],
)
def test_settings_that_do_not_fit(directory, ini, message):
    (directory / "TR00_004_00_WO_accad.ini").write_text(ini)
    with pytest.raises(CheckpointMismatch, match=message):
        read_vposer_v1(directory)


def test_weights_that_do_not_fit(directory):
    state = _state(directory)
    without = {key: value for key, value in state.items() if key != "bodyprior_dec_out.bias"}
    _replace(directory, without | {"decoder_net.0.weight": torch.ones(2)})
    with pytest.raises(CheckpointMismatch, match=r"'bodyprior_dec_out.bias'.* missing and .*'decoder_net.0.weight'.* unknown"):
        read_vposer_v1(directory)
    _replace(directory, state | {"bodyprior_dec_out.bias": torch.full((126,), torch.nan)})
    with pytest.raises(CheckpointMismatch, match=r"found NaN in bodyprior_dec_out.bias"):
        read_vposer_v1(directory)
    for odd in (torch.ones(126).to_sparse(), torch.ones(126, dtype=torch.complex64), torch.ones(126, dtype=torch.int32)):
        _replace(directory, state | {"bodyprior_dec_out.bias": odd})
        with pytest.raises(CheckpointMismatch, match=r"expected plain numbers in bodyprior_dec_out.bias"):
            read_vposer_v1(directory)
    _replace(directory, [1, 2])
    with pytest.raises(CheckpointMismatch, match="state dict of tensors"):
        read_vposer_v1(directory)


@pytest.mark.parametrize("keep", [0, 1, 1000])
def test_a_truncated_snapshot(directory, keep):
    snapshot = directory / "snapshots" / "TR00_E096.pt"
    snapshot.write_bytes(snapshot.read_bytes()[:keep])
    with pytest.raises(CheckpointMismatch, match="damaged"):
        read_vposer_v1(directory)
