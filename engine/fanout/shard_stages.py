"""What happens to a shard inside a worker, stage by stage: fetch, crop, network, rows, commit.

    fetch    the tar's bytes, checked; its samples in chunks
    crop     a chunk decoded once an image and cropped; several threads may do chunks of one shard
    network  chunks put back into order, batches of one constant size, the annotator's predictions
    rows     rows and quality figures of a batch; at the last one, the shard's Parquet bytes
    commit   object, then record

The order of persons in batches depends on the shard alone, so a shard done again elsewhere gives the same bytes.

Shapes: N crops.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from engine import faults
from engine.annotators.base import Annotator, Prediction
from engine.annotators.rows import BatchRows, assemble, batch_rows
from engine.fanout.stages import Stage, Ticket
from engine.fanout.work import WorkerSpec
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, PersonCutter, Regrouping, StoredSample, chunks, nobody, take
from engine.releases.commit import CommitOutcome, commit_shard, make_commit
from engine.releases.tables import encode
from engine.shards.reader import fetch_shard, read_samples
from engine.storage import Store
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow, ShardCommit, ShardPlan

PERSON_ERROR = "person_error"
"""Reason of a person over whose crop the annotator raised something, while it does not over a blank one."""
LOST_DEVICE = 70
"""Exit code of a worker whose device context is lost: Ray starts another one."""
FETCH_THREADS, COMMIT_THREADS = 2, 2
_CHUNK_IMAGES = 16


@dataclass(frozen=True)
class ShardWork:
    """A shard to do, and what is known of it already: images and persons that are not to be touched; its crops, where others cut them."""

    shard: ShardPlan
    known: tuple[QuarantineRow, ...] = ()
    crops: CropBatch | None = None


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a shard; `last`: no more come after these."""

    number: int
    last: bool
    samples: Sequence[StoredSample]


@dataclass(frozen=True)
class CroppedChunk:
    number: int
    last: bool
    persons: CropBatch


@dataclass(frozen=True)
class Predicted:
    """A batch and what the annotator says of it, None where it holds nobody; `last` of the shard."""

    batch: CropBatch
    out: Prediction | None
    last: bool


@dataclass(frozen=True)
class EncodedShard:
    commit: ShardCommit
    data: bytes


@dataclass(frozen=True)
class Done:
    outcome: CommitOutcome
    computed: int


class CropStages:
    """Fetch and crop: what needs CPU cores and no network."""

    def __init__(self, spec: WorkerSpec, crop: CropSpec) -> None:
        self._settings, self._crop = spec.settings, crop
        self._threads = spec.crop_threads
        self._local = threading.local()

    def stages(self) -> list[Stage]:
        return [
            Stage("fetch", self.fetch, FETCH_THREADS, capacity=1),
            Stage("crop", self.crop, self._threads, capacity=2 * self._threads),
        ]

    def fetch(self, ticket: Ticket, work: ShardWork) -> Iterator[Chunk]:
        samples = read_samples(fetch_shard(work.shard), work.shard)
        parts = list(chunks(samples, _CHUNK_IMAGES))
        for number, part in enumerate(parts):
            yield Chunk(number, number == len(parts) - 1, part)

    def crop(self, ticket: Ticket, chunk: Chunk) -> Iterator[CroppedChunk]:
        if not hasattr(self._local, "cutter"):
            decoder = Decoder(threads=1, max_batch=_CHUNK_IMAGES, device=self._settings["decode_device"])
            self._local.cutter = PersonCutter(decoder, self._crop)
        yield CroppedChunk(chunk.number, chunk.last, self._local.cutter.cut(chunk.samples, ticket.work.known))


class NetworkStages:
    """Network, rows and commit. Network and rows have one thread each: they keep a ticket's parts in its state."""

    def __init__(self, spec: WorkerSpec, annotator: Annotator, store: Store) -> None:
        self._annotator, self._body, self._store = annotator, annotator.body, store
        self._plan_digest = spec.plan_digest
        self._batch_size = int(spec.settings["batch_size"])

    def stages(self) -> list[Stage]:
        return [
            Stage("network", self.network, capacity=4),
            Stage("rows", self.rows, capacity=4),
            Stage("commit", self.commit, COMMIT_THREADS, capacity=COMMIT_THREADS),
        ]

    def network(self, ticket: Ticket, chunk: CroppedChunk) -> Iterator[Predicted]:
        state = ticket.state
        waiting: dict[int, CroppedChunk] = state.setdefault("waiting", {})
        grouping: Regrouping = state.setdefault("grouping", Regrouping(self._batch_size, self._annotator.crop))
        waiting[chunk.number] = chunk
        while (following := waiting.pop(state.setdefault("next", 0), None)) is not None:
            state["next"] += 1
            for batch in grouping.add(following.persons):
                state["computed"] = state.get("computed", 0) + len(batch)
                yield self._predicted(batch, last=False)
            if following.last:
                batch = next(grouping.rest(), None) or nobody(self._annotator.crop)
                state["computed"] = state.get("computed", 0) + len(batch)
                yield self._predicted(batch, last=True)

    def rows(self, ticket: Ticket, predicted: Predicted) -> Iterator[EncodedShard]:
        parts: list[BatchRows] = ticket.state.setdefault("rows", [])
        rejected: list[QuarantineRow] = ticket.state.setdefault("rejected", [])
        rejected += predicted.batch.rejected
        if predicted.out is not None:
            parts.append(batch_rows(predicted.batch, predicted.out, self._body, self._annotator.crop))
        if predicted.last:
            found = assemble(parts, rejected)
            data = encode(found.table)
            yield EncodedShard(make_commit(self._plan_digest, ticket.work.shard, data, found.table, found.quarantine), data)

    def commit(self, ticket: Ticket, encoded: EncodedShard) -> Iterator[Done]:
        outcome = commit_shard(self._store, encoded.commit, encoded.data)
        yield Done(outcome, ticket.state.get("computed", 0))

    def _predicted(self, batch: CropBatch, last: bool) -> Predicted:
        if not len(batch):
            return Predicted(batch, None, last)
        try:
            return self._predict(batch, last)
        except torch.AcceleratorError:
            traceback.print_exc()
            os._exit(LOST_DEVICE)

    def _predict(self, batch: CropBatch, last: bool) -> Predicted:
        """The annotator's word on a batch, padded with black crops to the one size; persons it raises over are rejected."""
        crops_BHW3 = batch.crops_NHW3
        if len(batch) < self._batch_size:
            crops_BHW3 = np.zeros((self._batch_size, *crops_BHW3.shape[1:]), np.uint8)
            crops_BHW3[: len(batch)] = batch.crops_NHW3
        if faults.armed("predict"):
            for key in dict.fromkeys(sample.key for sample in batch.samples):
                faults.hit("predict", key)
        try:
            return Predicted(batch, pick(self._annotator.predict(crops_BHW3), slice(0, len(batch))), last)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            culprits = self._culprits(crops_BHW3, len(batch), error)
        for place in culprits:
            crops_BHW3[place] = 0
        out = self._annotator.predict(crops_BHW3)
        kept = np.array([place for place in range(len(batch)) if place not in culprits], dtype=np.int64)
        rows = [_person_row(batch, place, error) for place, error in culprits.items()]
        remaining = take(batch, kept)
        remaining.rejected = batch.rejected + rows
        return Predicted(remaining, pick(out, kept), last)

    def _culprits(self, crops_BHW3: np.ndarray, persons: int, error: Exception) -> dict[int, Exception]:
        """Place -> exception of every person over whom alone the annotator raises. Raises `error` where it does over nobody too."""
        blank_BHW3 = np.zeros_like(crops_BHW3)
        found: dict[int, Exception] = {}
        try:
            self._annotator.predict(blank_BHW3)
        except Exception:
            raise error from None
        for place in range(persons):
            alone_BHW3 = blank_BHW3.copy()
            alone_BHW3[place] = crops_BHW3[place]
            try:
                self._annotator.predict(alone_BHW3)
            except torch.AcceleratorError:
                raise
            except Exception as own:
                found[place] = own
        if not found:
            raise error
        return found


def pick(out: Prediction, places: Any) -> Prediction:
    """The prediction of some of its persons."""
    values = {f.name: getattr(out, f.name) for f in fields(out)}
    return Prediction(**{name: value if value is None else value[places] for name, value in values.items()})


def _person_row(batch: CropBatch, place: int, error: Exception) -> QuarantineRow:
    sample, instance = batch.samples[place], batch.instances[place]
    message = f"{type(error).__name__}: {error}"
    return QuarantineRow(dataset=sample.dataset, key=sample.key, annotation_id=instance.annotation_id, reason=PERSON_ERROR, message=message)
