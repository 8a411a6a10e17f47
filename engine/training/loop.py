"""The training loop of f and g: the same for both, on one worker or many, knowing nothing of Ray.

All that changes from step to step is the weights, the optimiser and the step's number: the order of samples and the learning rate are
pure functions of it. So a run that goes on from a checkpoint gives the weights of one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.body.pose_prior import load_prior
from engine.body.smpl import load_body
from engine.errors import CheckpointMismatch
from engine.loading.batches import Batch, BatchStream
from engine.loading.mean_parameters import mean_parameters
from engine.models.estimator import Network
from engine.models.registry import build
from engine.storage import Store
from engine.training.checkpoint import commit, history_bytes, latest, load_state, open_checkpoint, part, serialise
from engine.training.config import TrainConfig
from engine.training.history import parse_history
from engine.training.optim import WeightAverage, learning_rate
from engine.training.progress import Reporter, StepResult, check_finite
from schemas.records import canonical_json, sha256_hex


@dataclass
class TrainState:
    """Everything a checkpoint must bring back."""

    model: Network
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0
    """Optimiser steps done."""
    history: list[dict[str, Any]] = field(default_factory=list)


def build_network(config: TrainConfig, rank: int = 0) -> Network:
    """The network at its start: seeded, with recipe 2's backbone if the config names one. Raises what its parts raise."""
    body = load_body(config.body)
    prior = load_prior(config.prior) if config.model.needs_prior else None
    torch.manual_seed(config.seed)
    model = build(config.model, body, prior)
    if config.backbone_init:
        report = model.init_backbone(config.backbone_init)
        if rank == 0:
            print(f"backbone from {config.backbone_init}: {report}", flush=True)
    if config.init_from:
        source = open_checkpoint(config.init_from)
        load_state(model, source.tensors("model.pt"), f"{source.store.url}/model.pt")
        if rank == 0:
            print(f"network from {source.store.url}, step {source.manifest.step}", flush=True)
    return model


def fit(config: TrainConfig, rank: int, world_size: int, device: torch.device, report: Callable[[dict[str, Any]], None]) -> None:
    """Train to the end from the run's latest checkpoint, or from the start.

    Called on every rank, with torch.distributed set up where `world_size` > 1. `report` gets each history row, on every rank alike.
    Raises EngineError when the loss stops being a number, and what data and checkpoints raise.
    """
    model = build_network(config, rank).to(memory_format=torch.channels_last).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr, fused=True)
    decay = config.optim.ema_decay
    run = Store(config.out)
    with BatchStream(config.sources(), config.model.crop, model.body, rank, world_size) as stream:
        if model.needs_mean_parameters and config.init_from is None and latest(run) is None:
            mean = mean_parameters(stream.sources)
            model.set_mean_parameters(mean.rotmats_2433, mean.betas_10)
        state = TrainState(model, optimizer, WeightAverage(model, decay) if decay is not None else None)
        resume(state, run, stream.digests)
        if config.compile:
            model.backbone.compile()
        network = DistributedDataParallel(model, gradient_as_bucket_view=True) if world_size > 1 else model
        total_steps = config.max_steps or config.epochs * stream.steps_per_epoch
        reporter = Reporter(config, model.terms, rank, world_size, device, total_steps)
        model.train()
        while state.step < total_steps:
            epoch, start = divmod(state.step, stream.steps_per_epoch)
            with closing(_timed(stream.batches(epoch, start))) as batches:
                for batch, wait_s in islice(batches, total_steps - state.step):
                    lr = learning_rate(config.optim, state.step, stream.steps_per_epoch, total_steps)
                    result = optimise(config, model, network, optimizer, batch, lr, device)
                    if state.average:
                        state.average.update(model, state.step)
                    state.step += 1
                    if row := reporter.after_step(state.step, epoch, lr, result, wait_s):
                        state.history.append(row)
                        report(row)
                    if rank == 0 and (state.step % config.checkpoint_every_steps == 0 or state.step == total_steps):
                        check_finite(float(result.loss), state.step)
                        save(config, state, run, epoch, total_steps, stream.digests)


def optimise(
    config: TrainConfig, model: Network, network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, lr: float, device: torch.device
) -> StepResult:
    """One optimiser step on one batch. `network` is the model, or what wraps it for data-parallel training."""
    batch = {k: v.to(device, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16(config.precision, device)):
        output = network(batch)
    terms = model.loss_terms(output, batch)
    loss = model.total_loss(terms)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    grad_norm = nn.utils.clip_grad_norm_(network.parameters(), config.optim.grad_clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return StepResult({name: term.detach() for name, term in terms.items()}, loss.detach(), grad_norm.detach())


def resume(state: TrainState, run: Store, training_sets: dict[str, str]) -> None:
    """Bring `state` to the run's latest checkpoint, if there is one.

    CheckpointMismatch if it does not fit the network, or if a training set's content has changed since.
    """
    checkpoint = latest(run)
    if checkpoint is None:
        return
    then = checkpoint.manifest.training_sets
    if changed := sorted(name for name in then.keys() | training_sets.keys() if then.get(name) != training_sets.get(name)):
        raise CheckpointMismatch(
            f"run {run.url}: training sets {', '.join(changed)} are not those its checkpoint was trained on; restore them, "
            "or train in a new directory"
        )
    name = f"{checkpoint.store.url}/model.pt"
    weights, rest = checkpoint.tensors("model.pt"), checkpoint.tensors("optimizer.pt")
    if state.average:
        load_state(state.model, rest["model"], name)
        for key, value in state.average.state.items():
            value.copy_(weights[key])
    else:
        load_state(state.model, weights, name)
    state.optimizer.load_state_dict(rest["optimizer"])
    state.step = checkpoint.manifest.step
    state.history = parse_history(checkpoint.get("history.jsonl"))


def save(config: TrainConfig, state: TrainState, run: Store, epoch: int, total_steps: int, training_sets: dict[str, str]) -> None:
    """Commit the state. model.pt is what to use (the average where there is one); optimizer.pt is what to go on from."""
    raw = _on_cpu(state.model.state_dict())
    files = {
        "model.pt": serialise(_on_cpu(state.average.state) if state.average else raw),
        "optimizer.pt": serialise({"optimizer": state.optimizer.state_dict(), "model": raw if state.average else {}}),
        "history.jsonl": history_bytes(state.history),
    }
    prior = state.model.prior
    manifest = commit(
        run,
        files,
        config.keep_checkpoints,
        role=config.role,
        step=state.step,
        epoch=epoch,
        total_steps=total_steps,
        samples_consumed=state.step * config.loading.batch_size,
        model=config.model.model_dump(mode="json"),
        body=part(state.model.body, config.body),
        prior=part(prior, config.prior) if prior is not None else None,
        config=config.model_dump(mode="json"),
        config_digest=sha256_hex(canonical_json(config.identity())),
        training_sets=training_sets,
    )
    print(f"checkpoint at step {manifest.step} committed to {run.url}", flush=True)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether the backbone runs in bf16: asked for, or 'auto' on hardware that multiplies it natively."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _timed(batches: Iterator[Batch]) -> Generator[tuple[Batch, float]]:
    """Each batch with the seconds waited for it. Closing this closes the stream, and with it its threads."""
    try:
        while True:
            begin = time.monotonic()
            if (batch := next(batches, None)) is None:
                return
            yield batch, time.monotonic() - begin
    finally:
        batches.close()


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in state.items()}
