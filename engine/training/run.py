"""A training job: checks in the driver, Ray Train for the life of the workers, the loop in each of them.

Ray starts the workers, sets torch.distributed up and starts the group anew when one dies; what is lost then is the steps since the last
checkpoint, which are ours (engine.training.checkpoint). With `num_workers: [least, most]` a lost machine costs a restart with fewer
workers, and one that comes costs a restart with more. Submitted again, a run goes on; finished, it returns at once.
"""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.execution import context as reports
from ray.train.v2.api.exceptions import TrainingFailedError

from engine.errors import CheckpointMismatch, ConfigError, EngineError
from engine.releases.store import open_reference
from engine.shards.reader import open_shard_set
from engine.storage import Store, absolute
from engine.training.checkpoint import Checkpoint, latest
from engine.training.config import TrainConfig, recorded_identity, settled
from engine.training.division import require_divisible
from engine.training.loop import build_network, fit
from engine.training.progress import Diverged
from schemas.checkpoints import CheckpointManifest
from schemas.records import canonical_json, sha256_hex

COLLECTIVE_TIMEOUT_S = 1800
"""How long a worker waits for another: longer than a checkpoint takes to upload, shorter than for ever."""


def train(config: TrainConfig) -> CheckpointManifest:
    """Train f or g to the end and return the manifest of its last checkpoint.

    Runs on the Ray cluster this process is connected to, that of RAY_ADDRESS, or a local one of its own. Raises CheckpointMismatch when
    the run directory belongs to another config, and EngineError when training fails after `max_failures` restarts of its workers.
    """
    run = Store(absolute(config.out))
    done = latest(run)
    config = settled(config, done.manifest.training_sets if done else {})
    if done is not None:
        require_same_run(done, config)
    if done is not None and done.manifest.finished:
        print(f"{config.role}: {config.out} is finished at step {done.manifest.step}; nothing to do", flush=True)
        return done.manifest
    check_inputs(config, fresh=done is None)
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS", "local"))
    _quieten_ray()
    digest = sha256_hex(canonical_json(config.identity()))
    with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
        trainer = TorchTrainer(
            run_worker,
            train_loop_config=config.model_dump(mode="json"),
            scaling_config=scaling(config),
            torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
            # A new name for every submit: Ray would restore what it remembers of an earlier one, and all that counts is in `out`.
            run_config=RunConfig(
                name=f"{config.role}-{digest[:12]}-{uuid.uuid4().hex[:6]}",
                storage_path=run.path("ray") if run.protocol == "file" else scratch,
                failure_config=FailureConfig(max_failures=config.max_failures),
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise _cause(error, config) from error
    if result.return_value:
        raise Diverged(result.return_value)
    done = latest(run)
    if done is None or not done.manifest.finished:
        raise EngineError(f"{config.role}: Ray Train ended without the last checkpoint in {config.out}; submit again to go on")
    return done.manifest


def run_worker(settings: dict[str, Any]) -> str | None:
    """What one Ray Train worker does. Returns a message if training diverged: an error would have Ray try again `max_failures` times."""
    config = TrainConfig.model_validate(settings)
    reports.logger.setLevel(logging.WARNING)  # Ray logs every report in full; the loop prints its own line
    torch.set_num_threads(config.threads or max(1, int(config.cpus_per_worker)))
    context = ray.train.get_context()
    try:
        fit(config, context.get_world_rank(), context.get_world_size(), get_device(), _report)
    except Diverged as error:
        return str(error)
    return None


def _report(row: dict[str, Any]) -> bool:
    """Tell Ray Train; whether a worker's machine is about to be taken away, which asks for a checkpoint. Both wait for all workers."""
    ray.train.report(row)
    return ray.train.get_preemption_info() is not None


def require_same_run(checkpoint: Checkpoint, config: TrainConfig) -> None:
    """CheckpointMismatch unless the checkpoint is of this very training; names the keys in which the configs differ."""
    m = checkpoint.manifest
    then, now = recorded_identity(m.role, m.config, m.training_sets), settled(config, m.training_sets).identity()
    if keys := ", ".join(_differing(then, now)):
        raise CheckpointMismatch(
            f"run directory {config.out} belongs to another config, which differs in {keys}; set `out` to a new directory, or restore them"
        )


def check_inputs(config: TrainConfig, fresh: bool = True) -> None:
    """Open what the config names, so that a wrong path is one message here and not a restart of every worker.

    What a run only starts from is not asked for once it has a checkpoint.
    """
    require_divisible(config)
    sources = config.sources()
    for source in (*sources.mocap, *sources.itw):
        shard_set = open_shard_set(source.url)
        if not shard_set.manifest.instances:
            raise ConfigError(f"loading: shard set {source.url} has no persons; take it out of the config, or ingest it again")
        if source.release is not None:
            open_reference(source.release)
    build_network(config, fresh=fresh)


def scaling(config: TrainConfig) -> ScalingConfig:
    """Workers and their resources, on the GPUs of the connected cluster if `device` allows and there are enough."""
    gpus, least = ray.cluster_resources().get("GPU", 0), config.world_sizes[0]
    if config.device == "cuda" and gpus < least:
        raise ConfigError(f"device 'cuda', num_workers {least}: the cluster has {gpus:g} GPUs; add some, or set device 'auto'")
    use_gpu = config.device != "cpu" and gpus >= least
    resources = {"CPU": config.cpus_per_worker} | ({"GPU": 1} if use_gpu else {})
    return ScalingConfig(
        num_workers=config.num_workers,
        use_gpu=use_gpu,
        resources_per_worker=resources,
        elastic_resize_monitor_interval_s=config.elastic_check_s,
    )


def _quieten_ray() -> None:
    """Ray Train's defaults repeat every printed line, and watch for preemption where there is but one node to lose."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    if len(ray.nodes()) == 1:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _cause(error: Exception, config: TrainConfig) -> EngineError:
    """The first worker's EngineError if that is what ended training, else one that says where to look."""
    for failure in getattr(error, "worker_failures", {}).values():
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, EngineError):
            return inner
    first = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return EngineError(
        f"{config.role}: training failed after {config.max_failures} restarts: {first}; see the workers' log above, "
        "then submit again to go on from the last checkpoint"
    )


def _differing(a: Any, b: Any, prefix: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [name for key in keys for name in _differing(a.get(key), b.get(key), f"{prefix}.{key}" if prefix else key)]
    return [] if a == b else [prefix]
