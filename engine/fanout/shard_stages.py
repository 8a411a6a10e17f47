"""What happens to a shard inside a worker, stage by stage: fetch, crop, network, rows, commit.

    fetch    the tar's bytes, checked; who is in it, and at which place of which batch
    crop     images decoded once and cut into those places; several threads may do images of one shard
    network  the annotator's predictions of a batch, always of the same size
    rows     rows and quality figures of a batch; at the last one, the shard's Parquet bytes
    commit   object, then record

A person's place in a batch depends on the shard alone, so a shard done again elsewhere gives the same bytes. Batches' memory is used
again and again: fresh pages cost a fifth of what cropping does.

Shapes: B the constant size of a batch, H x W a crop.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from engine import faults
from engine.annotators.base import Annotator, Prediction
from engine.annotators.rows import BatchRows, assemble, batch_rows
from engine.annotators.seen import Seen
from engine.fanout.stages import Stage, Ticket
from engine.fanout.work import WorkerSpec
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, FilledBatch, Filling, PersonCutter, brief, find_people
from engine.releases.commit import CommitOutcome, commit_shard, make_commit
from engine.releases.tables import encode
from engine.shards.reader import read_verified_samples
from engine.shards.staging import Staging
from engine.storage import Store
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow, ShardCommit, ShardPlan

PERSON_ERROR = "person_error"
"""Reason of a person over whose crop the annotator raised something, while it does not over a blank one."""
LOST_DEVICE = 70
"""Exit code of a worker whose device context is lost: Ray starts another one."""
_MACHINES_FAULT = (torch.AcceleratorError, torch.OutOfMemoryError, MemoryError, OSError)
"""Never a person's: the shard is attempted again."""
FETCH_THREADS, COMMIT_THREADS = 2, 2
_CHUNK_IMAGES = 16


@dataclass(frozen=True)
class Cropped:
    """All batches of a shard, and what could not be cropped."""

    batches: tuple[FilledBatch, ...]
    rejected: tuple[QuarantineRow, ...]


@dataclass(frozen=True)
class ShardWork:
    """A shard to do, what is known of it already (images and persons that are not to be touched), and its crops, where others cut them."""

    shard: ShardPlan
    known: tuple[QuarantineRow, ...] = ()
    cropped: Cropped | None = None


@dataclass(frozen=True)
class Predicted:
    """Who is in a batch, what the annotator says of them, and the places of those who are wanted."""

    number: int
    everybody: CropBatch
    out: Prediction | None
    kept: list[int]


@dataclass(frozen=True)
class EncodedShard:
    commit: ShardCommit
    data: bytes


@dataclass(frozen=True)
class Done:
    outcome: CommitOutcome
    computed: int


class BatchMemory:
    """Arrays (B, H, W, 3) uint8 that batches borrow. Safe to share."""

    def __init__(self, size: int, crop: CropSpec) -> None:
        self._shape = (size, *crop.hw, 3)
        self._free: deque[np.ndarray] = deque()

    def borrow(self) -> np.ndarray:
        """An array that holds anything."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._shape, np.uint8)

    def give_back(self, crops_BHW3: np.ndarray) -> None:
        self._free.append(crops_BHW3)


class CropStages:
    """Fetch and crop: what needs CPU cores and no network. Makes FilledBatches, in any order."""

    def __init__(self, spec: WorkerSpec, crop: CropSpec, memory: BatchMemory) -> None:
        self._settings, self._threads, self._crop, self._memory = spec.settings, spec.crop_threads, crop, memory
        self._staging = Staging(spec.staging)
        self._cutters: dict[int, PersonCutter] = {}
        """By thread. Not thread-local: a process that forks destroys what is, and DALI's pipelines do not survive that."""

    def stages(self) -> list[Stage]:
        return [
            Stage("fetch", self.fetch, FETCH_THREADS, capacity=1, watched=False),
            Stage("crop", self.crop, self._threads, capacity=2 * self._threads),
        ]

    def fetch(self, ticket: Ticket, work: ShardWork) -> Iterator[range]:
        with self._staging.open(work.shard) as tar:
            samples = read_verified_samples(tar, work.shard)
        people = find_people(samples, self._crop, work.known)
        filling = Filling(people, int(self._settings["batch_size"]), self._crop, self._memory.borrow)
        ticket.state |= {"filling": filling, "batches": filling.count, "rejected": list(people.rejected)}
        yield from people.chunks(_CHUNK_IMAGES) if len(people) else [range(0)]

    def crop(self, ticket: Ticket, images: range) -> Iterator[FilledBatch]:
        me = threading.get_ident()
        if me not in self._cutters:
            self._cutters[me] = PersonCutter(Decoder(threads=1, max_batch=_CHUNK_IMAGES, device=self._settings["decode_device"]))
        filling: Filling = ticket.state["filling"]
        problems = self._cutters[me].cut(filling.people, images, filling.place)
        ticket.state["rejected"] += [row for _, row in problems]
        for number in filling.done(images, [p for persons, _ in problems for p in persons]) if len(filling.people) else [0]:
            yield filling.take(number)


class NetworkStages:
    """Network, rows and commit. Network and rows have one thread each: they keep a ticket's parts in its state."""

    def __init__(self, spec: WorkerSpec, annotator: Annotator, store: Store, memory: BatchMemory | None = None) -> None:
        self._annotator, self._body, self._store, self._memory = annotator, annotator.body, store, memory
        self._plan_digest = spec.plan_digest

    def stages(self) -> list[Stage]:
        return [
            Stage("network", self.network, capacity=4),
            Stage("rows", self.rows, capacity=4),
            Stage("commit", self.commit, COMMIT_THREADS, capacity=COMMIT_THREADS, watched=False),
        ]

    def network(self, ticket: Ticket, batch: FilledBatch) -> Iterator[Predicted]:
        state = ticket.state
        state["computed"] = state.get("computed", 0) + len(batch.kept)
        if not batch.kept:
            predicted = Predicted(batch.number, batch.everybody, None, [])
        else:
            try:
                predicted = self._predict(batch, ticket)
            except torch.AcceleratorError:
                traceback.print_exc()
                os._exit(LOST_DEVICE)
        if self._memory is not None:
            self._memory.give_back(batch.crops_BHW3)
        yield predicted

    def rows(self, ticket: Ticket, predicted: Predicted) -> Iterator[EncodedShard]:
        state = ticket.state
        parts: dict[int, BatchRows | None] = state.setdefault("rows", {})
        p = predicted
        parts[p.number] = None if p.out is None else batch_rows(p.everybody, p.out, self._body, self._annotator.crop, p.kept)
        if len(parts) == state["batches"]:
            found = assemble([part for _, part in sorted(parts.items()) if part is not None], state["rejected"])
            data = encode(found.table)
            yield EncodedShard(make_commit(self._plan_digest, ticket.work.shard, data, found.table, found.quarantine), data)

    def commit(self, ticket: Ticket, encoded: EncodedShard) -> Iterator[Done]:
        outcome = commit_shard(self._store, encoded.commit, encoded.data)
        yield Done(outcome, ticket.state.get("computed", 0))

    def _predict(self, batch: FilledBatch, ticket: Ticket) -> Predicted:
        """The annotator's word on a batch; persons over whom it raises something are rejected, and blank to the others."""
        if faults.armed("predict"):
            for key in dict.fromkeys(batch.everybody.samples[i].key for i in batch.kept):
                faults.hit("predict", key)
        seen = Seen(batch.everybody, len(batch.crops_BHW3), frozenset(batch.kept))
        try:
            return _predicted(batch, batch.kept, self._annotator.predict(batch.crops_BHW3, seen))
        except _MACHINES_FAULT:
            raise
        except Exception as error:
            culprits = self._culprits(batch.crops_BHW3, seen, batch.kept, error, ticket)
        others_BHW3 = batch.crops_BHW3.copy()
        others_BHW3[list(culprits)] = 0
        ticket.state["rejected"] += [_person_row(batch, place, own) for place, own in culprits.items()]
        others = [i for i in batch.kept if i not in culprits]
        return _predicted(batch, others, self._annotator.predict(others_BHW3, seen.alone(others)))

    def _culprits(self, crops_BHW3: np.ndarray, seen: Seen, places: list[int], error: Exception, ticket: Ticket) -> dict[int, Exception]:
        """Place -> exception of every person over whom alone the annotator raises, twice. Raises `error` where it does over nobody too."""
        blank_BHW3 = np.zeros_like(crops_BHW3)
        nobody = seen.alone(())
        if self._raised(blank_BHW3, nobody, ticket) is not None:
            raise error
        found: dict[int, Exception] = {}
        for place in places:
            alone_BHW3 = blank_BHW3.copy()
            alone_BHW3[place] = crops_BHW3[place]
            person = seen.alone((place,))
            if self._raised(alone_BHW3, person, ticket) is not None and (again := self._raised(alone_BHW3, person, ticket)) is not None:
                found[place] = again
        if not found or self._raised(blank_BHW3, nobody, ticket) is not None:
            raise error
        return found

    def _raised(self, crops_BHW3: np.ndarray, seen: Seen, ticket: Ticket) -> Exception | None:
        try:
            self._annotator.predict(crops_BHW3, seen)
            return None
        except _MACHINES_FAULT:
            raise
        except Exception as error:
            return error
        finally:
            ticket.touch()


def _predicted(batch: FilledBatch, kept: list[int], out: Prediction) -> Predicted:
    return Predicted(batch.number, batch.everybody, out.first(len(batch.everybody)), kept)


def _person_row(batch: FilledBatch, place: int, error: Exception) -> QuarantineRow:
    sample, instance = batch.everybody.samples[place], batch.everybody.instances[place]
    name = {"dataset": sample.dataset, "key": sample.key, "annotation_id": instance.annotation_id}
    return QuarantineRow(**name, reason=PERSON_ERROR, message=brief(error))
