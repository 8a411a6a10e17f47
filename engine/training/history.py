"""A run's history: one row a log interval, kept inside its newest checkpoint."""

from __future__ import annotations

import json
from typing import Any

from engine.training.checkpoint import open_checkpoint


def read_history(url: str) -> list[dict[str, Any]]:
    """Rows of a run directory or checkpoint, oldest first.

    Each has step, epoch, lr, loss (weighted total), every loss term before its weight, grad_norm (means over the interval), samples_per_s
    and wait_share (share of the time spent waiting for data). MissingInput when there is no checkpoint.
    """
    return parse_history(open_checkpoint(url).get("history.jsonl"))


def parse_history(data: bytes) -> list[dict[str, Any]]:
    """Rows of history.jsonl."""
    return [json.loads(line) for line in data.splitlines() if line.strip()]
