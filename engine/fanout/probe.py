"""The child process that touches a shard to find out what kills it: `python -m engine.fanout.probe FD`, see isolation.py.

An exception is no death: workers isolate those themselves, so the child ends well over them.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from engine import faults
from engine.annotators.base import Annotator
from engine.fanout.work import WorkerSpec
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, PersonCutter, Regrouping
from engine.shards.reader import fetch_shard, read_samples
from schemas.manifests import QuarantineRow, ShardPlan

Report = Callable[..., None]
_LOST_DEVICE = 70


def probe(spec: WorkerSpec, shard: ShardPlan, known: list[QuarantineRow], suspects: list[list[str]], report: Report) -> None:
    """Decode every image and annotate every person of a shard; results are thrown away. `suspects` are annotated one at a time."""
    report(step="start")
    settings = spec.settings
    torch.set_num_threads(int(settings["threads"]))
    samples = read_samples(fetch_shard(shard), shard)
    annotator = spec.make_annotator()
    cutter = PersonCutter(Decoder(threads=1, max_batch=1, device=settings["decode_device"]), annotator.crop)
    grouping = Regrouping(int(settings["batch_size"]), annotator.crop)
    shunned = {row.key for row in known if row.annotation_id is None}
    for sample in samples:
        if sample[0].key not in shunned:
            report(step="decode", dataset=sample[0].dataset, key=sample[0].key, instances=len(sample[0].instances))
        for batch in grouping.add(cutter.cut([sample], known)):
            _annotate(annotator, batch, int(settings["batch_size"]), suspects, report)
    for batch in grouping.rest():
        _annotate(annotator, batch, int(settings["batch_size"]), suspects, report)


def _annotate(annotator: Annotator, batch: CropBatch, size: int, suspects: list[list[str]], report: Report) -> None:
    if not len(batch):
        return
    names = [[sample.key, instance.annotation_id] for sample, instance in zip(batch.samples, batch.instances, strict=True)]
    alone = any(name in suspects for name in names)
    for places in [[i] for i in range(len(batch))] if alone else [list(range(len(batch)))]:
        crops_BHW3 = np.zeros((size, *batch.crops_NHW3.shape[1:]), np.uint8)
        crops_BHW3[places] = batch.crops_NHW3[places]
        report(step="annotate", dataset=batch.samples[0].dataset, persons=[names[i] for i in places])
        for key in dict.fromkeys(names[i][0] for i in places):
            faults.hit("predict", key)
        annotator.predict(crops_BHW3)


def main() -> None:
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, this process goes first
    with os.fdopen(int(sys.argv[1]), "w") as pipe:

        def report(**said: Any) -> None:
            pipe.write(json.dumps(said) + "\n")
            pipe.flush()

        try:
            probe(*cloudpickle.loads(sys.stdin.buffer.read()), report)
        except torch.AcceleratorError:
            traceback.print_exc()
            os._exit(_LOST_DEVICE)
        except Exception:
            traceback.print_exc()
        report(step="end")


if __name__ == "__main__":
    main()
