"""Training through the loading path and Ray Train against the same steps on tensors that are already in memory, side by side.

Ours is what a user's run does between two checkpoints: shards, decoding, crops, augmentation and targets in the loader's thread, one Ray
Train worker with one torch thread, the weights' average, history rows and reports. The reference is the same optimiser step in
this process, on one thread, on batches made beforehand. So a ratio of 1 means that loading, reporting and Ray cost the step nothing
where there is a second core for the loader's thread; with a single core it cannot be reached. The network is the demo's, which
on a CPU is slower than the loader: on a GPU the loader can be the bottleneck, and `benchmarks/loading.py` is what to read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.photos import SPLIT, photographs
from engine.datasets.base import DatasetConfig
from engine.loading.batches import Batch, BatchStream
from engine.shards.ingest import IngestConfig, ingest
from engine.training.config import TrainAnnotatorConfig
from engine.training.history import read_history
from engine.training.loop import build_network, optimise
from engine.training.optim import WeightAverage
from engine.training.run import train

BATCH, STEPS, ROW = 64, 60, 20
"""Persons a step; steps of a measurement; steps of a history row. The first row, with its cold caches, is left out on both sides."""
REPEATS = 3
MODEL = {"backbone": "resnet18", "width": 0.5, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 128, "head": "vposer"}


def measure() -> list[dict[str, Any]]:
    """One row, `train_loop_vs_step`: samples a second of the whole loop and of the step alone, medians over interleaved repeats."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="train-loop-") as scratch:
        folder = Path(scratch)
        root, words = photographs(folder)
        dataset = DatasetConfig(name="coco", root=str(root), split=SPLIT)
        ingest(IngestConfig(dataset=dataset, out=str(folder / "shards"), samples_per_shard=64, workers=0))
        started_here = not ray.is_initialized()
        if started_here:
            ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", object_store_memory=150 << 20)
        try:
            batches = _batches(_config(folder, "reference"))
            ours, reference = [], []
            for repeat in range(REPEATS):
                reference.append(_step_alone(_config(folder, "reference"), batches))
                ours.append(_whole_loop(_config(folder, f"run-{repeat}")))
        finally:
            if started_here:
                ray.shutdown()
    mine, theirs = statistics.median(ours), statistics.median(reference)
    unit = f"samples/s, batch {BATCH}, ResNet-18 of half width, {words}, 1 worker x 1 thread and 1 loader thread, CPU"
    return [{"name": "train_loop_vs_step", "ours": mine, "reference": theirs, "ratio": mine / theirs, "unit": unit}]


def _config(folder: Path, run: str) -> TrainAnnotatorConfig:
    values = {
        "out": str(folder / run),
        "loading": {"itw": [{"url": str(folder / "shards")}], "batch_size": BATCH, "cache_dir": str(folder / "cache")},
        "model": MODEL,
        "optim": {"ema_decay": 0.99},
        "max_steps": STEPS,
        "checkpoint_every_steps": STEPS,
        "log_every_steps": ROW,
        "device": "cpu",
    }
    return TrainAnnotatorConfig.model_validate(values)


def _batches(config: TrainAnnotatorConfig) -> list[Batch]:
    """A few batches, as the loop gets them."""
    model = build_network(config)
    with BatchStream(config.sources(), config.model.crop, model.body) as stream:
        return [batch for batch, _ in zip(stream.batches(0), range(4), strict=False)]


def _step_alone(config: TrainAnnotatorConfig, batches: list[Batch]) -> float:
    """Samples a second of optimiser step and weights' average."""
    model = build_network(config).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr, fused=True)
    average = WeightAverage(model, config.optim.ema_decay or 0)
    for step in range(STEPS):
        if step == ROW:
            begin = time.perf_counter()
        optimise(config, model, model, optimizer, batches[step % len(batches)], config.optim.lr, torch.device("cpu"))
        average.update(model, step)
    return (STEPS - ROW) * BATCH / (time.perf_counter() - begin)


def _whole_loop(config: TrainAnnotatorConfig) -> float:
    """Samples a second of a run under Ray Train, from its history, whose rows cover every second from the first of them to the last."""
    train(config)
    rows = read_history(config.out)[1:]
    return len(rows) / sum(1 / row["samples_per_s"] for row in rows)


def main() -> None:
    row = measure()[0]
    print(f"{row['name']}: {row['ours']:.1f} against {row['reference']:.1f}, ratio {row['ratio']:.2f}")
    print(f"{row['unit']}; medians of {REPEATS}")


if __name__ == "__main__":
    main()
