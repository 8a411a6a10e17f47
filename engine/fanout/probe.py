"""The child process that touches a shard to find out what kills it: `python -m engine.fanout.probe FD`, see isolation.py.

An exception is no death: workers isolate those themselves, so the child ends well over them. What it unpickles is its own parent's word,
through a pipe that nobody else writes to.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
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
from engine.annotators.seen import Seen
from engine.fanout.work import WorkerSpec
from engine.loading.decode import Decoder
from engine.loading.persons import FilledBatch, Filling, PersonCutter, find_people
from engine.shards.reader import read_verified_samples
from engine.shards.staging import Staging
from schemas.manifests import QuarantineRow, ShardPlan

Report = Callable[..., None]
_LOST_DEVICE = 70
_PR_SET_PDEATHSIG = 1


def probe(
    spec: WorkerSpec, shard: ShardPlan, known: list[QuarantineRow], suspects: list[list[str]], only: dict[str, Any] | None, report: Report
) -> None:
    """Decode every image and annotate every person of a shard; results are thrown away.

    `suspects` are annotated one at a time. `only`: touch what this report spoke of, and nothing else.
    """
    settings = spec.settings
    torch.set_num_threads(int(settings["threads"]))
    with Staging(spec.staging).open(shard) as tar:
        samples = read_verified_samples(tar, shard)
    annotator = spec.make_annotator()
    size = int(settings["batch_size"])
    people = find_people(samples, annotator.crop, known)
    cutter = PersonCutter(Decoder(threads=1, max_batch=1, device=settings["decode_device"]))
    filling = Filling(people, size, annotator.crop)
    report(step="start")
    for image in sorted(set(people.image_P.tolist())):
        if only is not None and samples[image][0].key != (only["key"] if only["step"] == "decode" else only["persons"][0][0]):
            filling.done(range(image, image + 1), np.flatnonzero(people.image_P == image).tolist())
            continue
        sample, images = samples[image][0], range(image, image + 1)
        report(step="decode", dataset=sample.dataset, key=sample.key, instances=len(sample.instances))
        broken = cutter.cut(people, images, filling.place)
        full = filling.done(images, [p for persons, _ in broken for p in persons])
        if only is None:
            for number in full:
                _annotate(annotator, filling.take(number), suspects, report)
        elif only["step"] == "annotate":
            _annotate_only(annotator, filling, only["persons"][0], report)


def _annotate(annotator: Annotator, batch: FilledBatch, suspects: list[list[str]], report: Report) -> None:
    everybody = batch.everybody
    names = {i: [everybody.samples[i].key, everybody.instances[i].annotation_id] for i in batch.kept}
    alone = any(name in suspects for name in names.values())
    for places in [[i] for i in batch.kept] if alone else [batch.kept]:
        crops_BHW3 = np.zeros_like(batch.crops_BHW3)
        crops_BHW3[places] = batch.crops_BHW3[places]
        report(step="annotate", dataset=everybody.samples[0].dataset, persons=[names[i] for i in places])
        _touch(annotator, crops_BHW3, Seen(everybody, len(crops_BHW3), frozenset(places)), list(dict.fromkeys(names[i][0] for i in places)))


def _annotate_only(annotator: Annotator, filling: Filling, person: list[str], report: Report) -> None:
    people = filling.people
    for p, instance in enumerate(people.instances):
        sample = people.samples[people.image_P[p]][0]
        if [sample.key, instance.annotation_id] == person:
            crops_BHW3 = np.zeros((filling.size, *filling.place(p).shape), np.uint8)
            crops_BHW3[p % filling.size] = filling.place(p)
            report(step="annotate", dataset=sample.dataset, persons=[person])
            start = p - p % filling.size
            seen = Seen(people.batch(start, min(start + filling.size, len(people))), filling.size, frozenset((p - start,)))
            _touch(annotator, crops_BHW3, seen, [sample.key])


def _touch(annotator: Annotator, crops_BHW3: np.ndarray, seen: Seen, keys: list[str]) -> None:
    for key in keys:
        faults.hit("predict", key)
    try:
        annotator.predict(crops_BHW3, seen)
    except torch.AcceleratorError:
        raise
    except Exception:
        traceback.print_exc()


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a child that hangs must not outlive its worker
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
