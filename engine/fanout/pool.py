"""Ray Data as it is used here: shard numbers in, shard results out, through a pool of workers that grows and shrinks.

Ray's own checkpointing stays off and its retries are finite: what was done is known from the store, and which shard kills workers
from the attempt ledger.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from engine.errors import EngineError
from engine.fanout.actor import ShardResult, ShardWorker, WorkerSpec
from engine.fanout.config import PoolConfig
from schemas.manifests import ShardPlan

CALLS_PER_WORKER = 2
"""One shard in the network, one being fetched or written."""


def run_shards(pool: PoolConfig, spec: WorkerSpec, pending: list[ShardPlan]) -> Iterator[ShardResult]:
    """A result for every pending shard, as they finish. Starts a local Ray where none is connected, and stops it again.

    Raises EngineError when the workers cannot start or keep dying: what is committed stays.
    """
    ours = not ray.is_initialized()
    if ours:
        ray.init(logging_level=logging.WARNING)
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # max_restarts and max_task_retries have no other way in; Ray retries without end unless they are given
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        work = _work(pool, spec, pending)
    try:
        for row in work.iter_rows():
            yield ShardResult(**json.loads(row["result"]))
    except ray.exceptions.RayError as error:
        raise EngineError(f"the workers stopped: {_first_cause(error)}; what is committed stays, submit the job again to go on") from error
    finally:
        if ours:
            ray.shutdown()


def _work(pool: PoolConfig, spec: WorkerSpec, pending: list[ShardPlan]) -> Dataset:
    most = len(pending)
    low, high = min(pool.min_size, most), min(max(pool.max_size, pool.min_size), most)
    return ray.data.from_items([{"index": shard.index} for shard in pending], override_num_blocks=most).map_batches(
        ShardWorker,
        fn_constructor_args=(spec,),
        batch_size=1,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        compute=ActorPoolStrategy(
            min_size=low,
            max_size=high,
            initial_size=min(max(pool.initial_size or low, low), high),
            max_concurrent_calls_per_actor=CALLS_PER_WORKER,
            enable_true_multi_threading=True,
        ),
        max_restarts=pool.max_restarts,
        max_task_retries=spec.max_attempts * CALLS_PER_WORKER * 2,
    )


def _first_cause(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error.__cause__ or error
    text = [line for line in str(cause).strip().splitlines() if line.strip()]
    return f"{type(cause).__name__}: {text[-1] if text else ''}"
