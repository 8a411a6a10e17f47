"""Shards of an ingest, made by Ray tasks on all machines of a cluster, a bounded number at a time.

A task whose process or machine dies is begun again by Ray, a few times; what it had written by then is found and taken over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress

import ray

from engine.errors import EngineError
from engine.shards.shard_job import ShardJob, ShardRecord, make_shard

_RETRIES = 3
"""Deaths of processes that one shard may cost before the job ends."""


def make_shards(jobs: Iterable[ShardJob], workers: int | None, cpus: float) -> Iterator[tuple[int, ShardRecord]]:
    """Number and record of every job's shard, as they finish. Starts a local Ray where none is connected, and stops it again.

    `workers` tasks of `cpus` CPUs each run at a time; None: as many as the cluster has room for, whatever it grows to. EngineError when a
    shard cannot be made; the others in hand are given up, and what they have written is found the next time.
    """
    ours = not ray.is_initialized()
    if ours:
        ray.init(logging_level=logging.WARNING)
    task = ray.remote(num_cpus=cpus, max_retries=_RETRIES)(make_shard)
    running: dict[ray.ObjectRef, int] = {}
    try:
        for job in jobs:
            while len(running) >= (workers or _room(cpus)):
                yield _first(running)
            running[task.remote(job)] = job.number
        while running:
            yield _first(running)
    finally:
        with suppress(ray.exceptions.RayError):
            for reference in running:
                ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _room(cpus: float) -> int:
    """Tasks that run now, and as many that wait: they keep workers busy, and tell an autoscaler that more would be welcome."""
    return 2 * max(1, int(ray.cluster_resources().get("CPU", 1) / cpus))


def _first(running: dict[ray.ObjectRef, int]) -> tuple[int, ShardRecord]:
    """Number and record of the first that is ready, which is then no longer running."""
    (ready,), _ = ray.wait(list(running), num_returns=1)
    number = running.pop(ready)
    try:
        return number, ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EngineError):
            raise error.cause from None
        raise EngineError(f"shard {number} cannot be made: {type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"shard {number} cannot be made: {_RETRIES + 1} processes died with it in hand ({type(error).__name__}). Memory may have run "
            "out, or an image or video kills its reader; what is written stays, submit the job again to go on"
        ) from error
