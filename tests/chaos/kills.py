"""Twenty kills at random steps over three seeds: `make chaos`.

Each seed trains twice: two processes that nobody disturbs, without Ray, and two workers under Ray Train of which a random one is
SIGKILLed at a random moment of a random step, again and again. Laws:
- what ended up in the weights is, epoch by epoch, every person exactly once, and step by step the persons of the undisturbed run;
- loss curve and final weights are those of the undisturbed run, to 1e-6;
- a restart begins at the newest checkpoint that was committed when the worker died, or later.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray

from engine.training.checkpoint import open_checkpoint
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.run import train
from schemas.skeletons import POSE2POSE33
from tests.chaos.trace import RUNTIME_ENV, read_trace, trace_workers
from tests.engine.training.builders import write_set

KILLS = {0: 7, 1: 7, 2: 6}
STEPS, PERSONS, BATCH = 24, 24, 8
"""24 persons a half, 4 of each half a step: 6 steps an epoch, 4 epochs."""
CHECKPOINT_EVERY, LOG_EVERY = 3, 2
TOLERANCE = 1e-6
POSE2POSE = {"backbone": "resnet18", "width": 0.125, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 8, "head": "6d"}
HMR = {"name": "hmr", "backbone": "resnet18", "width": 0.125, "input_hw": (64, 64), "hidden": 32, "dropout": 0.5}
NETWORKS: dict[int, tuple[str, dict[str, Any]]] = {
    0: ("pose2pose, average", {"model": POSE2POSE, "optim": {"lr": 1e-3, "schedule": "onecycle", "ema_decay": 0.9}}),
    1: ("hmr, dropout 0.5", {"model": HMR, "optim": {"lr": 1e-3}}),
    2: ("pose2pose, micro-batches of 2", {"model": POSE2POSE, "optim": {"lr": 1e-3, "grad_clip": 1.0}, "micro_batch": 2}),
}

UNDISTURBED = """
import sys, torch
from engine.training.config import TrainAnnotatorConfig
from engine.training.loop import fit
from tests.chaos.trace import install
install()
rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
fit(TrainAnnotatorConfig.model_validate_json(sys.argv[3]), rank, 2, torch.device("cpu"), lambda row: None)
torch.distributed.destroy_process_group()
"""


def make_config(
    folder: Path, sets: tuple[str, str], seed: int, fields: dict[str, Any], kills: list[dict[str, Any]], pause_s: float = 0
) -> TrainAnnotatorConfig:
    """A run of 24 steps whose trace, plan and cache are in `folder`."""
    (folder / "trace").mkdir(parents=True)
    (folder / "trace/plan.json").write_text(json.dumps({"run": str(folder / "run"), "kills": kills, "pause_s": pause_s}))
    mocap, itw = ([{"url": url}] for url in sets)
    loading = {"mocap": mocap, "itw": itw, "batch_size": BATCH, "seed": seed, "cache_dir": str(folder / "cache")}
    runtime = {"num_workers": 2, "checkpoint_every_steps": CHECKPOINT_EVERY, "log_every_steps": LOG_EVERY, "max_failures": 50}
    values = {"out": str(folder / "run"), "loading": loading, "seed": seed, "max_steps": STEPS, "precision": "fp32", "device": "cpu"}
    return TrainAnnotatorConfig.model_validate(values | runtime | fields)


def plan_kills(seed: int, count: int) -> list[dict[str, Any]]:
    """Random steps (not the last two, which may be over before the blow), ranks, and moments within about two steps."""
    rng = random.Random(seed)
    steps = sorted(rng.randrange(STEPS - 2) for _ in range(count))
    return [{"step": step, "rank": rng.randrange(2), "delay_s": round(rng.uniform(0, 0.3), 3)} for step in steps]


def run_undisturbed(config: TrainAnnotatorConfig) -> None:
    command = [sys.executable, "-c", UNDISTURBED]
    store = f"{config.out}-store"
    ranks = [subprocess.Popen([*command, str(rank), store, config.model_dump_json()], stdout=subprocess.DEVNULL) for rank in (0, 1)]
    assert [process.wait() for process in ranks] == [0, 0], "the undisturbed run failed"


def lineage(trace: list[dict[str, Any]]) -> dict[tuple[int, int], list[str]]:
    """Persons by (step, rank) that ended up in the weights: a step that was done twice counts as it was done last."""
    return {(line["step"], line["rank"]): line["ids"] for line in trace}


def lost_and_repeated(steps: dict[tuple[int, int], list[str]], everybody: set[str], per_epoch: int, total: int) -> tuple[int, int]:
    """Over all epochs: persons that never came, and times that one came too often."""
    lost = repeated = 0
    for epoch in range(total // per_epoch):
        seen = Counter(name for (step, _), ids in steps.items() if step // per_epoch == epoch for name in ids)
        lost += len(everybody - seen.keys())
        repeated += sum(count - 1 for count in seen.values())
    return lost, repeated


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


def curve_difference(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """Largest difference of loss, terms and gradient, relative where they are beyond 1."""
    timing = {"samples_per_s", "wait_share"}
    assert [row["step"] for row in a] == [row["step"] for row in b]
    return max(abs(x[k] - y[k]) / max(1, abs(x[k])) for x, y in zip(a, b, strict=True) for k in x.keys() - timing)


def run_seed(root: Path, sets: tuple[str, str], seed: int, kills: int) -> dict[str, Any]:
    """One row of the table."""
    title, fields = NETWORKS[seed]
    calm = make_config(root / f"calm-{seed}", sets, seed, fields, [])
    run_undisturbed(calm)
    begin = time.monotonic()
    config = make_config(root / f"killed-{seed}", sets, seed, fields, plan_kills(seed, kills))
    assert train(config).finished
    seconds = time.monotonic() - begin
    folder = root / f"killed-{seed}/trace"
    traces = [read_trace(path) for path in (root / f"calm-{seed}/trace", folder)]
    steps = [lineage(trace) for trace in traces]
    everybody = {f"{name}/{name}-{i}/{i}" for name in ("studio", "wild") for i in range(PERSONS)}
    lost, repeated = lost_and_repeated(steps[1], everybody, 2 * PERSONS // BATCH, STEPS)
    done = [json.loads((folder / f"kill-{n}.json").read_text()) for n in range(kills) if (folder / f"kill-{n}.json").exists()]
    return {
        "seed": seed,
        "network": title,
        "kills": len(done),
        "steps": f"{STEPS}+{len({(line['pid'], line['step']) for line in traces[1]}) // 2 - STEPS}",
        "lost": lost,
        "repeated": repeated,
        "other persons": sum(steps[0][key] != ids for key, ids in steps[1].items()) + abs(len(steps[0]) - len(steps[1])),
        "checkpoints lost": checkpoints_lost(traces[1], done),
        "loss curve": curve_difference(read_history(calm.out), read_history(config.out)),
        "weights": largest_difference(*(open_checkpoint(c.out).tensors("model.pt") for c in (calm, config))),
        "seconds": round(seconds),
        "who": " ".join(f"{kill['step']}r{kill['rank']}" for kill in done),
    }


def checkpoints_lost(trace: list[dict[str, Any]], kills: list[dict[str, Any]]) -> int:
    """Restarts that began before the newest checkpoint at the time of the kill. A rank's line below its last one is a restart."""
    starts = []
    rank_0 = [line for line in trace if line["rank"] == 0]
    for before, line in zip([None, *rank_0], rank_0, strict=False):
        if before is not None and before["pid"] != line["pid"]:
            starts.append(line["step"])
    return sum(start < kill["committed"] for start, kill in zip(starts, kills, strict=False))


def write_sets(root: Path) -> tuple[str, str]:
    """URLs of a MoCap set and an in-the-wild set of PERSONS each."""
    return (
        write_set(str(root / "studio"), "studio", POSE2POSE33.name, "mocap", PERSONS),
        write_set(str(root / "wild"), "wild", "coco17", "itw2d", PERSONS),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(KILLS))
    parser.add_argument("--kills", type=int, help="kills a seed, for a short try")
    args = parser.parse_args()
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        root = Path(scratch)
        sets = write_sets(root)
        trace_workers()
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=150 << 20, runtime_env=RUNTIME_ENV,
        )  # fmt: skip
        rows = []
        for seed in args.seeds:
            rows.append(run_seed(root, sets, seed, args.kills or KILLS[seed]))
            print(json.dumps(rows[-1]), flush=True)
        ray.shutdown()
    print_table(rows)
    good = all(
        row["lost"] == row["repeated"] == row["other persons"] == row["checkpoints lost"] == 0
        and max(row["loss curve"], row["weights"]) < TOLERANCE
        for row in rows
    )
    print(f"{sum(row['kills'] for row in rows)} kills: {'all laws hold' if good else 'A LAW IS BROKEN'}", flush=True)
    return 0 if good else 1


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = [key for key in rows[0] if key != "who"]
    cells = [columns, *([f"{row[c]:.1e}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
