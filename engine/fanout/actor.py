"""The worker: fetch an image shard, annotate it, commit its rows. Ray Data runs many of these.

A worker has several shards in hand at a time, one call of Ray's each, and its stages overlap (`shard_stages.py`): while one batch is in
the network, the next is decoded, the one before becomes rows, and other shards are fetched and committed. Nothing is kept between
shards, so a shard done again elsewhere gives the same bytes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from engine.errors import CheckpointMismatch, EngineError, ShardCorrupt, StorageError
from engine.fanout.attempts import AttemptLedger
from engine.fanout.isolation import find_killers
from engine.fanout.shard_stages import BatchMemory, CropStages, NetworkStages, ShardWork
from engine.fanout.stages import Pipeline, Stage, Ticket
from engine.fanout.work import ShardResult, Usage, WorkerSpec
from engine.releases.commit import load_commit
from engine.releases.tables import CORRUPT, DIED, FAILED
from engine.storage import Store
from schemas.manifests import QuarantineRow, ShardCommit, ShardPlan

HUNG, SICK = 71, 73
"""Exit codes of a worker that was stuck with one image or batch, and of one that failed at everything."""
_SICK = 3
"""Shards that fail one after the other, after which a worker ends itself: the one that fails fastest would be given all the others."""
_LAST_WORDS_S = 2.0
_RETRY_PAUSE_S = 1.0
_searching = threading.Lock()
"""One child at a time: each of them loads a network of its own."""


class Worker:
    """What all workers share: attempts that are noted, failures that are results, stages that overlap.

    A subclass says what a shard passes through and what its result is made of.
    """

    stage_name = "annotate"
    pipeline: Pipeline

    def __init__(self, spec: WorkerSpec) -> None:
        """Never raises an EngineError: it becomes the result of every shard, so that a job with a wrong checkpoint says so and ends."""
        torch.set_num_threads(int(spec.settings["threads"]))
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.spec = spec
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._lock, self._failures = threading.Lock(), 0
        self.problem = ""
        try:
            self.store = Store(spec.out_url)
            self.annotator = spec.make_annotator()
            if self.annotator.digest != spec.annotator_digest:
                raise CheckpointMismatch(
                    f"annotator: planned with {spec.annotator_digest}, a worker loaded {self.annotator.digest}; submit the job again"
                )
        except EngineError as error:
            self.problem = f"a worker could not start: {type(error).__name__}: {error}"
            return
        self.ledger = AttemptLedger(self.store, spec.plan_digest, f"{spec.submission}-{self.stage_name}", spec.max_attempts)
        self.pipeline = Pipeline(self.stages(), spec.hang_s, give_up)

    def stages(self) -> list[Stage]:
        """What a shard passes through."""
        raise NotImplementedError

    def attempted(self, shard: ShardPlan, known: tuple[QuarantineRow, ...] = (), **given: Any) -> Any:
        """What the last stage makes of a shard, or a ShardResult: it is committed already, or it failed. Never raises."""
        result = self._attempted(shard, known, given)
        failed = isinstance(result, ShardResult) and result.failure == FAILED
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            sick = self._failures >= _SICK
        if sick:
            print(f"annotate: {_SICK} shards failed here one after the other; this worker ends itself", file=sys.stderr, flush=True)
            threading.Timer(_LAST_WORDS_S, os._exit, (SICK,)).start()
        return result

    def _attempted(self, shard: ShardPlan, known: tuple[QuarantineRow, ...], given: dict[str, Any]) -> Any:
        message = ""
        if self.problem:
            return ShardResult(shard.index, FAILED, self.problem)
        for number in range(self.spec.max_attempts):
            try:
                if (already := self.committed(shard)) is not None:
                    return already
                attempt = self.ledger.begin(shard.index)
                if attempt is None:
                    return self.failed(shard, DIED, f"{shard.url}: workers died of this shard again and again; look into their logs")
                try:
                    if attempt.careful:
                        known = self._searched(shard, known)
                    return self.pipeline.submit(ShardWork(shard, known, **given)).result()
                finally:
                    with suppress(StorageError):  # what is left of it counts as a death, which one shard can afford
                        self.ledger.end(attempt)
            except ShardCorrupt as error:
                if number or self.spec.max_attempts == 1:  # the first time it may have been the way here
                    return self.failed(shard, CORRUPT, str(error))
            except EngineError as error:
                return self.failed(shard, FAILED, f"{type(error).__name__}: {error}")
            except Exception as error:
                message = "".join(traceback.format_exception(error, limit=-3)).strip()
                time.sleep(_RETRY_PAUSE_S * 2**number)
        return self.failed(shard, FAILED, f"{shard.url}: failed {self.spec.max_attempts} times; the last one: {message}")

    def _searched(self, shard: ShardPlan, known: tuple[QuarantineRow, ...]) -> tuple[QuarantineRow, ...]:
        with _searching:
            found = find_killers(self.spec, shard, known)
        if len(found) == len(known):
            self.ledger.found_harmless(shard.index)
        return found

    def failed(self, shard: ShardPlan, failure: str, message: str) -> ShardResult:
        return ShardResult(shard.index, failure, message, usage=self.usage())

    def committed(self, shard: ShardPlan) -> ShardResult | None:
        """The result of a shard that somebody has committed already."""
        commit = load_commit(self.store, self.spec.plan_digest, shard.index)
        return None if commit is None else self.result(commit)

    def result(self, commit: ShardCommit, computed: int = 0, raced: bool = False, others: Usage | None = None) -> ShardResult:
        counts = {"annotated": commit.annotated, "quarantined": commit.quarantined, "computed": computed}
        return ShardResult(commit.index, record=commit.to_bytes().decode(), raced=raced, usage=(others or {}) | self.usage(), **counts)

    def usage(self) -> Usage:
        """How busy the stages of this worker were since this was asked last."""
        return {self.name: {name: (round(u.busy_share, 3), round(u.queue_share, 3)) for name, u in self.pipeline.usage().items()}}


class ShardWorker(Worker):
    """A Ray Data callable: a ShardPlan in `shard`, a ShardResult out in `result`, both as JSON. Called by several threads at a time."""

    def stages(self) -> list[Stage]:
        memory = BatchMemory(int(self.spec.settings["batch_size"]), self.annotator.crop)
        crop, network = CropStages(self.spec, self.annotator.crop, memory), NetworkStages(self.spec, self.annotator, self.store, memory)
        return crop.stages() + network.stages()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        return {"result": [json.dumps(asdict(self.run(ShardPlan.from_bytes(shard)))) for shard in batch["shard"]]}

    def run(self, shard: ShardPlan) -> ShardResult:
        """Annotate and commit one shard, unless that is done already."""
        done = self.attempted(shard)
        return done if isinstance(done, ShardResult) else self.result(done.outcome.commit, done.computed, done.outcome.raced)


def give_up(stage: str, ticket: Ticket) -> None:
    """End a worker that is stuck: its shards are attempted again, and looked into if that repeats itself."""
    print(f"annotate: stuck in stage {stage!r} with shard {ticket.work.shard.index}; this worker ends itself", file=sys.stderr, flush=True)
    os._exit(HUNG)
