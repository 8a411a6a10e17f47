from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.errors import CheckpointMismatch, ConfigError, RawDataError
from engine.loading.sources import SourceConfig
from engine.storage import Store
from engine.training.checkpoint import latest, open_checkpoint
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.loop import fit
from engine.training.progress import Diverged, check_finite
from engine.training.run import check_inputs, require_same_run
from schemas.sample import Instance
from tests.engine.training.builders import people, write_set

Make = Callable[..., TrainAnnotatorConfig]
CPU = torch.device("cpu")


def _fit(config: TrainAnnotatorConfig) -> list[dict]:
    rows: list[dict] = []
    fit(config, 0, 1, CPU, rows.append)
    return rows


class Killed(Exception):
    """Stands for a worker that dies."""


def _die_at_4(row: dict) -> None:
    if row["step"] == 4:
        raise Killed


def test_a_run_learns_tells_and_commits(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(max_steps=40, log_every_steps=10, checkpoint_every_steps=20)
    rows = _fit(config)
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert rows == read_history(config.out)
    assert {"epoch", "lr", "samples_per_s", "wait_share", "joint_proj", "latent_l2"} <= rows[0].keys()
    manifest = open_checkpoint(config.out).manifest
    assert manifest.finished and manifest.samples_consumed == 160
    assert set(manifest.training_sets) >= {"studio/train", "wild/train"} or len(manifest.training_sets) == 2
    printed = capsys.readouterr().out
    assert "step 40/40" in printed and "samples/s" in printed and "waiting for data" in printed


def test_epochs_give_the_length_when_max_steps_does_not(make_config: Make) -> None:
    config = make_config(max_steps=None, epochs=2)  # 8 instances a half, 2 of each a step
    _fit(config)
    assert open_checkpoint(config.out).manifest.step == 8


HMR = {"name": "hmr", "backbone": "resnet18", "width": 0.125, "input_hw": (64, 64), "hidden": 32}


@pytest.mark.parametrize("fields", [{"optim": {"lr": 1e-3, "ema_decay": 0.9}}, {"optim": {"lr": 1e-3}, "model": HMR}, {"micro_batch": 2}])
def test_a_resumed_run_equals_an_uninterrupted_one(make_config: Make, fields: dict) -> None:
    """Stopped at step 4 of 6 with a checkpoint at 3: within an epoch, and between two rows of the history.

    With the average of the weights, with dropout, and with micro-batches.
    """
    whole = make_config(max_steps=6, log_every_steps=4, **fields)
    _fit(whole)
    parts = whole.model_copy(update={"out": whole.out + "-parts"})
    with pytest.raises(Killed):
        fit(parts, 0, 1, CPU, _die_at_4)
    _fit(parts)
    a, b = (open_checkpoint(c.out).tensors("model.pt") for c in (whole, parts))
    assert max((a[k].double() - b[k].double()).abs().max().item() for k in a) < 1e-6
    curves = [read_history(c.out) for c in (whole, parts)]
    for row in (*curves[0], *curves[1]):
        del row["samples_per_s"], row["wait_share"]
    assert [row["step"] for row in curves[0]] == [4, 6]
    assert curves[1] == [pytest.approx(row, rel=1e-6) for row in curves[0]]


KILLED_AT_COMMIT = """
import sys, torch
from engine.training.config import TrainAnnotatorConfig
from engine.training.loop import fit
torch.set_num_threads(1)
fit(TrainAnnotatorConfig.model_validate_json(sys.argv[1]), 0, 1, torch.device("cpu"), lambda row: None)
"""


def test_a_checkpoint_committed_right_before_a_kill_is_there(make_config: Make) -> None:
    """SIGKILL as soon as the line that tells of the commit is read: the next start goes on from that checkpoint."""
    config = make_config(max_steps=10_000, checkpoint_every_steps=2)
    command = [sys.executable, "-u", "-c", KILLED_AT_COMMIT, config.model_dump_json()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = next(line for line in process.stdout if line.startswith("checkpoint at step 4 "))
    process.kill()
    process.communicate()
    assert told and latest(Store(config.out)).manifest.step >= 4
    state_of = open_checkpoint(config.out)
    assert set(state_of.manifest.files) == {"model.pt", "optimizer.pt", "history.jsonl"}
    step = state_of.manifest.step
    starts: list[int] = []

    def report(row: dict) -> None:
        starts.append(row["step"])
        raise Killed

    with pytest.raises(Killed):
        fit(config.model_copy(update={"log_every_steps": 1}), 0, 1, CPU, report)
    assert starts == [step + 1]


def test_a_machine_about_to_go_and_the_clock_bring_a_checkpoint_at_the_next_row(make_config: Make) -> None:
    def told(row: dict) -> bool:
        if row["step"] == 4:
            raise Killed
        return True

    for name, fields, answer in (("leaving", {"checkpoint_every_s": None}, told), ("clock", {"checkpoint_every_s": 1e-9}, _die_at_4)):
        config = make_config(checkpoint_every_steps=100, **fields)
        config = config.model_copy(update={"out": f"{config.out}-{name}"})
        with pytest.raises(Killed):
            fit(config, 0, 1, CPU, answer)
        assert latest(Store(config.out)).manifest.step == 2


def test_tensorboard_files_hold_the_history(make_config: Make) -> None:
    config = make_config(max_steps=7, log_every_steps=1)
    rows = _fit(config)
    events = EventAccumulator(f"{config.out}/tensorboard")
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/loss")] == [(row["step"], pytest.approx(row["loss"])) for row in rows]


def test_the_first_line_says_what_is_trained_on(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    _fit(make_config(max_steps=1, micro_batch=2))
    expected = (
        "annotator: to step 1, 4 an epoch | 4 samples a step, 4 on each of 1 workers in 2 micro-batches "
        "| MoCap half: studio 100% (8 persons) | in-the-wild half: wild 100% (8 persons)"
    )
    assert expected in capsys.readouterr().out


def _with_nan(skeleton: str, who: Callable[[int], bool]) -> list[Instance]:
    """Persons of whom some have a coordinate beyond float32, which is an infinity by the time it is a target."""
    found = []
    for number, person in enumerate(people(8, skeleton)):
        points = ((1e39, 10.0), *person.joints_img[1:])
        found.append(person.model_copy(update={"joints_img": points}) if who(number) else person)
    return found


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_person_with_a_target_that_is_no_number_is_left_out_and_named(
    make_config: Make, sets: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = write_set(str(tmp_path / "bad"), "bad", "coco17", "itw2d", persons=_with_nan("coco17", lambda i: i == 3))
    config = make_config(max_steps=8, log_every_steps=1)
    loading = config.loading.model_copy(update={"itw": (SourceConfig(url=bad),)})
    rows = _fit(config.model_copy(update={"loading": loading}))
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    told = [r.getMessage() for r in caplog.records if "bad/bad-3/3" in r.getMessage()]
    assert told == ["bad/bad-3/3: joints_img has a number that is not finite; it is trained on without supervision"]


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_set_of_such_persons_stops_the_run(make_config: Make, tmp_path: Path) -> None:
    bad = write_set(str(tmp_path / "bad"), "bad", "coco17", "itw2d", persons=_with_nan("coco17", lambda i: True))
    config = make_config(max_steps=8)
    loading = config.loading.model_copy(update={"itw": (SourceConfig(url=bad),)})
    with pytest.raises(RawDataError, match=r"first 8 persons of bad .* none can be used; .* joints_img has a number that is not finite"):
        _fit(config.model_copy(update={"loading": loading}))


def test_a_source_without_persons_is_an_error(make_config: Make, tmp_path: Path) -> None:
    empty = write_set(str(tmp_path / "empty"), "empty", "coco17", "itw2d", instances=False)
    config = make_config()
    itw = (*config.loading.itw, SourceConfig(url=empty))
    config = config.model_copy(update={"loading": config.loading.model_copy(update={"itw": itw})})
    with pytest.raises(ConfigError, match=r"shard set .*empty has no persons"):
        _fit(config)
    with pytest.raises(ConfigError, match=r"shard set .*empty has no persons"):
        check_inputs(config)


def test_a_checkpoint_of_another_network_is_refused(make_config: Make) -> None:
    """Of another size in the run's directory under the same config digest, and as the start of a fine-tuning."""
    config = make_config(max_steps=1)
    _fit(config)
    wider = config.model.model_copy(update={"width": 0.25})
    other = config.model_copy(update={"out": config.out + "-wider", "model": wider, "init_from": config.out})
    with pytest.raises(CheckpointMismatch, match=r"another network than this Pose2Pose: of its \d+ weights \d+ have another shape"):
        _fit(other)
    with pytest.raises(CheckpointMismatch, match=r"belongs to another config, which differs in model\.width"):
        require_same_run(latest(Store(config.out)), config.model_copy(update={"model": wider}))


def test_a_finished_run_does_nothing_more(make_config: Make) -> None:
    config = make_config()
    _fit(config)
    before = latest(Store(config.out))
    assert _fit(config) == []
    assert latest(Store(config.out)).manifest == before.manifest


@pytest.mark.parametrize(("loss", "norm", "what"), [(float("nan"), 1.0, "the loss is nan"), (1.0, float("inf"), "gradient is inf")])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run(loss: float, norm: float, what: str) -> None:
    with pytest.raises(Diverged, match=rf"step 7: .*{what}; lower optim\.lr"):
        check_finite(loss, norm, 7)


def test_gradients_are_clipped(make_config: Make) -> None:
    config = make_config(optim={"lr": 1e-3, "grad_clip": 1e-9})
    rows = _fit(config)
    assert all(row["grad_norm"] > 1e-3 for row in rows)
