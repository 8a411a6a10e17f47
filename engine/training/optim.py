"""Learning rate as a pure function of the step, and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.training.config import OptimConfig

RISE = 0.15
"""Share of a onecycle run in which the rate rises, unless warmup_steps says otherwise."""


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """The rate of a step, counted from 0. Knows nothing but its arguments, so a resumed run needs no scheduler state."""
    if config.schedule == "onecycle":
        rise = config.warmup_steps or max(1, round(RISE * total_steps))
        if step < rise:
            return config.lr * (step + 1) / rise
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total_steps - rise)))
    rate = config.lr * 0.1 ** sum(step // steps_per_epoch >= m for m in config.milestones)
    return rate * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else rate


class WeightAverage:
    """Exponential moving average of a network's parameters and float buffers; short at first, so early steps are forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after optimiser step `step` (counted from 0)."""
        current = model.state_dict()
        floats = [k for k, v in self.state.items() if v.is_floating_point()]
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([self.state[k] for k in floats], [current[k].detach() for k in floats], weight)
        for k, v in self.state.items():
            if not v.is_floating_point():
                v.copy_(current[k])
