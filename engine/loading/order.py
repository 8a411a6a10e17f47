"""The canonical order of training instances: a pure function of (shard-set digests, weights, seed, epoch).

Each source is shuffled by itself, shards first and then samples within windows of shards, so that shards can arrive while
training runs. Sources of one half (MoCap or ITW) are merged by weighted fair queueing: a sample's place is the number of its
source's instances before it, divided by the source's rate, and the merge sorts by place. All instances of a sample stay
adjacent, so an image is decoded once. A step takes the next instances of each half; a rank takes a contiguous slice of them.
So any world size that divides a half sees the same global batch at every step, and to resume is to start counting at a step.

How much of each source there is:
- Half of every batch is MoCap and half in the wild, exactly, on every rank (the paper's text; the authors' loader shuffles both halves
  together and has it in expectation). With one half empty the other fills the batch.
- Within a half, an instance of weight w is seen w times as often as one of weight 1: a source's part of the half is weight x size over the
  half's sum of them. Weight 1 everywhere, the default, is the authors' concatenation: every person alike. A `share` fixes that part
  instead, whatever the sizes; the sources without one divide what is left by weight and size. Parts hold in every stretch of the
  order to within a few persons, not only on average.
- An epoch runs through the longer half once, longer by weight x size: `steps_per_epoch` = floor(2 x longer half / batch), the authors'
  law of 2 x max(3D, 2D) with the last, incomplete batch dropped. So weight w means w times an epoch in the longer half, and weight 1
  exactly once. The shorter half starts over in a new shuffle as often as needed: over an epoch the counts of a source's persons
  differ by one at most, where the authors repeat the half whole and draw the remainder at random with repetition.

Shapes: S samples of a source, T instances of an epoch's half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.errors import ConfigError
from engine.loading.counter_rng import permutation, stable_key


@dataclass(frozen=True)
class SourceShape:
    """What the order must know of a source: its identity, how many usable instances each sample has, shard by shard, and its weight."""

    digest: str
    instances_per_shard: tuple[np.ndarray, ...]
    weight: float = 1.0
    share: float | None = None
    """Fraction of its half that comes from it, whatever its size; `apply_shares` turns it into a weight."""

    @property
    def instances(self) -> int:
        return int(sum(int(shard.sum()) for shard in self.instances_per_shard))


@dataclass(frozen=True)
class HalfOrder:
    """The instances of one half in an epoch, in order: source, sample in the source, instance in the sample, pass of the source."""

    source_T: np.ndarray
    sample_T: np.ndarray
    instance_T: np.ndarray
    pass_T: np.ndarray

    def __len__(self) -> int:
        return len(self.source_T)

    def tolist(self) -> list[tuple[int, int, int, int]]:
        """(source, sample, instance, pass) of every instance."""
        return list(zip(*(column.tolist() for column in (self.source_T, self.sample_T, self.instance_T, self.pass_T)), strict=True))

    def __getitem__(self, part: slice) -> HalfOrder:
        return HalfOrder(self.source_T[part], self.sample_T[part], self.instance_T[part], self.pass_T[part])


def apply_shares(half: tuple[SourceShape, ...]) -> tuple[SourceShape, ...]:
    """The same half with every share turned into the weight that gives it; sources without one divide the rest by weight and size.

    ConfigError when the shares leave nothing for the others, or, with no others, do not add up to 1.
    """
    shared = sum(shape.share for shape in half if shape.share is not None)
    if not shared:
        return half
    others = _size(tuple(shape for shape in half if shape.share is None))
    if (others and shared >= 1) or (not others and abs(shared - 1) > 1e-6):
        rest = "below 1, so that something is left for the sources without a share" if others else "1"
        raise ConfigError(f"loading: the shares of one half add up to {shared:g}; expected {rest}")
    total = others / (1 - shared) if others else sum(shape.instances for shape in half)
    return tuple(s if s.share is None else replace(s, weight=s.share * total / max(1, s.instances)) for s in half)


def half_sizes(mocap: tuple[SourceShape, ...], itw: tuple[SourceShape, ...]) -> tuple[float, float]:
    """Weighted numbers of instances of the two halves, sum of weight x size, after `apply_shares`."""
    return _size(mocap), _size(itw)


def steps_per_epoch(sizes: tuple[float, float], batch_size: int) -> int:
    """Whole batches until the longer half has been seen once, at least 1: floor(2 x longer / batch), or of it alone floor(it / batch)."""
    per_half = batch_size / sum(size > 0 for size in sizes)
    return max(1, int(max(sizes) / per_half + 1e-9))


def instances_per_half(sizes: tuple[float, float], batch_size: int, world_size: int) -> tuple[int, int]:
    """How many instances of a global batch come from each half. ConfigError if the batch cannot be cut evenly."""
    halves = sum(size > 0 for size in sizes)
    if halves == 0:
        raise ConfigError("training data: no source has a usable instance; check the shard sets and releases that the config names")
    if batch_size % (halves * world_size):
        raise ConfigError(f"batch_size {batch_size}: expected a multiple of {halves * world_size} ({halves} halves x {world_size} ranks)")
    share = batch_size // halves
    return share if sizes[0] > 0 else 0, share if sizes[1] > 0 else 0


def rank_part(order: HalfOrder, step: int, per_step: int, rank: int, world_size: int) -> HalfOrder:
    """The contiguous part of one step's `per_step` instances that belongs to a rank."""
    local = per_step // world_size
    start = step * per_step + rank * local
    return order[start : start + local]


def half_order(shapes: tuple[SourceShape, ...], seed: int, epoch: int, needed: int, window_shards: int) -> HalfOrder:
    """The first `needed` instances of a half in an epoch. A longer order begins with every shorter one."""
    total = _size(shapes)
    live = [i for i, shape in enumerate(shapes) if shape.weight * shape.instances > 0]
    horizon = float(needed)
    while True:
        streams = [_stream(shapes[i], i, shapes[i].weight * shapes[i].instances / total, seed, epoch, horizon, window_shards) for i in live]
        place = np.concatenate([s.place for s in streams])
        source = np.concatenate([np.full(len(s.place), i, dtype=np.int32) for i, s in zip(live, streams, strict=True)])
        sample = np.concatenate([s.sample for s in streams])
        passes = np.concatenate([s.passes for s in streams])
        counts = np.concatenate([s.counts for s in streams])
        complete = min(s.place[-1] for s in streams)  # beyond it some stream may still lack samples
        merged = np.lexsort((source, place))
        merged = merged[place[merged] <= complete]
        if counts[merged].sum() >= needed:
            break
        horizon *= 1.25
    counts = counts[merged]
    starts = np.cumsum(counts) - counts
    instance = np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)
    expanded = (np.repeat(values[merged], counts)[:needed].astype(np.int32) for values in (source, sample, passes))
    source_T, sample_T, pass_T = expanded
    return HalfOrder(source_T, sample_T, instance[:needed].astype(np.int32), pass_T)


def sample_order(shape: SourceShape, key: int, window_shards: int) -> np.ndarray:
    """One pass over a source: every sample with usable instances once. Shards are shuffled, then samples within windows of shards."""
    starts = np.cumsum([0, *(len(shard) for shard in shape.instances_per_shard)])
    shards = permutation(stable_key(key, "shards"), len(shape.instances_per_shard))
    windows = []
    for number, at in enumerate(range(0, len(shards), window_shards)):
        pool = np.concatenate([starts[s] + np.flatnonzero(shape.instances_per_shard[s]) for s in shards[at : at + window_shards]])
        windows.append(pool[permutation(stable_key(key, "window", number), len(pool))])
    return np.concatenate(windows)


@dataclass(frozen=True)
class _Stream:
    place: np.ndarray
    sample: np.ndarray
    counts: np.ndarray
    passes: np.ndarray


def _stream(shape: SourceShape, position: int, rate: float, seed: int, epoch: int, horizon: float, window_shards: int) -> _Stream:
    """A source's samples, pass after pass of the epoch, at least until the place `horizon`."""
    counts_S = np.concatenate(shape.instances_per_shard)
    passes = max(1, int(np.ceil((horizon * rate + counts_S.max()) / shape.instances)))
    samples, numbers = [], []
    for number in range(passes):
        samples.append(sample_order(shape, stable_key(seed, epoch, position, shape.digest, number), window_shards))
        numbers.append(np.full(len(samples[-1]), number))
    sample = np.concatenate(samples)
    counts = counts_S[sample].astype(np.int64)
    place = (np.cumsum(counts) - 0.5 * counts) / rate
    return _Stream(place, sample, counts, np.concatenate(numbers))


def _size(shapes: tuple[SourceShape, ...]) -> float:
    return float(sum(shape.weight * shape.instances for shape in shapes))
