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
import time
import traceback
from dataclasses import asdict

import numpy as np
import torch

from engine.errors import CheckpointMismatch, EngineError, ShardCorrupt
from engine.fanout.attempts import AttemptLedger
from engine.fanout.isolation import find_killers
from engine.fanout.shard_stages import CropStages, Done, NetworkStages, ShardWork
from engine.fanout.stages import Pipeline, Ticket
from engine.fanout.work import CORRUPT, DIED, FAILED, ShardResult, WorkerSpec
from engine.releases.commit import load_commit
from engine.shards.reader import ShardSet, open_shard_set
from engine.storage import Store
from schemas.manifests import ShardCommit, ShardPlan

HUNG = 71
"""Exit code of a worker that was stuck with one image or batch."""
_RETRY_PAUSE_S = 1.0


class ShardWorker:
    """A Ray Data callable: a shard's `index` in, a ShardResult as JSON in `result` out. Called by several threads at a time."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Raises CheckpointMismatch when the annotator found here is not the one that was planned."""
        settings = spec.plan.settings
        torch.set_num_threads(int(settings["threads"]))
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.spec = spec
        self.digest = spec.plan.digest()
        self.store = Store(spec.out_url)
        shard_set = planned_shard_set(spec)
        annotator = spec.make_annotator()
        if annotator.digest != spec.plan.annotator_digest:
            raise CheckpointMismatch(
                f"annotator: planned with {spec.plan.annotator_digest}, a worker loaded {annotator.digest}; submit the job again"
            )
        self.ledger = AttemptLedger(self.store, self.digest, spec.submission, spec.max_attempts)
        stages = CropStages(spec, shard_set, annotator.crop).stages() + NetworkStages(spec, annotator, self.store).stages()
        self.pipeline = Pipeline(stages, spec.hang_s, _give_up)
        self.name = f"{socket.gethostname()}:{os.getpid()}"

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
            except Exception as error:
                message = "".join(traceback.format_exception(error, limit=-3)).strip()
                time.sleep(_RETRY_PAUSE_S * 2**attempt)
        return ShardResult(shard.index, FAILED, f"{shard.url}: failed {self.spec.max_attempts} times; the last one: {message}")

    def _run_once(self, shard: ShardPlan) -> ShardResult:
        committed = load_commit(self.store, self.digest, shard.index)
        if committed is not None:
            return self._result(committed)
        attempt = self.ledger.begin(shard.index)
        if attempt is None:
            return ShardResult(
                shard.index, DIED, f"{shard.url}: workers died again and again while annotating this shard; look into their logs"
            )
        try:
            known = find_killers(self.spec, shard) if attempt.careful else ()
            done: Done = self.pipeline.submit(ShardWork(shard, known)).result()
        finally:
            self.ledger.end(attempt)
        return self._result(done.outcome.commit, done.computed, done.outcome.raced)

    def _result(self, commit: ShardCommit, computed: int = 0, raced: bool = False) -> ShardResult:
        stages = {name: (round(u.busy_share, 3), round(u.queue_share, 3)) for name, u in self.pipeline.usage().items()}
        return ShardResult(
            commit.index,
            annotated=commit.annotated,
            quarantined=commit.quarantined,
            computed=computed,
            raced=raced,
            worker=self.name,
            stages=stages,
        )


def planned_shard_set(spec: WorkerSpec) -> ShardSet:
    """The shard set as it was planned. ShardCorrupt when its manifest is another one by now."""
    shard_set = open_shard_set(spec.shard_set_url)
    if shard_set.digest != spec.plan.shard_set_digest:
        raise ShardCorrupt(f"{spec.shard_set_url}: its manifest changed since the job was planned; submit the job again")
    return shard_set


def _give_up(stage: str, ticket: Ticket) -> None:
    """End a worker that is stuck: its shards are attempted again, and looked into if that repeats itself."""
    print(f"annotate: stuck in stage {stage!r} with shard {ticket.work.shard.index}; this worker ends itself", file=sys.stderr, flush=True)
    os._exit(HUNG)
