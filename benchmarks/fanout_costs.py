"""What a shard costs whoever it passes, apart from its photographs: the constants of the model in docs/SCALING.md.

Shards of one small photograph with one person go through Ray Data to workers with the mean pose, on a local disk. The driver's cost is the
CPU time of its process, all threads, over the shards: Ray Data's scheduling, results, progress, metrics. It bounds how many shards a
second one job can hand out, whatever the number of workers.
"""

from __future__ import annotations

import io
import tempfile
import time
from functools import partial
from typing import Any

import ray
from PIL import Image

from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.fanout.config import PoolConfig
from engine.fanout.plan import plan_annotation
from engine.fanout.pool import run_shards
from engine.fanout.work import WorkerSpec
from engine.shards.writer import write_shard
from engine.storage import Store
from schemas.manifests import ShardEntry, ShardSetManifest
from schemas.records import sha256_hex
from schemas.sample import Instance, Sample

SHARDS, WARM = 600, 40
WORKERS = 2


def measure() -> list[dict[str, Any]]:
    """Rows of bench.json: milliseconds of the driver's CPU a shard, against the 10 ms that a hundred shards a second allow."""
    with tempfile.TemporaryDirectory(prefix="fanout-") as scratch:
        shard_set = _tiny_shards(f"{scratch}/set")
        identity = MeanPoseAnnotator(MeanPoseConfig()).identity()
        computing = {"batch_size": 1, "threads": 1, "device": "cpu", "decode_device": "cpu"}
        plan = plan_annotation(shard_set, shard_set.digest(), f"{scratch}/set", identity, computing)
        make = partial(MeanPoseAnnotator, MeanPoseConfig())
        spec = WorkerSpec(plan.digest(), plan.annotator_digest, plan.settings, f"{scratch}/out", make, make, "bench", 3)
        ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            cpu = wall = 0.0
            for number, _ in enumerate(run_shards(PoolConfig(min_size=WORKERS, max_size=WORKERS), spec, list(plan.shards)), 1):
                if number == WARM:
                    cpu, wall = time.process_time(), time.perf_counter()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        finally:
            ray.shutdown()
    shards = SHARDS - WARM
    print(f"driver: {cpu / shards * 1e3:.2f} ms of CPU a shard; {shards / wall:.1f} shards/s with {WORKERS} workers on this machine")
    ms = cpu / shards * 1e3
    return [{"name": "driver_ms_per_shard", "ours": ms, "reference": 10.0, "ratio": 10.0 / ms, "unit": "ms of the driver's CPU"}]


def _tiny_shards(url: str) -> ShardSetManifest:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(buffer, "JPEG")
    person = Instance(annotation_id="1", bbox_xywh=(8, 8, 40, 40), skeleton="coco17", joints_img=((0, 0),) * 17, joints_valid=(False,) * 17)
    store, entries = Store(url), []
    for number in range(SHARDS):
        sample = Sample(key=f"k{number:06d}", dataset="tiny", image_path="x", width=64, height=64, instances=(person,))
        data, index = write_shard([(sample, buffer.getvalue(), "jpg")])
        path = f"shards/{number:06d}.tar"
        store.create(path, data)
        digests = {"sha256": sha256_hex(data), "index_path": f"{path}.index", "index_sha256": sha256_hex(index)}
        entries.append(ShardEntry(path=path, size_bytes=len(data), samples=1, instances=1, **digests))
    counts = {"samples": SHARDS, "instances": SHARDS, "found_instances": SHARDS, "skipped": {}, "quarantined": {}, "quarantine": ()}
    nothing = sha256_hex(b"nothing")
    manifest = ShardSetManifest(
        dataset="tiny", split="all", supervision="itw2d", shards=tuple(entries), raw_digest=nothing, config_digest=nothing,
        created_at="2026-01-01T00:00:00+00:00", **counts,
    )  # fmt: skip
    store.create("manifest.json", manifest.to_bytes())
    return manifest
