"""Ray Data as it is used here: shard descriptors in, shard results out, through a pool of workers that grows and shrinks.

Ray's own checkpointing stays off and its retries are finite: what was done is known from the store, and which shard kills workers
from the attempt ledger.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from engine.errors import EngineError
from engine.fanout.actor import ShardWorker
from engine.fanout.config import PoolConfig
from engine.fanout.split import AnnotateWorker, CropWorker
from engine.fanout.work import ShardResult, WorkerSpec
from schemas.manifests import ShardPlan

_TASK_RETRIES = 1000
"""Of one shard's call, over deaths of its workers for whatever cause. The attempt ledger gives a shard up long before."""

_STARTS_FAILED = 10
"""Workers that may fail to start one after the other: a spot machine with a broken GPU must not end the job."""
_BUSY = 0.75
"""The pool grows, by a third or by one worker, once this share of the calls that its workers take at a time is in flight. Ray's own 1.75
counts on calls that wait in line at a worker, which here would be shards that another worker could do: the pool would never grow."""


class Terminated(BaseException):
    """The driver was asked to end (SIGTERM). Not an Exception, so that nothing on the way takes it for a failure it can handle."""


def run_shards(pool: PoolConfig, spec: WorkerSpec, pending: list[ShardPlan]) -> Iterator[ShardResult]:
    """A result for every pending shard, as they finish. Starts a local Ray where none is connected, and stops it again.

    Raises EngineError when the workers cannot start or keep dying, Terminated upon SIGTERM: what is committed stays.
    """
    ours = not ray.is_initialized()
    if ours:
        ray.init(logging_level=logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = _STARTS_FAILED
    context.autoscaling_config.actor_pool_util_upscaling_threshold = _BUSY
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # max_restarts and max_task_retries have no other way in; Ray retries without end unless they are given
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            work = _work(pool, spec, pending)
        with _terminated_by_signal():
            for row in work.iter_rows():
                yield ShardResult(**json.loads(row["result"]))
    except ray.exceptions.RayError as error:
        raise EngineError(f"the workers stopped: {_first_cause(error)}; what is committed stays, submit the job again to go on") from error
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """SIGTERM raises Terminated here, where this is the main thread. After `ray.init`, which sets a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(pool: PoolConfig, spec: WorkerSpec, pending: list[ShardPlan]) -> Dataset:
    work = ray.data.from_items([{"shard": shard.model_dump_json()} for shard in pending], override_num_blocks=len(pending))
    if pool.crop is None:
        return _stage(work, ShardWorker, pool, spec, len(pending))
    cropped = _stage(work, CropWorker, pool.crop, replace(spec, make_annotator=spec.make_cropper), len(pending))
    return _stage(cropped, AnnotateWorker, pool, spec, len(pending))


def _stage(work: Dataset, worker: type, pool: PoolConfig, spec: WorkerSpec, most: int) -> Dataset:
    low, high = min(pool.min_size, most), min(max(pool.max_size, pool.min_size), most)
    return work.map_batches(
        worker,
        fn_constructor_args=(spec,),
        batch_size=1,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        resources=pool.resources or None,
        compute=ActorPoolStrategy(
            min_size=low,
            max_size=high,
            initial_size=min(max(pool.initial_size or low, low), high),
            max_concurrent_calls_per_actor=pool.in_flight,
            max_tasks_in_flight_per_actor=pool.in_flight,
            enable_true_multi_threading=True,
        ),
        max_restarts=pool.max_restarts,
        max_task_retries=_TASK_RETRIES,
    )


def _first_cause(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error.__cause__ or error
    text = [line for line in str(cause).strip().splitlines() if line.strip()]
    return f"{type(cause).__name__}: {text[-1] if text else ''}"
