"""What a checkpoint must bring back, and how it is brought back.

The order of samples, augmentation, dropout and learning rate are pure functions of (manifest digests, seed, step, rank). What is left
is here: weights, optimiser, the weights' average, and what the history has summed up since its last row. Batch norm's statistics are
rank 0's: DistributedDataParallel gives them to the other ranks before every forward pass, and nothing reads them in training.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.errors import AlreadyExists, CheckpointMismatch
from engine.models.estimator import Network
from engine.storage import Store
from engine.training.checkpoint import commit, history_bytes, latest, load_state, part, require_same_parts, serialise
from engine.training.config import TrainConfig
from engine.training.history import parse_history
from engine.training.optim import WeightAverage
from engine.training.progress import Pending
from engine.training.tensorboard import event_file, event_file_name
from schemas.records import canonical_json, sha256_hex

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Everything a checkpoint must bring back."""

    model: Network
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    step: int = 0
    """Optimiser steps done."""
    history: list[dict[str, Any]] = field(default_factory=list)
    pending: Pending | None = None
    """Steps that are in no row of the history yet."""
    saved_step: int = 0
    """Step of the newest checkpoint."""
    bf16: bool | None = None
    """Whether the backbone runs in bf16; not brought back, but told where it differs."""


def resume(state: TrainState, run: Store, training_sets: dict[str, str]) -> None:
    """Bring `state` to the run's latest checkpoint, if there is one.

    CheckpointMismatch if it is of another network, or if the content of a training set, the body or the prior has changed since.
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
    require_same_parts(checkpoint, state.model.body, state.model.prior)
    name = f"{checkpoint.store.url}/model.pt"
    weights, rest = checkpoint.tensors("model.pt"), checkpoint.tensors("optimizer.pt")
    load_state(state.model, rest["model"] if state.average else weights, name)
    if state.average:
        for key, value in state.average.state.items():
            value.copy_(weights[key])
    state.optimizer.load_state_dict(rest["optimizer"])
    state.step = state.saved_step = checkpoint.manifest.step
    state.history = parse_history(checkpoint.get("history.jsonl"))
    if rest.get("bf16") not in (None, state.bf16):
        then, now = ("bf16" if bf16 else "fp32" for bf16 in (rest["bf16"], state.bf16))
        log.warning("%s was trained in %s and goes on in %s here; set `precision` to keep it", run.url, then, now)
    if pending := rest.get("pending"):
        state.pending = Pending(pending["steps"], pending["sums"])


def save(config: TrainConfig, state: TrainState, run: Store, epoch: int, total_steps: int, training_sets: dict[str, str]) -> None:
    """Commit the state. model.pt is what to use (the average where there is one); optimizer.pt is what to go on from.

    The rows since the checkpoint before are written to the run's `tensorboard` folder as well.
    """
    raw = _on_cpu(state.model.state_dict())
    pending = {"steps": state.pending.steps, "sums": state.pending.sums.cpu()} if state.pending else {}
    rest = {"optimizer": state.optimizer.state_dict(), "model": raw if state.average else {}, "pending": pending, "bf16": state.bf16}
    files = {
        "model.pt": serialise(_on_cpu(state.average.state) if state.average else raw),
        "optimizer.pt": serialise(rest),
        "history.jsonl": history_bytes(state.history),
    }
    _write_events(state, run)
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
    state.saved_step = manifest.step
    print(f"checkpoint at step {manifest.step} committed to {run.url}", flush=True)


def _write_events(state: TrainState, run: Store) -> None:
    """A crash before the commit leaves a file that the next attempt finds there: it holds the same rows."""
    rows = [row for row in state.history if row["step"] > state.saved_step]
    if rows:
        try:
            run.create(f"tensorboard/{event_file_name(state.step)}", event_file(rows))
        except AlreadyExists:
            return


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in state.items()}
