"""What a run tells while it runs: a row of means a log interval, and a line a person can follow in a job's log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import EngineError
from engine.training.config import TrainConfig


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step gave; scalars that are still on the device."""

    terms: dict[str, Tensor]
    """Each loss term before its weight."""
    loss: Tensor
    grad_norm: Tensor
    """Before clipping."""


class Reporter:
    """Collects steps and tells about them: a history row every `log_every_steps`, on rank 0 a printed line every `progress_every_s`.

    Sums stay on the device, so that steps are not held up by reads. A row is a collective: every rank calls `after_step` equally often.
    """

    def __init__(
        self, config: TrainConfig, terms: tuple[str, ...], rank: int, world_size: int, device: torch.device, total_steps: int
    ) -> None:
        self.config = config
        self.terms = terms
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.total_steps = total_steps
        self._last_line = time.monotonic()
        self._reset()

    def after_step(self, step: int, epoch: int, lr: float, result: StepResult, wait_s: float) -> dict[str, Any] | None:
        """Note step number `step` (counted from 1), which waited `wait_s` for its data; the history's row when one is due.

        EngineError when the loss of an interval is not a number.
        """
        values = [result.terms[name] for name in self.terms] + [result.loss, result.grad_norm]
        self._sums += torch.stack(values).float()
        self._steps += 1
        self._wait_s += wait_s
        row_due = step % self.config.log_every_steps == 0 or step == self.total_steps
        if self.rank == 0 and (step == self.total_steps or time.monotonic() - self._last_line >= self.config.progress_every_s):
            print(self._line(step, epoch, lr), flush=True)
            self._last_line = time.monotonic()
        if not row_due:
            return None
        rate, wait_share = self._rates()
        row = {"step": step, "epoch": epoch, "lr": lr, **self._means(reduce=True)}
        row |= {"samples_per_s": round(rate, 1), "wait_share": round(wait_share, 3)}
        check_finite(row["loss"], step)
        self._reset()
        return row

    def _reset(self) -> None:
        self._sums = torch.zeros(len(self.terms) + 2, device=self.device)
        self._steps = 0
        self._wait_s = 0.0
        self._since = time.monotonic()

    def _rates(self) -> tuple[float, float]:
        """Samples a second over all ranks; share of the time this rank waited for data."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        return self._steps * self.config.loading.batch_size / elapsed, self._wait_s / elapsed

    def _means(self, reduce: bool) -> dict[str, float]:
        means = self._sums / max(1, self._steps)
        if reduce and self.world_size > 1:
            dist.all_reduce(means)
            means = means / self.world_size
        return dict(zip((*self.terms, "loss", "grad_norm"), means.tolist(), strict=True))

    def _line(self, step: int, epoch: int, lr: float) -> str:
        means, (rate, wait_share) = self._means(reduce=False), self._rates()
        terms = " ".join(f"{name} {means[name]:.3f}" for name in self.terms if means[name] != 0)
        left_s = (self.total_steps - step) * self.config.loading.batch_size / max(rate, 1e-9)
        minutes, seconds = divmod(round(left_s), 60)
        return (
            f"step {step}/{self.total_steps} epoch {epoch} | {rate:.0f} samples/s, waiting for data {wait_share:.0%} | lr {lr:.1e} "
            f"| loss {means['loss']:.3f}: {terms} | {minutes}m{seconds:02d}s left"
        )


def check_finite(loss: float, step: int) -> None:
    """EngineError unless the loss is a number; called before anything is committed."""
    if not math.isfinite(loss):
        raise EngineError(
            f"training at step {step}: the loss is {loss}; lower optim.lr or set optim.grad_clip to 1.0 in a new run directory"
        )
