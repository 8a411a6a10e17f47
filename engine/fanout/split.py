"""Decoding and cropping as a stage of its own: workers on CPU nodes cut a shard's crops, workers on GPU nodes annotate and commit them.

A shard stays the unit of work: its crops travel as one row through Ray's object store, uint8 as they are (147 kB a person of 256x192),
and the annotating worker commits them under the shard's index as if it had cut them itself. The rows are the same bytes either way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from engine.fanout.actor import Worker
from engine.fanout.isolation import KILLED_WORKER
from engine.fanout.shard_stages import BatchMemory, Cropped, CropStages, NetworkStages, ShardWork
from engine.fanout.stages import Stage, Ticket
from engine.fanout.work import ShardResult
from engine.loading.persons import CropBatch, FilledBatch
from schemas.manifests import QuarantineRow, ShardPlan
from schemas.sample import Sample

Row = dict[str, Any]
"""A Ray Data batch of one shard: `shard`, `result` (JSON of a ShardResult that ends the shard here, or ''), `meta` (JSON) and `crops`."""


class CropWorker(Worker):
    """A Ray Data callable: a ShardPlan as JSON in `shard` in, its crops out."""

    stage_name = "crop"

    def stages(self) -> list[Stage]:
        memory = BatchMemory(int(self.spec.settings["batch_size"]), self.annotator.crop)
        return [*CropStages(self.spec, self.annotator.crop, memory).stages(), Stage("pack", partial(_pack, memory))]

    def __call__(self, batch: dict[str, np.ndarray]) -> Row:
        shard = ShardPlan.from_bytes(batch["shard"][0])
        done = self.attempted(shard)
        if isinstance(done, ShardResult):
            return _row(shard, json.dumps(asdict(done)), "", np.empty(0, np.uint8))
        meta, crops = done
        return _row(shard, "", json.dumps(meta | {"usage": self.usage()}), crops)


class AnnotateWorker(Worker):
    """A Ray Data callable: a shard's crops in, a ShardResult as JSON in `result` out."""

    def stages(self) -> list[Stage]:
        return [Stage("unpack", _unpack), *NetworkStages(self.spec, self.annotator, self.store).stages()]

    def __call__(self, batch: Row) -> dict[str, list[str]]:
        if batch["result"][0]:
            return {"result": [str(batch["result"][0])]}
        return {"result": [json.dumps(asdict(self._run(batch)))]}

    def _run(self, batch: Row) -> ShardResult:
        shard = ShardPlan.from_bytes(batch["shard"][0])
        if self.problem:
            return self.attempted(shard)
        meta = json.loads(batch["meta"][0])
        shape = (int(self.spec.settings["batch_size"]), *self.annotator.crop.hw, 3)
        cropped = _cropped(meta, np.asarray(batch["crops"][0], np.uint8).reshape(-1, *shape))
        killers = tuple(row for row in cropped.rejected if row.reason == KILLED_WORKER)
        done = self.attempted(shard, killers, cropped=cropped)
        if isinstance(done, ShardResult):
            return done
        return self.result(done.outcome.commit, done.computed, done.outcome.raced, meta["usage"])


def _pack(memory: BatchMemory, ticket: Ticket, batch: FilledBatch) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """At a shard's last batch: everything of it but the pixels as a JSON value, and the pixels, one after the other."""
    batches: dict[int, FilledBatch] = ticket.state.setdefault("full", {})
    batches[batch.number] = batch
    if len(batches) < ticket.state["batches"]:
        return
    ordered = [batches[number] for number in sorted(batches)]
    crops = np.concatenate([b.crops_BHW3.reshape(-1) for b in ordered])
    for b in ordered:
        memory.give_back(b.crops_BHW3)
    samples = list({sample.key: sample for b in ordered for sample in b.everybody.samples}.values())
    place = {sample.key: i for i, sample in enumerate(samples)}
    of_sample = [{id(instance): j for j, instance in enumerate(sample.instances)} for sample in samples]
    packed = []
    for b in ordered:
        e = b.everybody
        numbers = [place[sample.key] for sample in e.samples]
        people = [[i, of_sample[i][id(instance)]] for i, instance in zip(numbers, e.instances, strict=True)]
        packed.append({"kept": b.kept, "people": people, "boxes": e.boxes_N4.tolist(), "affines": e.affines_N23.tolist()})
    rejected = [row.model_dump(mode="json") for row in ticket.state["rejected"]]
    yield {"samples": [sample.model_dump(mode="json") for sample in samples], "batches": packed, "rejected": rejected}, crops


def _cropped(meta: dict[str, Any], crops_NBHW3: np.ndarray) -> Cropped:
    samples = [Sample.model_validate(values) for values in meta["samples"]]
    batches = []
    for number, (packed, crops_BHW3) in enumerate(zip(meta["batches"], crops_NBHW3, strict=True)):
        everybody = CropBatch(
            np.empty((0, 0, 0, 3), np.uint8),
            np.array(packed["boxes"], np.float64).reshape(-1, 4),
            np.array(packed["affines"], np.float64).reshape(-1, 2, 3),
            [samples[i] for i, _ in packed["people"]],
            [samples[i].instances[j] for i, j in packed["people"]],
        )
        batches.append(FilledBatch(number, crops_BHW3, packed["kept"], everybody))
    return Cropped(tuple(batches), tuple(QuarantineRow.model_validate(row) for row in meta["rejected"]))


def _unpack(ticket: Ticket, work: ShardWork) -> Iterator[FilledBatch]:
    """The shard's batches, without those who became known only here: they are blank to the others."""
    cropped = work.cropped
    assert cropped is not None
    shunned = {(row.key, row.annotation_id) for row in work.known}
    whole = {key for key, person in shunned if person is None}
    rejected = [row for row in cropped.rejected if row.key not in whole and (row.key, row.annotation_id) not in shunned]
    rejected += [row for row in work.known if row.annotation_id is None]
    rejected += [row for row in cropped.rejected if row.annotation_id is not None and (row.key, row.annotation_id) in shunned]
    ticket.state |= {"batches": len(cropped.batches), "rejected": rejected}
    for batch in cropped.batches:
        e = batch.everybody
        names = [(e.samples[i].key, e.instances[i].annotation_id) for i in batch.kept]
        bad = [i for i, name in zip(batch.kept, names, strict=True) if name[0] in whole or name in shunned]
        if bad:
            named = {(row.key, row.annotation_id): row for row in work.known}
            rejected += [named[name] for name in names if name in named and name[0] not in whole]  # a repeated id, each of them
            crops_BHW3 = batch.crops_BHW3.copy()
            crops_BHW3[bad] = 0
            batch = replace(batch, crops_BHW3=crops_BHW3, kept=[i for i in batch.kept if i not in bad])
        yield batch


def _row(shard: ShardPlan, result: str, meta: str, crops: np.ndarray) -> Row:
    return {"shard": np.array([shard.model_dump_json()]), "result": np.array([result]), "meta": np.array([meta]), "crops": crops[None]}
