"""From two workers to one and back: `make chaos`. A real second node of a local Ray cluster is lost in the middle of a run, and returns.

Laws: training ends, having run on 2, then 1, then 2 workers; what ended up in the weights is every person exactly once an epoch; and each
step's persons over all workers are those the order names, whatever the number of workers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from engine.body.smpl import load_body
from engine.loading.batches import BatchStream
from engine.storage import Store
from engine.training.checkpoint import latest
from engine.training.config import TrainAnnotatorConfig
from engine.training.run import train
from tests.chaos.kills import BATCH, PERSONS, POSE2POSE, lost_and_repeated, make_config, write_sets
from tests.chaos.trace import RUNTIME_ENV, read_trace, trace_workers

STEPS = 120
PAUSE_S = 0.5
"""Between two steps, so that the run outlasts Ray's looks at the cluster (every 20 s) at little cost."""


def attempts(trace: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """(workers, first step, last step) of every attempt, as rank 0 saw it."""
    found: list[tuple[int, int, int, int]] = []
    for line in (line for line in trace if line["rank"] == 0):
        if found and found[-1][0] == line["pid"]:
            found[-1] = (*found[-1][:3], line["step"])
        else:
            found.append((line["pid"], line["world_size"], line["step"], line["step"]))
    return [attempt[1:] for attempt in found]


def lineage(trace: list[dict[str, Any]]) -> dict[tuple[int, int], list[str]]:
    """Persons by (step, rank) in the weights: those of the last attempt that did the step."""
    pids = {line["step"]: line["world_size"] for line in trace if line["rank"] == 0}
    return {(line["step"], line["rank"]): line["ids"] for line in trace if line["world_size"] == pids[line["step"]]}


def lose_and_return(cluster: Cluster, node: Any, folder: Path, events: list[str]) -> None:
    """Kill a node at step 8; start another once one worker has gone on for 4 steps."""
    begin = time.monotonic()

    def wait(reached: Callable[[list[tuple[int, int, int]]], bool]) -> list[tuple[int, int, int]]:
        while not reached(done := attempts(read_trace(folder))):
            time.sleep(0.5)
        return done

    done = wait(lambda a: bool(a) and a[-1][2] >= 8)
    cluster.remove_node(node, allow_graceful=False)
    events.append(f"{time.monotonic() - begin:.0f} s: a node killed at step {done[-1][2]}")
    done = wait(lambda a: a[-1][0] == 1 and a[-1][2] >= a[-1][1] + 4)
    events.append(f"{time.monotonic() - begin:.0f} s: on one worker from step {done[-1][1]}; a node started")
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    done = wait(lambda a: a[-1][0] == 2)
    events.append(f"{time.monotonic() - begin:.0f} s: on two workers again from step {done[-1][1]}")


def expected_ids(config: TrainAnnotatorConfig, step: int) -> list[str]:
    """Persons of a step as one loader for the whole batch gives them."""
    with BatchStream(config.sources(), config.model.crop, load_body(config.body)) as stream:
        return next(stream.batches(*divmod(step, stream.steps_per_epoch)))["ids"]


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        root = Path(scratch)
        sets = write_sets(root)
        runtime = {"num_workers": [1, 2], "elastic_check_s": 2, "max_steps": STEPS, "checkpoint_every_steps": 4, "log_every_steps": 4}
        config = make_config(root / "elastic", sets, 0, {"model": POSE2POSE, "optim": {"lr": 1e-3}, **runtime}, [], PAUSE_S)
        events: list[str] = []
        folder = root / "elastic/trace"
        head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
        try:
            node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
            trace_workers()
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=RUNTIME_ENV)
            threading.Thread(target=lose_and_return, args=(cluster, node, folder, events), daemon=True).start()
            begin = time.monotonic()
            finished = train(config).finished
            seconds = time.monotonic() - begin
        finally:
            ray.shutdown()
            cluster.shutdown()
        trace = read_trace(folder)
        steps = lineage(trace)
        everybody = {f"{name}/{name}-{i}/{i}" for name in ("studio", "wild") for i in range(PERSONS)}
        lost, repeated = lost_and_repeated(steps, everybody, 2 * PERSONS // BATCH, STEPS)
        done = attempts(trace)
        moments = {0, *(start for _, start, _ in done), STEPS - 1}
        taken = {step: sorted(name for (s, _), ids in steps.items() if s == step for name in ids) for step in moments}
        others = sum(sorted(expected_ids(config, step)) != names for step, names in taken.items())
        newest = latest(Store(config.out))
    for event in events:
        print(event, flush=True)
    for workers, first, last in done:
        print(f"{workers} workers: steps {first} to {last}", flush=True)
    good = finished and newest is not None and lost == repeated == others == 0 and [a[0] for a in done] == [2, 1, 2]
    print(f"{STEPS} steps in {seconds:.0f} s; lost {lost}, repeated {repeated}, steps of other persons {others}: ", end="")
    print("all laws hold" if good else "A LAW IS BROKEN", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
