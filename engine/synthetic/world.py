"""The small world: three raw datasets with known 3D truth, rendered by a few processes, written all or not at all.

Every image's randomness comes from (seed, set, index) alone, so any number of processes writes the same bytes. The world is
built in a folder beside its place and moved there when it is complete; asked for again, nothing is done.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch

from engine.errors import AlreadyExists
from engine.synthetic import coco, mocap, threedpw
from engine.synthetic.atlas import Mannequin
from engine.synthetic.config import SyntheticConfig

MARKER = "world.json"
FOLDERS = {"human36m": "human36m", "coco": "coco", "3dpw": "3dpw", "truth": "truth"}
Progress = Callable[[str, int, int], None]
"""Called with the set's name, images of it done, images of it in all."""

_RENDER = {"human36m": mocap.render_instant, "coco": coco.render_image, "3dpw": threedpw.render_sequence}
_BATCH_IMAGES = 16


def write_world(config: SyntheticConfig, progress: Progress | None = None) -> dict[str, str]:
    """Folders of the world by name: human36m, coco, 3dpw, truth.

    AlreadyExists if `config.out` holds anything but this very world; a world that is complete is left as it is.
    """
    out = Path(config.out).absolute()
    mannequin = Mannequin()
    digest = config.world_digest(mannequin.body.digest)
    paths = {name: str(out / folder) for name, folder in FOLDERS.items()}
    if _complete(out, digest):
        return paths
    building = out.with_name(f".{out.name}.building")
    if building.exists():
        shutil.rmtree(building)
    building.mkdir(parents=True)
    records = _render_all(config, mannequin, building, progress or (lambda name, done, total: None))
    mocap.write_annotations(config, records["human36m"], building)
    coco.write_annotations(config, records["coco"], building)
    counts = {name: sum(_images(name, r) for r in found) for name, found in records.items()}
    marker = {
        "digest": digest,
        "body": mannequin.body.digest,
        "images": counts,
        "config": config.model_dump(mode="json", exclude={"out", "workers"}),
    }
    (building / MARKER).write_text(json.dumps(marker, indent=1, sort_keys=True))
    if out.exists():
        out.rmdir()
    os.rename(building, out)
    return paths


def _complete(out: Path, digest: str) -> bool:
    """Whether this world is there. AlreadyExists if something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    marker = out / MARKER
    if not marker.is_file():
        raise AlreadyExists(f"{out}: expected an empty or absent folder, found other files; choose another `out` or clear it")
    found = json.loads(marker.read_text())["digest"]
    if found != digest:
        raise AlreadyExists(
            f"{out}: holds another synthetic world ({found[:12]}, this one is {digest[:12]}); choose another `out` or delete it"
        )
    return True


def _units(config: SyntheticConfig) -> dict[str, list[int]]:
    """Images of every unit of work, by set: an instant, an image, a sequence."""
    return {
        "human36m": [len(cameras) for _, _, cameras in mocap.instants(config)],
        "coco": [1] * config.itw_images,
        "3dpw": [frames for _, _, frames in threedpw.sequences(config)],
    }


def _images(name: str, record: dict[str, Any]) -> int:
    return 1 if name == "coco" else len(record["images"]) if name == "human36m" else record["images"]


def _render_all(config: SyntheticConfig, mannequin: Mannequin, root: Path, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    """Records of every set in order of their units, whichever process made them."""
    units = _units(config)
    batches = [(name, batch) for name, images in units.items() for batch in _batches(images)]
    records: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in units}
    done = dict.fromkeys(units, 0)

    def take(name: str, found: list[tuple[int, dict[str, Any]]]) -> None:
        records[name].update(found)
        done[name] += sum(units[name][index] for index, _ in found)
        progress(name, done[name], sum(units[name]))

    if config.workers == 1:
        with _one_thread():
            for name, batch in batches:
                take(name, _render_batch(config, mannequin, name, batch, root))
    else:
        with ProcessPoolExecutor(config.workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
            waiting = {pool.submit(_work, config, name, batch, str(root)): name for name, batch in batches}
            for future in as_completed(waiting):
                take(waiting[future], future.result())
    return {name: [found[i] for i in sorted(found)] for name, found in records.items()}


def _batches(images: list[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    held = 0
    for index, count in enumerate(images):
        batch.append(index)
        held += count
        if held >= _BATCH_IMAGES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _render_batch(
    config: SyntheticConfig, mannequin: Mannequin, name: str, batch: list[int], root: Path
) -> list[tuple[int, dict[str, Any]]]:
    return [(index, _RENDER[name](config, mannequin, index, root)) for index in batch]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch and OpenCV thread, so that sums are added up in one order wherever they are made."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


_worker: dict[str, Mannequin] = {}


def _start_worker() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker["mannequin"] = Mannequin()


def _work(config: SyntheticConfig, name: str, batch: list[int], root: str) -> list[tuple[int, dict[str, Any]]]:
    return _render_batch(config, _worker["mannequin"], name, batch, Path(root))
