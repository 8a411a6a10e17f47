from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointMismatch, CommitConflict, EngineError, MissingInput, StorageError, UnsafeInput
from engine.storage import Store
from engine.training.checkpoint import LATEST, commit, latest, load_network, open_checkpoint
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.loop import build_network
from engine.training.optim import WeightAverage
from engine.training.state import TrainState, resume, save
from schemas.checkpoints import CheckpointManifest, CheckpointPointer
from schemas.records import sha256_hex
from tests.engine.body.vposer_v2_layout import write_v2

Make = Callable[..., TrainAnnotatorConfig]
SETS = {"studio": "a" * 64}


def _state(config: TrainAnnotatorConfig, step: int = 4) -> TrainState:
    model = build_network(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    state = TrainState(model, optimizer, WeightAverage(model, 0.5), step, [{"step": step, "loss": 1.0}])
    model({"image": torch.randint(0, 256, (2, 3, 128, 96), dtype=torch.uint8)}).betas_B10.sum().backward()
    optimizer.step()
    state.average.update(model, 100)
    return state


def _saved(config: TrainAnnotatorConfig, step: int = 4, total: int = 8) -> TrainState:
    state = _state(config, step)
    save(config, state, Store(config.out), 0, total, SETS)
    return state


def _rewrite(config: TrainAnnotatorConfig, name: str, data: bytes) -> None:
    """Put other bytes in a checkpoint as somebody would who can write the manifest too."""
    run = Path(config.out)
    pointer = CheckpointPointer.from_bytes((run / LATEST).read_bytes())
    folder = run / pointer.path
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"sha256": sha256_hex(data), "size_bytes": len(data)}
    raw = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(raw)
    (run / LATEST).write_bytes(pointer.model_copy(update={"manifest_sha256": sha256_hex(raw)}).to_bytes())


@pytest.mark.parametrize("head", ["vposer", "6d"])
def test_round_trip_gives_the_same_predictions(make_config: Make, head: str) -> None:
    base = make_config()
    config = base.model_copy(update={"model": base.model.model_copy(update={"head": head, "pixel_mean": (0.4, 0.4, 0.4)})})
    state = _saved(config)
    loaded = load_network(config.out)
    batch = {"image": torch.randint(0, 256, (2, 3, 128, 96), dtype=torch.uint8)}
    averaged = build_network(config).eval()
    averaged.load_state_dict(state.average.state)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(batch).joints_B333, averaged(batch).joints_B333)
    assert not loaded.model.training
    assert (loaded.prior is None) == (head == "6d")
    assert loaded.manifest.step == 4 and loaded.manifest.samples_consumed == 16 and loaded.manifest.training_sets == SETS
    assert loaded.manifest.body.digest == loaded.body.digest
    assert loaded.digest == sha256_hex((Path(config.out) / "checkpoints/00000004/model.pt").read_bytes())
    assert load_network(f"{config.out}/checkpoints/00000004").digest == loaded.digest
    assert read_history(config.out) == [{"step": 4, "loss": 1.0}]


def test_resume_brings_everything_back(make_config: Make) -> None:
    config = make_config()
    state, other = _saved(config), _state(config, 0)
    with torch.no_grad():
        for p in other.model.parameters():
            p.add_(1)
    resume(other, Store(config.out), SETS)
    assert other.step == 4 and other.history == state.history
    for a, b in ((state.model.state_dict(), other.model.state_dict()), (state.average.state, other.average.state)):
        assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = state.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i])


def test_resume_refuses_other_training_sets(make_config: Make) -> None:
    config = make_config()
    state = _saved(config)
    with pytest.raises(CheckpointMismatch, match="training sets studio"):
        resume(state, Store(config.out), {"studio": "b" * 64})


def test_a_damaged_file_is_named(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    path = Path(config.out) / "checkpoints/00000004/model.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"model\.pt: expected sha256"):
        load_network(config.out)


def test_a_damaged_manifest_is_noticed(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    path = Path(config.out) / "checkpoints/00000004/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"step":4', b'"step":5'))
    with pytest.raises(StorageError, match=r"manifest\.json"):
        load_network(config.out)
    path.write_bytes(b"{}")
    with pytest.raises(StorageError, match="not a checkpoint's manifest"):
        load_network(str(path.parent))


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("head", ["6d"])
def test_code_in_a_checkpoint_is_not_run(make_config: Make, tmp_path: Path, head: str) -> None:
    config = make_config()
    _saved(config)
    buffer = io.BytesIO()
    torch.save({"x": Hostile(tmp_path / "ran")}, buffer)
    _rewrite(config, "model.pt", buffer.getvalue())
    with pytest.raises(UnsafeInput, match="tensors alone"):
        load_network(config.out)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(1)}, buffer)
    _rewrite(config, "model.pt", buffer.getvalue())
    with pytest.raises(CheckpointMismatch, match=r"another network than this Pose2Pose: of its \d+ weights \d+ are missing .*; 1 are"):
        load_network(config.out)


def test_another_body_or_prior_is_refused(make_config: Make) -> None:
    config = make_config()
    for part in ("body", "prior"):
        _saved(config)
        folder = Path(config.out) / "checkpoints/00000004"
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest[part]["digest"] = "f" * 64
        (folder / "manifest.json").write_bytes(json.dumps(manifest).encode())
        with pytest.raises(CheckpointMismatch, match=f"trained with {part}"):
            load_network(str(folder))
        config = config.model_copy(update={"out": config.out + "x"})


def test_a_vposer_directory_of_the_other_version_is_refused(make_config: Make, tmp_path: Path) -> None:
    directory = tmp_path / "vposer"
    shutil.copytree(make_config().prior.vposer_dir, directory)
    config = make_config(prior={"kind": "vposer", "vposer_dir": str(directory)})
    _saved(config)
    shutil.rmtree(directory)
    write_v2(directory)
    other = "trained with prior 'vposer-v1' of digest .*, but the one here, 'vposer-v2'"
    with pytest.raises(CheckpointMismatch, match=other):
        load_network(config.out)
    with pytest.raises(CheckpointMismatch, match=other):
        resume(_state(config), Store(config.out), SETS)
    with pytest.raises(CheckpointMismatch, match=other):
        build_network(config.model_copy(update={"init_from": config.out}))


def test_a_run_that_goes_on_elsewhere_in_another_precision_says_so(make_config: Make, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config()
    state = _state(config)
    state.bf16 = True
    save(config, state, Store(config.out), 0, 8, SETS)
    state.bf16 = False
    resume(state, Store(config.out), SETS)
    assert "was trained in bf16 and goes on in fp32 here" in caplog.text


def test_wrong_paths(tmp_path: Path, make_config: Make) -> None:
    with pytest.raises(MissingInput, match="no checkpoint there; expected a run directory with LATEST"):
        load_network(str(tmp_path / "nowhere"))
    config = make_config()
    _saved(config)
    (Path(config.out) / LATEST).unlink()
    with pytest.raises(MissingInput, match="LATEST"):
        open_checkpoint(config.out)


def test_only_the_newest_are_kept(make_config: Make) -> None:
    config = make_config(keep_checkpoints=2)
    for step in (1, 2, 3):
        _saved(config, step)
    run = Store(config.out)
    assert {key.split("/")[1] for key in run.list("checkpoints")} == {"00000002", "00000003"}
    assert latest(run).manifest.step == 3


def test_leftovers_of_a_crash_are_written_again(make_config: Make) -> None:
    config = make_config()
    run = Store(config.out)
    run.create("checkpoints/00000004/model.pt", b"half of a crashed run's files")
    assert latest(run) is None
    _saved(config)
    load_network(config.out)


def test_a_manifest_without_latest_is_adopted(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    run = Store(config.out)
    before = (Path(config.out) / "checkpoints/00000004/manifest.json").read_bytes()
    run.delete(LATEST)
    _saved(config)
    assert latest(run).manifest == CheckpointManifest.from_bytes(before)


def test_a_manifest_of_another_config_is_not_adopted(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    Store(config.out).delete(LATEST)
    with pytest.raises(CommitConflict, match="another config"):
        _saved(config.model_copy(update={"seed": 9}))


def test_what_a_crash_left_ahead_costs_nothing(make_config: Make) -> None:
    config = make_config(keep_checkpoints=1)
    run = Store(config.out)
    for step in (3, 4):
        run.create(f"checkpoints/{step:08d}/model.pt", b"half of a crashed run's files")
    (Path(config.out) / "checkpoints/00000003/.partial-1").write_bytes(b"not even that")
    for step in (1, 2, 3):
        _saved(config, step)
        assert load_network(config.out).manifest.step == step
    assert sorted(path.name for path in (Path(config.out) / "checkpoints").iterdir()) == ["00000003", "00000004"]
    assert not (Path(config.out) / "checkpoints/00000003/.partial-1").exists()


def test_two_runs_in_one_directory_meet_at_latest(make_config: Make) -> None:
    config = make_config()
    _saved(config)
    fields = open_checkpoint(config.out).manifest.model_dump(exclude={"files", "created_at", "format_version"})
    with pytest.raises(CommitConflict, match="another config or other training sets"):
        commit(Store(config.out), {}, 3, **(fields | {"config": fields["config"] | {"seed": 9}}))
    with pytest.raises(CommitConflict, match="another config or other training sets"):
        commit(Store(config.out), {}, 3, **(fields | {"training_sets": {"studio": "c" * 64}}))
    with pytest.raises(CommitConflict, match="another run is ahead, at step 4"):
        commit(Store(config.out), {}, 3, **(fields | {"step": 2}))


def test_checkpoints_on_s3(make_config: Make, s3_url: str) -> None:
    config = make_config(out=s3_url, keep_checkpoints=1)
    _saved(config, 2)
    _saved(config, 4)
    assert load_network(s3_url).manifest.step == 4
    assert {key.split("/")[1] for key in Store(s3_url).list("checkpoints")} == {"00000004"}


def test_errors_are_ones_a_user_can_act_on() -> None:
    assert all(issubclass(e, EngineError) for e in (CheckpointMismatch, CommitConflict, MissingInput, StorageError, UnsafeInput))
