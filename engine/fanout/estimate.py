"""How long a job will take, from a few persons of it annotated here and now: printed by a dry run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch

from engine.annotators.base import Annotator
from engine.annotators.rows import annotate_batches
from engine.fanout.config import AnnotateConfig
from engine.loading.decode import Decoder
from engine.loading.persons import person_batches
from engine.releases.tables import encode
from engine.shards.reader import read_verified_samples
from engine.shards.staging import Staging
from schemas.manifests import ShardPlan


@dataclass(frozen=True)
class Estimate:
    """Of one worker on a machine like this one. Seconds a person; bytes of a row."""

    persons: int
    crop_s: float
    network_s: float
    row_bytes: float

    def persons_per_s(self, crop_threads: int, workers: int, cropping_apart: int = 0) -> float:
        """Stages overlap, so the slowest one is the rate. `cropping_apart`: cropping workers, where cropping has workers of its own."""
        crops_per_s = (cropping_apart or workers) * crop_threads / self.crop_s
        return min(crops_per_s, workers / self.network_s)


def measure(shard: ShardPlan, make_annotator: Callable[[], Annotator], config: AnnotateConfig) -> Estimate | None:
    """Annotate a batch of a shard twice, the second time by the clock, and write nothing. None when it holds nobody to crop."""
    torch.set_num_threads(config.threads)
    annotator, decoder = make_annotator(), Decoder(threads=1, device=config.decode_device)
    with Staging(config.staging).open(shard) as tar:
        samples = read_verified_samples(tar, shard)
    for _ in range(2):  # the first time fills caches, compiles, chooses algorithms
        start = time.perf_counter()
        (batch,) = list(islice(person_batches(samples, decoder, annotator.crop, config.batch_size), 1)) or [None]
        cropped = time.perf_counter()
        if batch is None or not len(batch):
            return None
        rows = annotate_batches([batch], annotator, config.batch_size)
        end = time.perf_counter()
    n = len(batch)
    network_s = (end - cropped) / config.batch_size  # padded to the whole batch, which costs what a full one costs
    return Estimate(n, (cropped - start) / n, network_s, len(encode(rows.table)) / max(1, rows.table.num_rows))
