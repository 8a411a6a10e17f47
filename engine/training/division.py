"""How a global batch is divided: over workers, and within a worker over micro-batches.

Every worker gets the same number of MoCap and of in-the-wild persons, and so does every micro-batch. A loss term is a mean over a
tensor, so the mean over equal parts is the mean over the whole, and gradients added up over micro-batches are those of one forward
pass. Two things see the parts: batch norm, whose statistics are a part's, and terms averaged over valid persons only (SPIN's).
Both see one worker's share in the same way, so it is nothing new.
"""

from __future__ import annotations

from torch import Tensor

from engine.errors import ConfigError
from engine.training.config import TrainConfig


def require_divisible(config: TrainConfig) -> None:
    """ConfigError unless every number of workers the run may have divides each half of the batch; names those that do not."""
    halves, batch = _halves(config), config.loading.batch_size
    if not halves:
        raise ConfigError("loading: no training data; name shard sets in loading.mocap and loading.itw")
    bad = [n for n in config.world_sizes if batch % (n * halves)]
    if not bad:
        return
    good = [n for n in range(1, config.world_sizes[-1] + 1) if batch % (n * halves) == 0]
    if len(config.world_sizes) == 1:
        expected = f"expected a multiple of {bad[0] * halves}, so that every worker's batch is {_what(halves)}"
    else:
        expected = f"{', '.join(map(str, bad))} workers could not share it evenly"
    remedy = f"numbers that divide it: {', '.join(map(str, good))}" if good else f"make it a multiple of {halves}"
    raise ConfigError(f"loading.batch_size {batch} with num_workers {_shown(config)}: {expected}; {remedy}")


def micro_batches(config: TrainConfig, world_size: int) -> int:
    """Forward passes a worker makes in one step: the fewest equal parts of its share that keep to `micro_batch` and to the halves."""
    share = config.loading.batch_size // world_size
    per_half = share // _halves(config)
    limit = config.micro_batch or share
    return next(n for n in range(1, per_half + 1) if per_half % n == 0 and (share // n <= limit or n == per_half))


def micro_batch(batch: dict[str, Tensor], index: int, count: int) -> dict[str, Tensor]:
    """One of `count` equal parts of a batch whose halves lie one after the other: every count-th person."""
    return batch if count == 1 else {name: values[index::count] for name, values in batch.items()}


def _halves(config: TrainConfig) -> int:
    sources = config.sources()
    return bool(sources.mocap) + bool(sources.itw)


def _what(halves: int) -> str:
    return "half MoCap and half ITW" if halves == 2 else "of one size"


def _shown(config: TrainConfig) -> str:
    return str(list(config.num_workers)) if isinstance(config.num_workers, tuple) else str(config.num_workers)
