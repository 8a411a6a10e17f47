"""Training under a real Ray: two workers that talk through gloo, one of them killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch

from engine.errors import CheckpointMismatch, ConfigError, MissingInput
from engine.storage import Store
from engine.training.checkpoint import latest, load_network, open_checkpoint
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.loop import fit
from engine.training.progress import Diverged
from engine.training.run import check_inputs, train

Make = Callable[..., TrainAnnotatorConfig]


def _own_train_workers() -> list[int]:
    """Process ids of the Ray Train workers that descend from this process, and of no other's."""
    parent, workers = {}, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" (", 1)
        except OSError:
            continue
        name, fields = rest.rsplit(") ", 1)
        parent[int(pid)] = int(fields.split()[1])
        if name.startswith("ray::RayTrainWo"):
            workers.append(int(pid))

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parent.get(pid, 0)
        return False

    return [pid for pid in workers if ours(pid)]


def _kill_a_worker_after(run: Store, step: int, killed: list[int]) -> None:
    """SIGKILL one of this test's own Ray Train workers once the run has committed `step`."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = latest(run)
        if found is not None and found.manifest.step >= step:
            os.kill(_own_train_workers()[0], signal.SIGKILL)
            killed.append(found.manifest.step)
            return
        time.sleep(0.02)


WITHOUT_RAY = """
import sys, torch
from engine.training.config import TrainConfig
from engine.training.loop import fit
rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
fit(TrainConfig.model_validate_json(sys.argv[3]), rank, 2, torch.device("cpu"), lambda row: None)
torch.distributed.destroy_process_group()
"""


def test_wrong_inputs_are_told_before_ray_starts(make_config: Make, tmp_path) -> None:
    config = make_config()
    check_inputs(config)
    missing = config.loading.model_copy(update={"itw": (config.loading.itw[0].model_copy(update={"url": str(tmp_path / "nowhere")}),)})
    for fields, error, message in (
        ({"loading": missing}, MissingInput, "nowhere"),
        ({"num_workers": 3}, ConfigError, "expected a multiple of 6"),
        ({"backbone_init": str(tmp_path / "no.pth")}, MissingInput, "no.pth"),
        ({"loading": config.loading.model_copy(update={"mocap": (), "itw": ()})}, ConfigError, "no training data"),
    ):
        with pytest.raises(error, match=message):
            train(config.model_copy(update=fields | {"out": f"{tmp_path}/{len(message)}"}))
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_killed_worker_changes_nothing_but_the_time(
    make_config: Make, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers under Ray, one killed in the middle, against two processes that nobody disturbed. The run's path is relative."""
    monkeypatch.chdir(tmp_path)
    config = make_config(out="run", max_steps=30, num_workers=2, checkpoint_every_steps=5, log_every_steps=4, max_failures=2, micro_batch=2)
    whole = config.model_copy(update={"out": config.out + "-whole"})
    command = [sys.executable, "-c", WITHOUT_RAY]
    undisturbed = [subprocess.Popen([*command, str(rank), f"{tmp_path}/store", whole.model_dump_json()]) for rank in (0, 1)]
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_worker_after, args=(Store(config.out), 5, killed))
    killer.start()
    manifest = train(config)
    killer.join()
    assert [process.wait(60) for process in undisturbed] == [0, 0]
    assert killed and killed[0] < 30
    assert manifest.finished and manifest.samples_consumed == 120
    a, b = (open_checkpoint(c.out).tensors("model.pt") for c in (whole, config))
    assert max((a[k].double() - b[k].double()).abs().max().item() for k in a) < 1e-6
    curves = [read_history(c.out) for c in (whole, config)]
    for row in (*curves[0], *curves[1]):
        del row["samples_per_s"], row["wait_share"]
    assert [row["step"] for row in curves[0]] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert curves[1] == [pytest.approx(row, rel=1e-6) for row in curves[0]]
    assert load_network(config.out).manifest.role == "annotator"

    begin = time.monotonic()
    assert train(config) == manifest  # submitted again: nothing to do
    assert time.monotonic() - begin < 2


def test_what_a_run_only_starts_from_may_be_gone_when_it_goes_on(make_config: Make, tmp_path: Path) -> None:
    first = make_config(out=str(tmp_path / "first"), max_steps=1)
    fit(first, 0, 1, torch.device("cpu"), lambda row: None)
    config = make_config(init_from=first.out, max_steps=2, checkpoint_every_steps=1, log_every_steps=1)

    def leave_at_two(row: dict) -> None:
        if row["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, 0, 1, torch.device("cpu"), leave_at_two)
    assert latest(Store(config.out)).manifest.step == 1
    shutil.rmtree(first.out)
    check_inputs(config, fresh=False)
    fit(config, 0, 1, torch.device("cpu"), lambda row: None)
    with pytest.raises(MissingInput, match="first: no checkpoint there"):
        check_inputs(config)


def test_workers_that_differ_are_told_before_the_first_step(make_config: Make, tmp_path: Path) -> None:
    """Two processes whose machines would choose different precisions."""
    command = [sys.executable, "-c", WITHOUT_RAY]
    configs = [make_config(precision=precision).model_dump_json() for precision in ("fp32", "bf16")]
    workers = [
        subprocess.Popen([*command, str(rank), f"{tmp_path}/store", config], stderr=subprocess.PIPE, text=True)
        for rank, config in enumerate(configs)
    ]
    for worker in workers:
        assert "CheckpointMismatch" in (told := worker.communicate(timeout=120)[1]) and "workers differ in body files" in told
    assert latest(Store(make_config().out)) is None


@pytest.mark.slow
def test_divergence_ends_a_run_at_once(make_config: Make, ray_cluster: None, tmp_path: Path) -> None:
    """Every worker finds it at the same row. No restart would help, and nothing is committed."""
    config = make_config(num_workers=2, optim={"lr": 1e30}, max_steps=20, max_failures=3)
    with pytest.raises(Diverged, match=r"training at step \d+: the .* is (nan|inf); lower optim\.lr"):
        train(config)
    assert latest(Store(config.out)) is None


def test_a_run_directory_belongs_to_one_config(make_config: Make) -> None:
    config = make_config(max_steps=1)
    fit(config, 0, 1, torch.device("cpu"), lambda row: None)
    assert train(config.model_copy(update={"num_workers": 2, "log_every_steps": 7})).finished
    other = config.model_copy(update={"seed": 5, "optim": config.optim.model_copy(update={"lr": 0.5})})
    with pytest.raises(CheckpointMismatch, match=r"differs in optim\.lr, seed"):
        train(other)
