"""The loading path alone against the loops that users have today, on the same photographs, side by side in one run.

What is timed is CPU time: of this process with all its threads, user and system, over the persons delivered. It is what a core is worth,
and other work on the machine moves it less than the clock. Every side runs with one thread and is pinned to the same core; sides take
turns, an epoch each; medians are reported. Files are in memory (page cache) for all. The opponents run inside the process
(num_workers=0): with one core a worker process can only add the cost of sending batches.

Ours ends with uint8 crops, which the network scales to [0, 1] on its own device; the opponents end with float32 in [0, 1], as their users'
networks take them. Annotations are parsed before the clock starts, on all sides: ours keeps them from the first epoch on.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.loading_opponents import HM_DHW, OpenCVPersons, pil_persons, write_tar
from benchmarks.photos import SPLIT, photographs
from engine.body.smpl import BodyConfig, load_body
from engine.datasets.base import DatasetConfig
from engine.loading.augmentation import AugmentConfig
from engine.loading.batches import BatchStream, LoadingConfig
from engine.loading.sources import SourceConfig
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.person_crops import PersonCropConfig
from schemas.crops import CropSpec

CROP, BATCH, ROUNDS = CropSpec(256, 192), 64, 9


def measure() -> list[dict]:
    """Rows of bench.json: persons a second of a core's time, ours and the reference's."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root, what = photographs(Path(folder))
        sides = _sides(Path(folder), root, stack)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for number in range(ROUNDS + 1):
            for name, epoch in sides.items():
                rates = _timed(epoch)
                if number:  # the first round fills caches
                    found[name].append(rates)
    rate = {name: statistics.median(cpu for cpu, _ in rates) for name, rates in found.items()}
    unit = f"persons/s of one core's CPU time, 256x192, {what}"
    for name, rates in found.items():
        spread = ", ".join(f"{cpu:.0f}" for cpu, _ in sorted(rates))
        print(f"{name}: {rate[name]:.0f} persons/s of CPU ({spread}); by the clock {statistics.median(wall for _, wall in rates):.0f}")
    pairs = [
        ("loading_vs_opencv", "ours", "opencv"),
        ("loading_vs_webdataset_pil", "ours", "webdataset + PIL"),
        ("loading_crops_vs_opencv", "ours, person crops", "opencv"),
    ]
    return [
        {"name": name, "ours": rate[ours], "reference": rate[theirs], "ratio": rate[ours] / rate[theirs], "unit": unit}
        for name, ours, theirs in pairs
    ]


def _sides(folder: Path, root: Path, stack: ExitStack) -> dict[str, Callable[[], int]]:
    """An epoch of each loader, as a call that returns the persons delivered. They are checked to give the same crops and targets."""
    dataset, tar = DatasetConfig(name="coco", root=str(root), split=SPLIT), folder / "photographs.tar"
    urls = {"ours": str(folder / "shards"), "ours, person crops": str(folder / "crops")}
    for url, crops in zip(urls.values(), (None, PersonCropConfig()), strict=True):
        ingest(IngestConfig(dataset=dataset, out=url, samples_per_shard=64, person_crops=crops, workers=0))
    write_tar(tar, root, CROP)
    _check({name: _stream(url, AugmentConfig.off(), stack) for name, url in urls.items()}, root, tar)
    augment = AugmentConfig()
    opencv = DataLoader(OpenCVPersons(root, CROP, augment), BATCH, shuffle=True, drop_last=True)
    pil = pil_persons(tar, CROP, augment, BATCH)
    ours = {name: _ours(_stream(url, augment, stack)) for name, url in urls.items()}
    theirs = {"opencv": lambda: sum(len(b["image"]) for b in opencv), "webdataset + PIL": lambda: sum(len(b["image"]) for b in pil)}
    return ours | theirs


def _stream(url: str, augment: AugmentConfig, stack: ExitStack) -> BatchStream:
    config = LoadingConfig(itw=(SourceConfig(url=url),), batch_size=BATCH, augment=augment)
    return stack.enter_context(BatchStream(config, CROP, load_body(BodyConfig()), hm_dhw=HM_DHW))


def _ours(stream: BatchStream) -> Callable[[], int]:
    epochs: Iterator[int] = iter(range(1_000_000))
    return lambda: sum(len(batch["ids"]) for batch in stream.batches(next(epochs)))


def _timed(epoch: Callable[[], int]) -> tuple[float, float]:
    """Persons a second of CPU time, and by the clock."""
    cpu, wall = _cpu_s(), time.perf_counter()
    persons = epoch()
    return persons / (_cpu_s() - cpu), persons / (time.perf_counter() - wall)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _check(ours: dict[str, BatchStream], root: Path, tar: Path) -> None:
    """Without augmentation all sides must agree: crops up to JPEG decoders and resampling, joints exactly."""
    opponent = OpenCVPersons(root, CROP, AugmentConfig.off())
    expected = {person.name: opponent[index] for index, person in enumerate(opponent.persons[: 2 * BATCH])}
    first = next(iter(pil_persons(tar, CROP, AugmentConfig.off(), BATCH)))
    order = list(expected)[:BATCH]
    _compare("webdataset + PIL", [(expected[n], first["image"][i], first["joint_img"][i]) for i, n in enumerate(order)], 2.0)
    for name, stream in ours.items():
        pairs = []
        for batch in stream.batches(0):
            for i, who in enumerate(batch["ids"]):
                known = who if name == "ours" else _whole(who)
                if known in expected:
                    pairs.append((expected[known], batch["image"][i].float() / 255, batch["joint_img"][i]))
        _compare(name, pairs, 2.0 if name == "ours" else 6.0)


def _whole(crop: str) -> str:
    """The name of a person of a photograph, from that of its person crop: "coco/KEY-0/ID" to "coco/KEY/ID"."""
    dataset, key, annotation_id = crop.split("/")
    return f"{dataset}/{key.rpartition('-')[0]}/{annotation_id}"


def _compare(name: str, pairs: list, levels: float) -> None:
    assert pairs, f"{name}: no person in common"
    for theirs, image, joints in pairs:
        difference = 255 * float((image - torch.from_numpy(theirs["image"])).abs().mean())
        assert difference < levels, f"{name}: crops differ by {difference:.1f} of 255 levels on average"
        assert np.allclose(joints, theirs["joint_img"], atol=1e-3), f"{name}: other targets"
