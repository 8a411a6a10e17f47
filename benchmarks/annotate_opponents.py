"""The loops that annotation is measured against, written as their libraries' users write them, each with a network that does nothing.

All crop the same persons to 256x192, with the box and the affine that our own workers use. The DataLoader's items are (3, H, W) float32 in
[0, 1], as torchvision's ToTensor makes them and its users' networks take them; the others give uint8 (H, W, 3), as ours do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ray
import torch
from nvidia.dali import fn, pipeline_def, types
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from engine.loading.decode import Decoder
from engine.loading.persons import PersonCutter, StoredSample, find_people
from schemas.crops import CropSpec

BATCH = 64
_DECODED = 32


@dataclass(frozen=True)
class Photograph:
    """A file, its bytes, and the affine (2, 3) photograph px -> crop px of each of its persons."""

    path: str
    data: bytes
    affines: list[np.ndarray]


@pipeline_def
def _decoding(batches: Any):
    encoded = fn.external_source(source=batches, batch=True, dtype=types.UINT8, ndim=1, no_copy=True, cycle="raise")
    return fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=False)


def dali_loop(photographs: list[Photograph], crop: CropSpec, threads: int) -> float:
    """Persons/s of DALI decoding whole images on its threads, ahead of this thread, which warps every person with OpenCV."""
    cv2.setNumThreads(1)
    batches = [[np.frombuffer(p.data, np.uint8) for p in photographs[i : i + _DECODED]] for i in range(0, len(photographs), _DECODED)]
    pipeline = _decoding(batches, batch_size=_DECODED, num_threads=threads, device_id=None, prefetch_queue_depth=2)
    pipeline.build()
    crops_BHW3 = np.empty((BATCH, *crop.hw, 3), np.uint8)
    persons = at = 0
    start, counted = 0.0, 0
    for number in range(len(batches)):
        (images,) = pipeline.run()
        if number == 2:  # the first ones fill the queue
            start, counted = time.perf_counter(), persons
        for i in range(len(images)):
            pixels = np.asarray(images[i])
            for affine_23 in photographs[at].affines:
                cv2.warpAffine(pixels, affine_23, crop.hw[::-1], dst=crops_BHW3[persons % BATCH], flags=cv2.INTER_LINEAR)
                persons += 1
            at += 1
    return (persons - counted) / (time.perf_counter() - start)


def cutter_loop(samples: list[StoredSample], crop: CropSpec) -> float:
    """Persons/s of one thread of the engine's own decoding and cropping, and nothing else."""
    cutter = PersonCutter(Decoder(threads=1, max_batch=16))
    people, crops_BHW3 = find_people(samples, crop), np.empty((BATCH, *crop.hw, 3), np.uint8)
    start = time.perf_counter()
    for images in people.chunks(16):
        cutter.cut(people, images, lambda person: crops_BHW3[person % BATCH])
    return len(people) / (time.perf_counter() - start)


class _OnePerson(Dataset):
    """An item is a person, for whom the whole photograph is read."""

    def __init__(self, photographs: list[Photograph], crop_hw: tuple[int, int]) -> None:
        self.persons = [(photograph.path, affine_23) for photograph in photographs for affine_23 in photograph.affines]
        self.crop_hw = crop_hw

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: int) -> torch.Tensor:
        cv2.setNumThreads(1)
        path, affine_23 = self.persons[index]
        image = cv2.imread(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        crop_HW3 = cv2.warpAffine(image, affine_23, self.crop_hw[::-1], flags=cv2.INTER_LINEAR)
        return torch.from_numpy(crop_HW3.transpose(2, 0, 1).copy()).float().div_(255)


def opencv_loop(photographs: list[Photograph], crop: CropSpec, workers: int) -> float:
    """Persons/s of a torch DataLoader with worker processes, a person an item."""
    loader = DataLoader(_OnePerson(photographs, crop.hw), batch_size=BATCH, num_workers=workers, multiprocessing_context="forkserver")
    times = [time.perf_counter() for _ in loader]
    warm = 2 * workers  # batches that were prefetched while the workers started
    return (len(times) - 1 - warm) * BATCH / (times[-1] - times[warm])


class _Crop:
    def __init__(self, affines: dict[str, list[np.ndarray]], crop_hw: tuple[int, int]) -> None:
        self.affines, self.crop_hw = affines, crop_hw

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        crops = []
        for image, path in zip(batch["image"], batch["path"], strict=True):
            picture = Image.fromarray(image)
            for affine_23 in self.affines[Path(path).name]:
                inverse_23 = cv2.invertAffineTransform(affine_23)
                crops.append(np.asarray(picture.transform(self.crop_hw[::-1], Image.Transform.AFFINE, inverse_23.ravel(), Image.BILINEAR)))
        return {"crop": np.stack(crops)}


class _NullNetwork:
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"pose": np.zeros((len(batch["crop"]), 72), np.float32)}


def textbook_loop(photographs: list[Photograph], crop: CropSpec) -> float:
    """Persons/s of Ray Data's textbook: read_images, PIL crops in map_batches, the network's class in map_batches."""
    affines = {Path(photograph.path).name: photograph.affines for photograph in photographs}
    work = ray.data.read_images([photograph.path for photograph in photographs], include_paths=True, mode="RGB")
    work = work.map_batches(_Crop(affines, crop.hw), batch_size=16)
    work = work.map_batches(_NullNetwork, batch_size=BATCH, concurrency=1)
    return steady_rate(_arrivals(work), 0.2)


def _arrivals(work: ray.data.Dataset) -> Iterator[tuple[float, int]]:
    for batch in work.iter_batches(batch_size=None):
        yield time.perf_counter(), len(batch["pose"])


def steady_rate(arrivals: Iterator[tuple[float, int]] | list[tuple[float, int]], margin: float) -> float:
    """Persons/s between the first and the last `margin` of the arrivals (time, persons): without filling up and running dry."""
    arrived = list(arrivals)
    cut = max(1, round(margin * len(arrived)))
    kept = arrived[cut - 1 : len(arrived) - cut]
    return sum(persons for _, persons in kept[1:]) / (kept[-1][0] - kept[0][0])
