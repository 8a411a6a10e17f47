"""Annotation through Ray Data against the loops that users have today, on the same photographs, side by side in one run.

Rates are persons/s by the clock of the whole machine, between the time everything is warm and the time work runs out: starting Ray, workers
and processes is left out on all sides. Sides take turns; medians of the rounds are reported. The loops without Ray run while no Ray is
up, because an idle one costs them some percent. Ours is the job as users run it: shards with digests, attempts noted, rows with quality
figures, Parquet, create-only commits, on a local disk. The null network is the mean pose.

Exactly-once against plain writes is measured on one worker in this process, where both differ in nothing but how they write: attempts,
digests, records and syncs to disk on the one side, a Parquet file written to its final name on the other. Its shards hold 256 photographs,
half of what ingest makes them by default. By the clock, rounds scatter by more than what is to be measured: hence a row of CPU time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.annotate_opponents import BATCH, Photograph, cutter_loop, dali_loop, opencv_loop, steady_rate, textbook_loop
from benchmarks.annotators import trained
from benchmarks.photos import SPLIT, photographs
from engine.annotators.base import Annotator
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.network import NetworkAnnotator
from engine.annotators.network_config import NetworkAnnotatorConfig
from engine.datasets.base import DatasetConfig
from engine.fanout.actor import ShardWorker
from engine.fanout.config import PoolConfig
from engine.fanout.plan import plan_annotation
from engine.fanout.pool import run_shards
from engine.fanout.shard_stages import BatchMemory, CropStages, EncodedShard, NetworkStages, ShardWork
from engine.fanout.stages import Stage, Ticket
from engine.fanout.work import WorkerSpec
from engine.loading.boxes import person_box
from engine.loading.crops import crop_affine
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from schemas.crops import CropSpec
from schemas.manifests import ShardPlan
from schemas.records import sha256_hex

CROP = CropSpec(256, 192)
PHOTOGRAPHS, PER_SHARD, ROUNDS = 2400, 64, 3
CORES = 2
POOL = PoolConfig(min_size=CORES, max_size=CORES, cpus=1.0)
LONELY = PoolConfig(min_size=1, max_size=1, cpus=1.0)
EXACTLY_ONCE_ROUNDS, LARGE_PER_SHARD = 14, 256
RESNET_SHARDS, RESNET_PER_SHARD, RESNET_BATCH = 14, 32, 32


def measure() -> list[dict[str, Any]]:
    """Rows of bench.json."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="annotate-") as scratch:
        folder = Path(scratch)
        root, words = photographs(folder, PHOTOGRAPHS)
        dataset = DatasetConfig(name="coco", root=str(root), split=SPLIT)
        ingest(IngestConfig(dataset=dataset, out=str(folder / "shards"), samples_per_shard=PER_SHARD, workers=0))
        ingest(IngestConfig(dataset=dataset, out=str(folder / "small"), samples_per_shard=RESNET_PER_SHARD, workers=0))
        ingest(IngestConfig(dataset=dataset, out=str(folder / "large"), samples_per_shard=LARGE_PER_SHARD, workers=0))
        photos, samples = _photographs(folder / "shards", root / SPLIT)
        job = _spec(folder / "shards", folder, partial(MeanPoseAnnotator, MeanPoseConfig()), BATCH)
        found: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            _note(found, "dali", dali_loop(photos, CROP, CORES))
            _note(found, "own cutter", _on_every_core(cutter_loop, samples[: len(samples) // 4], CROP))
            _note(found, "opencv", opencv_loop(photos[: len(photos) // 3], CROP, CORES))
            ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            try:
                _note(found, "ours", _ours(*job, POOL))
                _note(found, "one worker", _ours(job[0], job[1][: len(job[1]) // 2], LONELY))
                _note(found, "textbook", textbook_loop(photos[: len(photos) // 4], CROP))
                if number == 0:
                    resnet = _spec(folder / "small", folder, random_resnet50, RESNET_BATCH)
                    _note(found, "ours, resnet50", _ours(resnet[0], resnet[1][:RESNET_SHARDS], POOL))
            finally:
                ray.shutdown()
            if number == 0:
                _note(found, "resnet50", _on_every_core(_network_alone))
        found |= _exactly_once(*_spec(folder / "large", folder, partial(MeanPoseAnnotator, MeanPoseConfig()), BATCH))
    unit = f"persons/s, {CORES} cores, 256x192, {words}"
    for name, rates in found.items():
        print(f"{name}: {statistics.median(rates):.1f} persons/s ({', '.join(f'{rate:.1f}' for rate in sorted(rates))})", flush=True)
    pairs = {
        "annotate_null_vs_dali": ("ours", "dali"),
        "annotate_null_vs_own_cutter": ("ours", "own cutter"),
        "annotate_two_workers_vs_one": ("ours", "one worker"),
        "annotate_resnet50_vs_network": ("ours, resnet50", "resnet50"),
        "annotate_null_vs_ray_textbook": ("ours", "textbook"),
        "annotate_null_vs_opencv": ("ours", "opencv"),
        "exactly_once_vs_plain": ("exactly once", "plain"),
        "exactly_once_vs_plain_cpu": ("exactly once, CPU", "plain, CPU"),
    }
    return [_row(name, statistics.median(found[ours]), statistics.median(found[theirs]), unit) for name, (ours, theirs) in pairs.items()]


def _row(name: str, ours: float, reference: float, unit: str) -> dict[str, Any]:
    return {"name": name, "ours": ours, "reference": reference, "ratio": ours / reference, "unit": unit}


def _note(found: dict[str, list[float]], name: str, rate: float) -> None:
    print(f"{name}: {rate:.1f} persons/s", flush=True)
    found.setdefault(name, []).append(rate)


def _photographs(shards: Path, files: Path) -> tuple[list[Photograph], list]:
    shard_set = open_shard_set(str(shards))
    samples = [sample for entry in shard_set.manifest.shards for sample in read_samples(shard_set.fetch(entry), entry)]
    photos = []
    for sample, data in samples:
        boxes = [person_box(instance.bbox_xywh, (sample.width, sample.height), CROP) for instance in sample.instances]
        photos.append(Photograph(str(files / Path(sample.image_path).name), data, [crop_affine(box, CROP.hw) for box in boxes]))
    return photos, samples


def _spec(shards: Path, folder: Path, make: Callable[[], Annotator], batch_size: int) -> tuple[WorkerSpec, list[ShardPlan]]:
    shard_set = open_shard_set(str(shards))
    computing = {"batch_size": batch_size, "threads": 1, "device": "cpu", "decode_device": "cpu"}
    identity = replace(MeanPoseAnnotator(MeanPoseConfig()).identity(), digest=make().digest)
    plan = plan_annotation(shard_set.manifest, shard_set.digest, shard_set.url, identity, computing)
    spec = WorkerSpec(plan.digest(), plan.annotator_digest, plan.settings, str(folder / "store"), make, make, "bench", 3)
    return spec, list(plan.shards)


def _ours(spec: WorkerSpec, shards: list[ShardPlan], pool: PoolConfig) -> float:
    """Steady persons/s of a whole job through Ray Data, into an empty store."""
    shutil.rmtree(spec.out_url, ignore_errors=True)
    margin = pool.max_size * pool.in_flight / len(shards)
    return steady_rate(list(_results(pool, spec, shards)), min(margin, 0.3))


def _results(pool: PoolConfig, spec: WorkerSpec, shards: list[ShardPlan]) -> Iterator[tuple[float, int]]:
    for result in run_shards(pool, spec, shards):
        assert not result.failure, result.message
        yield time.perf_counter(), result.computed


def random_resnet50() -> NetworkAnnotator:
    """Pose2Pose with ResNet-50 and random weights, on the CPU in float32."""
    return NetworkAnnotator(replace(trained(), digest=sha256_hex(b"random")), "cpu", NetworkAnnotatorConfig())


def _network_alone() -> float:
    """Persons/s of the network on one thread, on tensors that are ready."""
    torch.set_num_threads(1)
    annotator = random_resnet50()
    crops_BHW3 = np.random.default_rng(0).integers(0, 256, (RESNET_BATCH, *CROP.hw, 3), dtype=np.uint8)
    annotator.predict(crops_BHW3)
    start, batches = time.perf_counter(), 6
    for _ in range(batches):
        annotator.predict(crops_BHW3)
    return batches * RESNET_BATCH / (time.perf_counter() - start)


def _on_every_core(loop: Callable[..., float], *arguments: Any) -> float:
    """Sum of the rates of a loop that runs in a process a core at the same time."""
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as processes:
        list(processes.map(abs, range(8 * CORES)))  # they are up
        return sum(future.result() for future in [processes.submit(loop, *arguments) for _ in range(CORES)])


class _PlainStages(NetworkStages):
    """Writes a shard's Parquet to its final name, as a plain writer does, and notes nothing."""

    def commit(self, ticket: Ticket, encoded: EncodedShard) -> Iterator[int]:
        path = Path(self._store.path(f"{ticket.work.shard.index:06d}.parquet"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.data)
        yield encoded.commit.annotated


class _PlainWorker(ShardWorker):
    def stages(self) -> list[Stage]:
        memory = BatchMemory(BATCH, self.annotator.crop)
        crop, network = CropStages(self.spec, self.annotator.crop, memory), _PlainStages(self.spec, self.annotator, self.store, memory)
        return crop.stages() + network.stages()

    def write(self, shard: ShardPlan) -> int:
        return self.pipeline.submit(ShardWork(shard)).result()


def _exactly_once(spec: WorkerSpec, shards: list[ShardPlan]) -> dict[str, list[float]]:
    """Persons/s by the clock, and of a second of CPU time, in this process, four shards in hand, either way of writing in turns."""
    kinds: dict[str, type[ShardWorker]] = {"exactly once": ShardWorker, "plain": _PlainWorker}
    found: dict[str, list[float]] = {f"{name}{of}": [] for name in kinds for of in ("", ", CPU")}
    spec = replace(spec, crop_threads=CORES)
    for number in range(EXACTLY_ONCE_ROUNDS + 1):
        for name in list(kinds)[:: 1 if number % 2 else -1]:  # who comes second finds memory that the first one has touched
            shutil.rmtree(spec.out_url, ignore_errors=True)
            worker = kinds[name](spec)
            write = worker.write if isinstance(worker, _PlainWorker) else (lambda shard, run=worker.run: run(shard).annotated)
            start, cpu = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(POOL.in_flight) as calls:
                persons = sum(calls.map(write, shards))
            if number:  # the first round fills caches
                found[name].append(persons / (time.perf_counter() - start))
                found[f"{name}, CPU"].append(persons / (time.process_time() - cpu))
            worker.pipeline.close()
    return found
