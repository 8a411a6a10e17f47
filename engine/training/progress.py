"""What a run tells while it runs: a first line, a row of means a log interval, and a line a person can follow in a job's log."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import EngineError
from engine.training.config import TrainConfig

_HALVES = {"mocap": "MoCap half", "itw": "in-the-wild half"}


class Diverged(EngineError):
    """The loss or its gradient is no number. Every rank finds it at the same step; to start again would not help."""


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step gave; scalars that are still on the device."""

    terms: dict[str, Tensor]
    """Each loss term before its weight."""
    loss: Tensor
    grad_norm: Tensor
    """Before clipping."""


@dataclass(frozen=True)
class Pending:
    """Steps since the last row, for a checkpoint between two rows."""

    steps: int
    sums: Tensor
    """Of every term, the loss and the gradient's norm, means over all ranks."""


class Reporter:
    """Collects steps and tells about them: a history row every `log_every_steps`, on rank 0 a printed line every `progress_every_s`.

    Sums stay on the device, so that steps are not held up by reads. A row and `settle` are collectives: every rank calls `after_step` and
    `settle` equally often. They raise Diverged on every rank when a loss or gradient since the last of them is no number.
    """

    def __init__(
        self,
        config: TrainConfig,
        terms: tuple[str, ...],
        rank: int,
        world_size: int,
        device: torch.device,
        total_steps: int,
        pending: Pending | None = None,
    ) -> None:
        self.config = config
        self.terms = terms
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.total_steps = total_steps
        self.checkpoint_due = False
        """Whether rank 0, at the last row, found `checkpoint_every_s` gone since the last checkpoint; the same on every rank."""
        self._last_line = self._last_checkpoint = time.monotonic()
        self._reset()
        if pending is not None:
            self._settled, self._settled_steps = pending.sums.to(device), pending.steps

    def after_step(self, step: int, epoch: int, lr: float, result: StepResult, wait_s: float) -> dict[str, Any] | None:
        """Note step number `step` (counted from 1), which waited `wait_s` for its data; the history's row when one is due."""
        values = [result.terms[name] for name in self.terms] + [result.loss, result.grad_norm]
        self._sums += torch.stack(values).float()
        self._steps += 1
        self._steps_here += 1
        self._wait_s += wait_s
        if self.rank == 0 and (step == self.total_steps or time.monotonic() - self._last_line >= self.config.progress_every_s):
            print(self._line(step, epoch, lr), flush=True)
            self._last_line = time.monotonic()
        if step % self.config.log_every_steps != 0 and step != self.total_steps:
            return None
        rate, wait_share = self._rates()
        pending = self.settle(step)
        row = {"step": step, "epoch": epoch, "lr": lr, **self._named(pending.sums / pending.steps)}
        row |= {"samples_per_s": round(rate, 1), "wait_share": round(wait_share, 3)}
        self._reset()
        return row

    def settle(self, step: int) -> Pending:
        """The steps since the last row, over all ranks."""
        overdue = self.config.checkpoint_every_s is not None and time.monotonic() - self._last_checkpoint >= self.config.checkpoint_every_s
        shared = torch.cat((self._sums, self._sums.new_tensor([float(self.rank == 0 and overdue)])))
        if self.world_size > 1:
            dist.all_reduce(shared)
        self.checkpoint_due = bool(shared[-1])
        self._settled = self._settled + shared[:-1] / self.world_size
        self._settled_steps += self._steps
        self._sums, self._steps = torch.zeros_like(self._sums), 0
        loss, grad_norm = self._settled[-2:].tolist()
        check_finite(loss, grad_norm, step)
        return Pending(self._settled_steps, self._settled)

    def after_checkpoint(self) -> None:
        """Start the clock of `checkpoint_every_s` anew."""
        self._last_checkpoint = time.monotonic()

    def _reset(self) -> None:
        self._sums = torch.zeros(len(self.terms) + 2, device=self.device)
        self._settled = torch.zeros_like(self._sums)
        self._steps = self._settled_steps = 0
        self._steps_here, self._wait_s, self._since = 0, 0.0, time.monotonic()

    def _rates(self) -> tuple[float, float]:
        """Samples a second over all ranks; share of the time this rank waited for data."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        return self._steps_here * self.config.loading.batch_size / elapsed, self._wait_s / elapsed

    def _named(self, means: Tensor) -> dict[str, float]:
        return dict(zip((*self.terms, "loss", "grad_norm"), means.tolist(), strict=True))

    def _line(self, step: int, epoch: int, lr: float) -> str:
        """Progress, with this rank's means since the last row or checkpoint."""
        means, (rate, wait_share) = self._named(self._sums / max(1, self._steps)), self._rates()
        terms = " ".join(f"{name} {means[name]:.3f}" for name in self.terms if means[name] != 0)
        left_s = (self.total_steps - step) * self.config.loading.batch_size / max(rate, 1e-9)
        minutes, seconds = divmod(round(left_s), 60)
        return (
            f"step {step}/{self.total_steps} epoch {epoch} | {rate:.0f} samples/s, waiting for data {wait_share:.0%} | lr {lr:.1e} "
            f"| loss {means['loss']:.3f}: {terms} | {minutes}m{seconds:02d}s left"
        )


def opening_line(
    config: TrainConfig, step: int, total_steps: int, steps_per_epoch: int, world_size: int, parts: int, sources: Sequence[dict[str, Any]]
) -> str:
    """What a run is about to do: length, division of the batch, and how much of each half comes from which source."""
    size = config.loading.batch_size
    pieces = f" in {parts} micro-batches" if parts > 1 else ""
    halves = []
    for half, title in _HALVES.items():
        if shares := [f"{s['dataset']} {s['share']:.0%} ({s['instances']} persons)" for s in sources if s["half"] == half]:
            halves.append(f"{title}: {', '.join(shares)}")
    begin = f"from step {step} " if step else ""
    return (
        f"{config.role}: {begin}to step {total_steps}, {steps_per_epoch} an epoch | {size} samples a step, {size // world_size} on each of "
        f"{world_size} workers{pieces} | {' | '.join(halves)}"
    )


def check_finite(loss: float, grad_norm: float, step: int) -> None:
    """Diverged unless loss and gradient are numbers; called before anything is committed."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {grad_norm}"
        raise Diverged(f"training at step {step}: {what}; lower optim.lr or set optim.grad_clip to 1.0 in a new run directory")
