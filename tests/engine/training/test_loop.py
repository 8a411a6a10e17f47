from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from engine.storage import Store
from engine.training.checkpoint import latest, open_checkpoint
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.loop import fit
from engine.training.progress import Diverged, check_finite

Make = Callable[..., TrainAnnotatorConfig]
CPU = torch.device("cpu")


def _fit(config: TrainAnnotatorConfig) -> list[dict]:
    rows: list[dict] = []
    fit(config, 0, 1, CPU, rows.append)
    return rows


class Killed(Exception):
    """Stands for a worker that dies."""


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


@pytest.mark.parametrize("ema", [None, 0.9])
def test_resumed_weights_equal_uninterrupted_ones(make_config: Make, ema: float | None) -> None:
    """Stopped at step 5 of 8 with a checkpoint at 3, in the middle of an epoch, and gone on twice."""
    optim = {"lr": 1e-3, "schedule": "onecycle", "ema_decay": ema}
    whole = make_config(max_steps=8, optim=optim)
    _fit(whole)
    parts = whole.model_copy(update={"out": whole.out + "-parts", "log_every_steps": 1})
    for dies_at in (5, 7):

        def report(row: dict, dies_at: int = dies_at) -> None:
            if row["step"] == dies_at:
                raise Killed

        with pytest.raises(Killed):
            fit(parts, 0, 1, CPU, report)
    _fit(parts)
    a, b = (open_checkpoint(c.out).tensors("model.pt") for c in (whole, parts))
    assert max((a[k].double() - b[k].double()).abs().max().item() for k in a) < 1e-6
    assert [row["step"] for row in read_history(parts.out)] == list(range(1, 9))


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
