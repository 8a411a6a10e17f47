"""Decoding and cropping as a stage of its own: workers on CPU nodes cut a shard's crops, workers on GPU nodes annotate and commit them.

A shard stays the unit of work: its crops travel as one row through Ray's object store, uint8 as they are (147 kB a person of 256x192),
and the annotating worker commits them under the shard's index as if it had cut them itself. The rows are the same bytes either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from engine.fanout.actor import Worker, give_up
from engine.fanout.isolation import KILLED_WORKER
from engine.fanout.shard_stages import CroppedChunk, CropStages, NetworkStages, ShardWork
from engine.fanout.stages import Pipeline, Stage, Ticket
from engine.fanout.work import ShardResult, Usage, WorkerSpec
from engine.loading.persons import CropBatch, merge, take
from schemas.manifests import QuarantineRow, ShardPlan
from schemas.sample import Sample

Row = dict[str, Any]
"""A Ray Data batch of one shard: `shard`, `result` (JSON of a ShardResult that ends the shard here, or ''), `meta` (JSON) and `crops`."""


class CropWorker(Worker):
    """A Ray Data callable: a ShardPlan as JSON in `shard` in, its crops out."""

    stage_name = "crop"

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        stages = [*CropStages(spec, self.annotator.crop).stages(), Stage("pack", self._pack)]
        self.pipeline = Pipeline(stages, spec.hang_s, give_up)

    def __call__(self, batch: dict[str, np.ndarray]) -> Row:
        shard = ShardPlan.from_bytes(batch["shard"][0])
        done = self.committed(shard) or self.attempted(shard)
        if isinstance(done, ShardResult):
            return _row(shard, json.dumps(asdict(done)), "", np.empty(0, np.uint8))
        return _row(shard, "", _describe(done, self.usage()), done.crops_NHW3.reshape(-1))

    def _pack(self, ticket: Ticket, chunk: CroppedChunk) -> Iterator[CropBatch]:
        chunks: dict[int, CroppedChunk] = ticket.state.setdefault("chunks", {})
        chunks[chunk.number] = chunk
        last = next((c.number for c in chunks.values() if c.last), None)
        if last is not None and len(chunks) == last + 1:
            yield merge([chunks[number].persons for number in range(last + 1)])


class AnnotateWorker(Worker):
    """A Ray Data callable: a shard's crops in, a ShardResult as JSON in `result` out."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        stages = [Stage("unpack", _unpacked), *NetworkStages(spec, self.annotator, self.store).stages()]
        self.pipeline = Pipeline(stages, spec.hang_s, give_up)

    def __call__(self, batch: Row) -> dict[str, list[str]]:
        if batch["result"][0]:
            return {"result": [str(batch["result"][0])]}
        return {"result": [json.dumps(asdict(self._run(batch)))]}

    def _run(self, batch: Row) -> ShardResult:
        shard = ShardPlan.from_bytes(batch["shard"][0])
        if (already := self.committed(shard)) is not None:
            return already
        meta = json.loads(batch["meta"][0])
        crops = _crops(meta, np.asarray(batch["crops"][0], np.uint8), self.annotator.crop.hw)
        killers = tuple(row for row in crops.rejected if row.reason == KILLED_WORKER)
        done = self.attempted(shard, killers, crops=crops)
        if isinstance(done, ShardResult):
            return done
        return self.result(done.outcome.commit, done.computed, done.outcome.raced, meta["usage"])


def _unpacked(ticket: Ticket, work: ShardWork) -> Iterator[CroppedChunk]:
    """The shard's crops as one chunk, without what became known only here."""
    crops = work.crops
    assert crops is not None
    shunned = {(row.key, row.annotation_id) for row in work.known}
    names = [(sample.key, instance.annotation_id) for sample, instance in zip(crops.samples, crops.instances, strict=True)]
    kept = [i for i, (key, person) in enumerate(names) if not {(key, None), (key, person)} & shunned]
    persons = take(crops, np.array(kept, np.int64)) if len(kept) < len(names) else crops
    whole = {key for key, person in shunned if person is None}
    others = [row for row in crops.rejected if row.key not in whole and (row.key, row.annotation_id) not in shunned]
    persons.rejected = others + list(work.known)
    yield CroppedChunk(0, True, persons)


def _row(shard: ShardPlan, result: str, meta: str, crops: np.ndarray) -> Row:
    return {"shard": np.array([shard.model_dump_json()]), "result": np.array([result]), "meta": np.array([meta]), "crops": crops[None]}


def _describe(crops: CropBatch, usage: Usage) -> str:
    """Everything of a shard's crops but their pixels."""
    samples = list({sample.key: sample for sample in crops.samples}.values())
    place = {sample.key: i for i, sample in enumerate(samples)}
    of_sample = [{id(instance): j for j, instance in enumerate(sample.instances)} for sample in samples]
    people = []
    for sample, instance in zip(crops.samples, crops.instances, strict=True):
        people.append((place[sample.key], of_sample[place[sample.key]][id(instance)]))
    return json.dumps(
        {
            "samples": [sample.model_dump(mode="json") for sample in samples],
            "people": people,
            "boxes": crops.boxes_N4.tolist(),
            "affines": crops.affines_N23.tolist(),
            "rejected": [row.model_dump(mode="json") for row in crops.rejected],
            "usage": usage,
        }
    )


def _crops(meta: dict[str, Any], pixels: np.ndarray, crop_hw: tuple[int, int]) -> CropBatch:
    samples = [Sample.model_validate(values) for values in meta["samples"]]
    people = meta["people"]
    batch = CropBatch(
        pixels.reshape(len(people), *crop_hw, 3),
        np.array(meta["boxes"], np.float64).reshape(-1, 4),
        np.array(meta["affines"], np.float64).reshape(-1, 2, 3),
        [samples[i] for i, _ in people],
        [samples[i].instances[j] for i, j in people],
    )
    batch.rejected = [QuarantineRow.model_validate(row) for row in meta["rejected"]]
    return batch
