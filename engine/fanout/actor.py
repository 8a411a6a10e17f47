"""The worker: fetch one image shard, annotate it, commit its rows. Ray Data runs many of these.

A worker is called by two threads at a time: while one shard is in the network (under the lock), the next one is fetched and the
previous one is written. Nothing is kept between shards, so a shard done again elsewhere gives the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from engine.annotators.base import Annotator
from engine.annotators.rows import ShardRows, annotate_batches
from engine.errors import CheckpointMismatch, EngineError, ShardCorrupt
from engine.fanout.attempts import AttemptLedger
from engine.loading.decode import Decoder
from engine.loading.persons import person_batches
from engine.releases.commit import commit_shard, load_commit, make_commit
from engine.releases.tables import CORRUPT, DIED, FAILED, encode
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from schemas.manifests import AnnotationPlan, ShardCommit, ShardPlan
from schemas.sample import Sample

_RETRY_PAUSE_S = 1.0
_LOST_DEVICE = 70


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to start; small and picklable."""

    plan: AnnotationPlan
    shard_set_url: str
    out_url: str
    make_annotator: Callable[[], Annotator]
    submission: str
    max_attempts: int


@dataclass(frozen=True)
class ShardResult:
    """What a worker reports of one shard. `failure` is empty, or one of CORRUPT, DIED, FAILED."""

    index: int
    failure: str = ""
    message: str = ""
    annotated: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    compute_s: float = 0.0
    raced: bool = False


class ShardWorker:
    """A Ray Data callable: a shard's `index` in, a ShardResult as JSON in `result` out."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Raises CheckpointMismatch when the annotator found here is not the one that was planned."""
        settings = spec.plan.settings
        torch.set_num_threads(settings["threads"])
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.spec = spec
        self.digest = spec.plan.digest()
        self.store = Store(spec.out_url)
        self.shard_set = open_shard_set(spec.shard_set_url)
        if self.shard_set.digest != spec.plan.shard_set_digest:
            raise ShardCorrupt(f"{spec.shard_set_url}: its manifest changed since the job was planned; submit the job again")
        self.annotator = spec.make_annotator()
        if self.annotator.digest != spec.plan.annotator_digest:
            raise CheckpointMismatch(
                f"annotator: planned with {spec.plan.annotator_digest}, a worker loaded {self.annotator.digest}; submit the job again"
            )
        self.decoder = Decoder(threads=settings["threads"], device=settings["decode_device"])
        self.ledger = AttemptLedger(self.store, self.digest, spec.submission, spec.max_attempts)
        self.lock = threading.Lock()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"result": [json.dumps(asdict(self.run(self.spec.plan.shards[int(i)]))) for i in batch["index"]]}

    def run(self, shard: ShardPlan) -> ShardResult:
        """Annotate and commit one shard, unless that is done already. A failure is a result, never an exception."""
        message = ""
        for attempt in range(self.spec.max_attempts):
            try:
                return self._run_once(shard)
            except ShardCorrupt as error:
                return ShardResult(shard.index, CORRUPT, str(error))
            except EngineError as error:
                return ShardResult(shard.index, FAILED, f"{type(error).__name__}: {error}")
            except Exception:
                message = traceback.format_exc(limit=-3).strip()
                time.sleep(_RETRY_PAUSE_S * 2**attempt)
        return ShardResult(shard.index, FAILED, f"{shard.url}: failed {self.spec.max_attempts} times; the last one: {message}")

    def _run_once(self, shard: ShardPlan) -> ShardResult:
        done = load_commit(self.store, self.digest, shard.index)
        if done is not None:
            return _result(done)
        samples = read_samples(self.shard_set.fetch(self.shard_set.manifest.shards[shard.index]), shard)
        with self.lock:
            record = self.ledger.begin(shard.index)
            if record is None:
                message = f"{shard.url}: {self.spec.max_attempts} workers died while annotating this shard; look into their logs"
                return ShardResult(shard.index, DIED, message)
            start = time.perf_counter()
            try:
                rows = self._annotate(samples)
            finally:
                self.ledger.end(record)
            compute_s = time.perf_counter() - start
        parquet = encode(rows.table)
        outcome = commit_shard(self.store, make_commit(self.digest, shard, parquet, rows.table, rows.quarantine), parquet)
        return _result(outcome.commit, compute_s, outcome.raced)

    def _annotate(self, samples: list[tuple[Sample, bytes]]) -> ShardRows:
        batches = person_batches(samples, self.decoder, self.annotator.crop, self.spec.plan.settings["batch_size"])
        try:
            return annotate_batches(batches, self.annotator)
        except torch.AcceleratorError:  # the device context is lost for this process: let Ray start another one
            traceback.print_exc()
            os._exit(_LOST_DEVICE)


def _result(commit: ShardCommit, compute_s: float = 0.0, raced: bool = False) -> ShardResult:
    return ShardResult(commit.index, annotated=commit.annotated, quarantined=commit.quarantined, compute_s=compute_s, raced=raced)
