"""The training loop of f and g: the same for both, on one worker or many, knowing nothing of Ray.

All that changes from step to step is the weights, the optimiser and the step's number: the order of samples, what dropout drops and
the learning rate are pure functions of it. So a run that goes on from a checkpoint gives the weights of one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.body.pose_prior import load_prior
from engine.body.smpl import load_body
from engine.errors import CheckpointMismatch, CommitConflict
from engine.loading.batches import Batch, BatchStream
from engine.loading.counter_rng import stable_key
from engine.loading.mean_parameters import mean_parameters
from engine.models.estimator import Network
from engine.models.registry import build
from engine.storage import Store
from engine.training.checkpoint import latest, load_state, open_checkpoint, require_same_parts
from engine.training.config import TrainConfig
from engine.training.division import micro_batch, micro_batches
from engine.training.optim import WeightAverage, learning_rate
from engine.training.progress import Reporter, StepResult, opening_line
from engine.training.state import TrainState, resume, save
from schemas.records import canonical_json, sha256_hex


def build_network(config: TrainConfig, rank: int = 0, fresh: bool = True) -> Network:
    """The network at its start: seeded, with recipe 2's backbone if the config names one. Raises what its parts raise.

    Not `fresh`: a checkpoint brings the weights, so `backbone_init` and `init_from`, which may be gone by then, are not read.
    """
    body = load_body(config.body)
    prior = load_prior(config.prior) if config.model.needs_prior else None
    torch.manual_seed(config.seed)
    model = build(config.model, body, prior)
    if config.backbone_init and fresh:
        report = model.init_backbone(config.backbone_init)
        if rank == 0:
            print(f"backbone from {config.backbone_init}: {report}", flush=True)
    if config.init_from and fresh:
        source = open_checkpoint(config.init_from)
        require_same_parts(source, body, prior)
        load_state(model, source.tensors("model.pt"), f"{source.store.url}/model.pt")
        if rank == 0:
            print(f"network from {source.store.url}, step {source.manifest.step}", flush=True)
    return model


def fit(config: TrainConfig, rank: int, world_size: int, device: torch.device, report: Callable[[dict[str, Any]], object]) -> None:
    """Train to the end from the run's latest checkpoint, or from the start.

    Called on every rank, with torch.distributed set up where `world_size` > 1. `report` gets each history row, on every rank alike; when it
    returns something true, also alike, a checkpoint is committed at once. Raises Diverged when loss or gradient stop being numbers,
    and what data and checkpoints raise.
    """
    run = Store(config.out)
    fresh = latest(run) is None
    model = build_network(config, rank, fresh).to(memory_format=torch.channels_last).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr, fused=True)
    decay = config.optim.ema_decay
    with BatchStream(config.sources(), config.model.crop, model.body, rank, world_size) as stream:
        if model.needs_mean_parameters and config.init_from is None and fresh:
            mean = mean_parameters(stream.sources)
            model.set_mean_parameters(mean.rotmats_2433, mean.betas_10)
        state = TrainState(model, optimizer, WeightAverage(model, decay) if decay is not None else None)
        state.bf16 = use_bf16(config.precision, device)
        resume(state, run, stream.digests)
        require_agreement(state, stream.digests, world_size, device, run)
        if config.compile:
            model.backbone.compile()
        network = DistributedDataParallel(model, gradient_as_bucket_view=True) if world_size > 1 else model
        parts, per_epoch = micro_batches(config, world_size), stream.steps_per_epoch
        total_steps = config.max_steps or config.epochs * per_epoch
        reporter = Reporter(config, model.terms, rank, world_size, device, total_steps, state.pending)
        if rank == 0:
            print(opening_line(config, state.step, total_steps, per_epoch, world_size, parts, stream.summary), flush=True)
        model.train()
        with closing(_timed(stream.run(state.step, total_steps))) as batches:
            for batch, wait_s in batches:
                epoch = state.step // per_epoch
                lr = learning_rate(config.optim, state.step, per_epoch, total_steps)
                seed_step(config.seed, state.step, rank)
                result = optimise(config, model, network, optimizer, batch, lr, device, parts)
                if state.average:
                    state.average.update(model, state.step)
                state.step += 1
                leaving = False
                if row := reporter.after_step(state.step, epoch, lr, result, wait_s):
                    state.history.append(row)
                    leaving = bool(report(row)) or reporter.checkpoint_due
                if leaving or state.step % config.checkpoint_every_steps == 0 or state.step == total_steps:
                    state.pending = reporter.settle(state.step)
                    if rank == 0:
                        save(config, state, run, epoch, total_steps, stream.digests)
                    reporter.after_checkpoint()


def optimise(
    config: TrainConfig,
    model: Network,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    lr: float,
    device: torch.device,
    parts: int = 1,
) -> StepResult:
    """One optimiser step on one batch, in `parts` forward passes. `network` is the model, or what wraps it for data-parallel training.

    Gradients are exchanged between ranks in the last pass alone.
    """
    tensors = {k: v.to(device, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
    optimizer.zero_grad(set_to_none=True)
    seen: list[tuple[dict[str, Tensor], Tensor]] = []
    for index in range(parts):
        part = micro_batch(tensors, index, parts)
        alone = isinstance(network, DistributedDataParallel) and index < parts - 1
        with network.no_sync() if alone else nullcontext():
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16(config.precision, device)):
                output = network(part)
            terms = model.loss_terms(output, part)
            loss = model.total_loss(terms)
            (loss / parts).backward()
        seen.append(({name: term.detach() for name, term in terms.items()}, loss.detach()))
    grad_norm = nn.utils.clip_grad_norm_(network.parameters(), config.optim.grad_clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    means = {name: torch.stack([terms[name] for terms, _ in seen]).mean() for name in model.terms}
    return StepResult(means, torch.stack([loss for _, loss in seen]).mean(), grad_norm.detach())


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make what a network draws in a step (dropout) a pure function of the step and the rank."""
    torch.manual_seed(stable_key(seed, "step", step, rank))


def require_agreement(state: TrainState, training_sets: dict[str, str], world_size: int, device: torch.device, run: Store) -> None:
    """CommitConflict unless every rank stands at the same step: a worker thought dead may have committed while they read.

    CheckpointMismatch unless all have the same body, prior, training sets and precision, which their machines may not.
    """
    if world_size == 1:
        return
    prior = state.model.prior
    files = {"body": state.model.body.digest, "prior": prior.digest if prior else None, "bf16": state.bf16, "sets": training_sets}
    mark = int(sha256_hex(canonical_json(files))[:15], 16)
    bounds = torch.tensor([state.step, mark, -state.step, -mark], device=device)
    dist.all_reduce(bounds, op=dist.ReduceOp.MAX)
    most, highest, least, lowest = (int(value) for value in bounds * torch.tensor([1, 1, -1, -1], device=device))
    if most != least:
        raise CommitConflict(f"{run.url}: ranks found checkpoints of steps {least} and {most}; another run commits here: stop one")
    if highest != lowest:
        raise CheckpointMismatch(
            f"{run.url}: workers differ in body files, prior files, training sets or native bf16; put the same files on every machine, "
            "and set `precision` where machines differ"
        )


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
