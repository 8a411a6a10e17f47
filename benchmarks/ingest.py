"""Ingest against the plainest thing one could do with the same photographs, side by side in one run; and the memory that a large set takes.

What is timed is CPU time of this process, user and system, over the images; every side is pinned to the same core, sides take turns,
medians are reported. Photographs of COCO, passed through untouched, from and to the operating system's memory of files.

- `copy`: Python's tarfile adds the files to tars of 512. It looks at nothing and writes no annotation.
- `ShardWriter`: the script everybody writes: the annotation file loaded whole, persons grouped by image, image and persons written by
  webdataset.ShardWriter. It checks nothing.
- ours, `shards`: tars, indices and records from a catalogue that is filled: image's structure checked, sizes compared, boxes checked,
  everything hashed and flushed to the disk. `whole`: annotations read, validated and sorted too, which the driver does.

Memory: the peak of driver and of the largest worker (resident) while a real Ray ingests frames of tfrecords in InstaVariety's layout. The
reference is what a worker may have: 1 GiB. `python -m benchmarks.ingest --persons=N` measures another number than 200,000.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import webdataset

from benchmarks.photos import SPLIT, photographs
from engine.datasets.base import DatasetConfig
from engine.shards.catalogue import chunks
from engine.shards.ingest import IngestConfig, filled, ingest, open_work
from engine.shards.picture import Picture
from engine.shards.shard_job import ShardJob, make_shard
from engine.synthetic.layouts import instavariety
from engine.synthetic.shots import Mannequin, make_shots

IMAGES, PER_SHARD, ROUNDS = 1_500, 512, 9
PERSONS, FRAMES, TRACKS = 200_000, 500, 50
"""Frames a track, tracks a file."""
LIMIT_GIB = 1.0


def measure() -> list[dict]:
    """Rows of bench.json."""
    return [*_throughput(), *_memory(PERSONS)]


def _throughput() -> list[dict]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # pinned to a core, which the next does not want
        rates, what = process.submit(_rates).result()
    unit = f"images/s of one core's CPU time, {what}"
    pairs = [
        ("ingest_shards_vs_copy", "ours, shards", "copy"),
        ("ingest_whole_vs_copy", "ours, whole", "copy"),
        ("ingest_whole_vs_shardwriter", "ours, whole", "ShardWriter"),
    ]
    return [
        {"name": name, "ours": rates[ours], "reference": rates[theirs], "ratio": rates[ours] / rates[theirs], "unit": unit}
        for name, ours, theirs in pairs
    ]


def _rates() -> tuple[dict[str, float], str]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        root, what = photographs(Path(folder), IMAGES)
        files = sorted((root / SPLIT).iterdir())
        mean_kb = statistics.mean(file.stat().st_size for file in files) / 1e3
        out = Path(folder) / "out"
        config = IngestConfig(
            dataset=DatasetConfig(name="coco", root=str(root), split=SPLIT), out=str(out), samples_per_shard=PER_SHARD, workers=0
        )
        work = open_work(config, lambda line: None)
        with filled(work, lambda line: None) as catalogue:
            pictures = list(chunks(catalogue.pictures(), PER_SHARD))
        sides: dict[str, Callable[[], object]] = {
            "copy": lambda: _copy(files, out),
            "ShardWriter": lambda: _shard_writer(root, out),
            "ours, shards": lambda: _make(config, pictures),
            "ours, whole": lambda: ingest(config),
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(ROUNDS + 1):
            for name, side in sides.items():
                out.mkdir()
                began = _cpu_s()
                side()
                if number:  # the first round fills caches
                    found[name].append(len(files) / (_cpu_s() - began))
                shutil.rmtree(out)
    for name, rates in found.items():
        print(f"{name}: {statistics.median(rates):.0f} images/s of CPU ({', '.join(f'{rate:.0f}' for rate in sorted(rates))})")
    return {name: statistics.median(rates) for name, rates in found.items()}, f"{len(files)} files of {mean_kb:.0f} kB, {what}"


def _copy(files: list[Path], out: Path) -> None:
    for start in range(0, len(files), PER_SHARD):
        with tarfile.open(out / f"{start}.tar", "w") as tar:
            for file in files[start : start + PER_SHARD]:
                tar.add(file, file.name)


def _shard_writer(root: Path, out: Path) -> None:
    content = json.loads((root / "annotations" / f"person_keypoints_{SPLIT}.json").read_text())
    persons = defaultdict(list)
    for annotation in content["annotations"]:
        persons[annotation["image_id"]].append({name: annotation[name] for name in ("id", "bbox", "keypoints")})
    with webdataset.ShardWriter(str(out / "%06d.tar"), maxcount=PER_SHARD, verbose=0) as writer:
        for image in content["images"]:
            data = (root / SPLIT / image["file_name"]).read_bytes()
            record = {"width": image["width"], "height": image["height"], "instances": persons[image["id"]]}
            writer.write({"__key__": Path(image["file_name"]).stem, "jpg": data, "json": record})


def _make(config: IngestConfig, shards: list[tuple[Picture, ...]]) -> None:
    for number, pictures in enumerate(shards):
        make_shard(ShardJob(number, config.out, "ingest/x", config.dataset.root, "coco", pictures, config.images, None))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory(persons: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        for step in (_write, _ingest):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                result = process.submit(step, folder, persons).result()
    driver_gib, worker_gib, seconds, size = result
    what = f"{persons} persons in {size / 1e9:.1f} GB of tfrecords, ingested in {seconds:.0f} s by 2 workers"
    print(f"memory: driver {driver_gib:.2f} GiB, largest worker {worker_gib:.2f} GiB; {what}")
    found = {"ingest_worker_gib": worker_gib, "ingest_driver_gib": driver_gib}
    return [
        {"name": name, "ours": gib, "reference": LIMIT_GIB, "ratio": LIMIT_GIB / gib, "unit": f"GiB, {what}"} for name, gib in found.items()
    ]


def _write(folder: str, persons: int) -> None:
    shots = make_shots(Mannequin(), 0, 64, people=(1, 1), hw=(300, 300))
    files = -(-persons // (FRAMES * TRACKS))
    tracks = -(-persons // (FRAMES * files))
    instavariety.write(Path(folder), shots, layout=instavariety.TrackFiles(files, tracks, FRAMES, phis=False))


def _ingest(folder: str, persons: int) -> tuple[float, float, float, int]:
    """GiB of driver and worker at their peaks, seconds, bytes of the raw files."""
    dataset = DatasetConfig(name="instavariety", root=folder, split="train")
    watch = _Watch()
    watch.start()
    began = time.perf_counter()
    manifest = ingest(IngestConfig(dataset=dataset, out=f"{folder}/out", workers=2), print)
    seconds = time.perf_counter() - began
    watch.done.set()
    watch.join()
    assert manifest.found_instances >= persons and manifest.instances > 0.9 * persons
    size = sum(path.stat().st_size for path in Path(folder, "train").iterdir())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, watch.largest_kib / 2**20, seconds, size


class _Watch(threading.Thread):
    """The largest resident size that one of this process's Ray workers ever had."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done, self.largest_kib = threading.Event(), 0

    def run(self) -> None:
        while not self.done.wait(0.2):
            parents, peaks = {}, {}
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    status, command = (folder / "status").read_text(), (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                parents[int(folder.name)] = int(re.search(r"PPid:\s+(\d+)", status)[1])
                if command.startswith(b"ray::") and (peak := re.search(r"VmHWM:\s+(\d+)", status)):
                    peaks[int(folder.name)] = int(peak[1])
            for process, kib in peaks.items():
                while process := parents.get(process, 0):
                    if process == os.getpid():
                        self.largest_kib = max(self.largest_kib, kib)
                        break


if __name__ == "__main__":
    given = [argument.removeprefix("--persons=") for argument in sys.argv[1:] if argument.startswith("--persons=")]
    for row in _memory(int(given[0])) if given else measure():
        print(json.dumps(row))
