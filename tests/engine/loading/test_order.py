from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.loading.order import (
    SourceShape,
    apply_shares,
    half_order,
    half_sizes,
    instances_per_half,
    rank_part,
    sample_order,
    steps_per_epoch,
)

shard = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda counts: np.array(counts, dtype=np.int32))


@st.composite
def source(draw, digest: str = "d"):
    shards = draw(st.lists(shard, min_size=1, max_size=6))
    if sum(s.sum() for s in shards) == 0:
        shards[0] = shards[0] + 1
    return SourceShape(draw(st.sampled_from("abcdef")) + digest, tuple(shards), draw(st.sampled_from([0.5, 1.0, 3.0])))


halves = st.lists(source(), min_size=1, max_size=3).map(tuple)
seeds = st.integers(0, 5)
few = settings(max_examples=40, deadline=None)


@few
@given(shape=source(), key=st.integers(0, 2**64 - 1), window=st.integers(1, 8))
def test_a_pass_holds_every_usable_sample_once(shape: SourceShape, key: int, window: int):
    order = sample_order(shape, key, window)
    assert sorted(order.tolist()) == np.flatnonzero(np.concatenate(shape.instances_per_shard)).tolist()


@few
@given(shape=source(), key=st.integers(0, 2**64 - 1), window=st.integers(1, 3))
def test_a_window_is_finished_before_the_next_shards_are_touched(shape: SourceShape, key: int, window: int):
    shard_of = np.repeat(np.arange(len(shape.instances_per_shard)), [len(s) for s in shape.instances_per_shard])
    left, open_shards = Counter(), set()
    for s, counts in enumerate(shape.instances_per_shard):
        left[s] = int((counts > 0).sum())
    for sample in sample_order(shape, key, window):
        s = int(shard_of[sample])
        open_shards.add(s)
        assert len(open_shards) <= window
        left[s] -= 1
        if all(left[o] == 0 for o in open_shards):
            open_shards.clear()


@few
@given(shapes=halves, seed=seeds, epoch=st.integers(0, 3), needed=st.integers(1, 400))
def test_a_half_is_exactly_as_long_as_asked_and_its_passes_are_whole(shapes, seed, epoch, needed):
    order = half_order(shapes, seed, epoch, needed, window_shards=4)
    assert len(order) == needed
    for i, shape in enumerate(shapes):
        counts = np.concatenate(shape.instances_per_shard)
        mine = [(p, s, k) for source, s, k, p in order.tolist() if source == i]
        assert len(set(mine)) == len(mine)
        assert all(k < counts[s] for _, s, k in mine)
        per_pass = Counter(p for p, _, _ in mine)
        for number in sorted(per_pass)[:-1]:
            assert per_pass[number] == shape.instances  # a pass ends before the next begins


@few
@given(shapes=halves, seed=seeds, needed=st.integers(1, 200), more=st.integers(0, 200))
def test_a_longer_order_begins_with_the_shorter(shapes, seed, needed, more):
    short, long = (half_order(shapes, seed, 1, n, 4).tolist() for n in (needed, needed + more))
    assert long[:needed] == short


@few
@given(shapes=halves, seed=seeds, needed=st.integers(50, 400))
def test_instances_of_a_sample_are_adjacent_and_in_order(shapes, seed, needed):
    order = half_order(shapes, seed, 0, needed, 4).tolist()
    for before, after in pairwise(order):
        if after[2] > 0:
            assert (before[0], before[1], before[3], before[2] + 1) == (after[0], after[1], after[3], after[2])
        else:
            assert before[2] + 1 == np.concatenate(shapes[before[0]].instances_per_shard)[before[1]]


@few
@given(shapes=halves, seed=seeds, needed=st.integers(50, 600))
def test_every_prefix_holds_the_sources_in_proportion_to_weight_times_size(shapes, seed, needed):
    order = half_order(shapes, seed, 0, needed, 4)
    shares = np.array([s.weight * s.instances for s in shapes])
    shares = shares / shares.sum()
    largest = sum(max(s.max() for s in shape.instances_per_shard) for shape in shapes)
    for i, share in enumerate(shares):
        ahead = np.cumsum(order.source_T == i) - share * np.arange(1, needed + 1)
        assert np.abs(ahead).max() <= 2 * largest


@few
@given(mocap=halves, itw=halves, seed=seeds, per_rank=st.integers(1, 4), step=st.integers(0, 5))
def test_any_world_size_sees_the_same_global_step(mocap, itw, seed, per_rank, step):
    batch = 2 * 12 * per_rank
    steps = max(step + 1, steps_per_epoch(half_sizes(mocap, itw), batch))
    seen = []
    for world in (1, 2, 3, 4, 6):
        n_mocap, n_itw = instances_per_half(half_sizes(mocap, itw), batch, world)
        assert n_mocap == n_itw == batch // 2
        found = []
        for half, n in ((mocap, n_mocap), (itw, n_itw)):
            order = half_order(half, seed, 0, steps * n, 4)
            parts = [rank_part(order, step, n, rank, world).tolist() for rank in range(world)]
            assert all(len(part) == n // world for part in parts)
            found.append([row for part in parts for row in part])
        seen.append(found)
    assert all(found == seen[0] for found in seen)


def test_an_epoch_sees_the_longer_half_once_and_the_shorter_again_and_again():
    large = (SourceShape("large", (np.full(30, 2, np.int32), np.full(20, 2, np.int32))),)
    small = (SourceShape("small", (np.full(15, 1, np.int32),)),)
    sizes = half_sizes(small, large)
    assert sizes == (15, 100) and steps_per_epoch(sizes, 20) == 10
    big = half_order(large, 0, 0, 100, 16)
    assert len(set(big.tolist())) == 100 and (big.pass_T == 0).all()
    little = half_order(small, 0, 0, 100, 16)
    counts = Counter(little.sample_T.tolist())
    assert set(counts) == set(range(15)) and set(counts.values()) <= {6, 7}
    passes = [little.sample_T[at : at + 15].tolist() for at in range(0, 90, 15)]
    assert len({tuple(p) for p in passes}) == 6  # each pass is a new shuffle


def test_what_is_left_of_an_incomplete_batch_is_dropped_and_one_half_alone_fills_the_batch():
    one = (SourceShape("a", (np.full(25, 1, np.int32),)),)
    assert steps_per_epoch(half_sizes(one, ()), 10) == 2
    assert instances_per_half(half_sizes(one, ()), 10, 2) == (10, 0)
    assert steps_per_epoch(half_sizes(one, one), 10) == 5
    assert steps_per_epoch(half_sizes(one, ()), 100) == 1


def test_epochs_seeds_and_digests_change_the_order():
    def first(digest="a", seed=0, epoch=0):
        return half_order((SourceShape(digest, (np.full(50, 1, np.int32),)),), seed, epoch, 50, 4).sample_T.tolist()

    orders = [first(), first(seed=1), first(epoch=1), first(digest="b")]
    assert len({tuple(order) for order in orders}) == 4 and first() == orders[0]


@pytest.mark.parametrize("batch, world", [(10, 4), (9, 1), (2, 2)])
def test_a_batch_that_cannot_be_cut_evenly_is_refused(batch: int, world: int):
    with pytest.raises(ConfigError, match=f"batch_size {batch}: expected a multiple of {2 * world}"):
        instances_per_half((5.0, 5.0), batch, world)


def test_no_instances_at_all_is_refused():
    with pytest.raises(ConfigError, match="no source has a usable instance"):
        instances_per_half((0.0, 0.0), 8, 1)


@pytest.mark.parametrize("large", [40, 4000])
def test_a_share_holds_whatever_the_sizes(large: int) -> None:
    fixed = SourceShape("a", (np.full(30, 2, np.int32),), share=0.4)
    other = SourceShape("b", (np.full(large, 1, np.int32),))
    order = half_order(apply_shares((fixed, other)), 0, 0, 1000, 16)
    assert abs(float((order.source_T == 0).mean()) - 0.4) < 0.01


def test_shares_that_do_not_add_up_are_refused() -> None:
    one = (np.full(5, 1, np.int32),)
    assert [s.weight for s in apply_shares((SourceShape("a", one), SourceShape("b", one, 3.0)))] == [1.0, 3.0]
    with pytest.raises(ConfigError, match="below 1"):
        apply_shares((SourceShape("a", one, share=1.0), SourceShape("b", one)))
    with pytest.raises(ConfigError, match="expected 1"):
        apply_shares((SourceShape("a", one, share=0.5),))


equal_halves = st.lists(source(), min_size=1, max_size=3).map(lambda shapes: tuple(replace(shape, weight=1.0) for shape in shapes))


@few
@given(mocap=equal_halves, itw=equal_halves, seed=seeds, half_batch=st.integers(1, 12))
def test_an_epoch_is_twice_the_longer_half_and_sees_every_person_as_often_as_any_other(mocap, itw, seed, half_batch):
    """The authors' law, 2 x max(3D, 2D) persons with the last batch dropped, worked out from plain counts."""
    sizes = [sum(int(s.sum()) for shape in half for s in shape.instances_per_shard) for half in (mocap, itw)]
    steps = steps_per_epoch(half_sizes(mocap, itw), 2 * half_batch)
    assert steps == max(1, 2 * max(sizes) // (2 * half_batch))
    for half, size in zip((mocap, itw), sizes, strict=True):
        seen = Counter(row[:3] for row in half_order(half, seed, 0, steps * half_batch, 4).tolist())
        times = [seen[person] for person in persons(half)]
        assert sum(times) == steps * half_batch and max(times) - min(times) <= 1
        if size == max(sizes) and size >= half_batch:
            assert max(times) == 1 and times.count(0) == size % half_batch  # once each, but for those of the dropped batch


def persons(half: tuple[SourceShape, ...]) -> list[tuple[int, int, int]]:
    """(source, sample, instance) of everybody in a half."""
    counts = [np.concatenate(shape.instances_per_shard) for shape in half]
    return [(i, s, k) for i, per_sample in enumerate(counts) for s, count in enumerate(per_sample) for k in range(count)]


@few
@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4), data=st.data(), seed=seeds, world=st.sampled_from([1, 2, 4]))
def test_weights_and_shares_hold_over_an_epoch_in_every_batch_and_on_every_rank(sizes, data, seed, world):
    """One person a sample, so parts can be held to the person: a weight is passes an epoch, a share a fraction of the half."""
    weights = data.draw(st.lists(st.sampled_from([0.25, 1.0, 2.0, 5.0]), min_size=len(sizes), max_size=len(sizes)))
    share = data.draw(st.sampled_from([None, 0.1, 0.5]))
    shapes = tuple(SourceShape(str(i), (np.ones(n, np.int32),), w) for i, (n, w) in enumerate(zip(sizes, weights, strict=True)))
    if share is not None:
        shapes = (replace(shapes[0], weight=1.0, share=share), *shapes[1:])
    rest = sum(n * w for n, w in zip(sizes, weights, strict=True)) - (sizes[0] * weights[0] if share is not None else 0)
    parts = [n * w * (1 - (share or 0)) / rest for n, w in zip(sizes, weights, strict=True)]
    parts = parts if share is None else [share, *parts[1:]]
    half = apply_shares(shapes)
    per_half = 12 * world
    steps = steps_per_epoch(half_sizes(half, ()), per_half)
    order = half_order(half, seed, 0, steps * per_half, 4)
    tolerance = len(sizes)  # each source may be a person early or late at either end of a stretch
    for i, part in enumerate(parts):
        assert abs((order.source_T == i).sum() - part * len(order)) <= tolerance
        for step in range(steps):
            for rank in range(world):
                mine = rank_part(order, step, per_half, rank, world)
                assert len(mine) == 12 and abs((mine.source_T == i).sum() - part * 12) <= tolerance
        if share is None and len(order) > per_half:
            assert abs((order.source_T == i).sum() - weights[i] * sizes[i]) <= per_half + tolerance  # a weight is passes an epoch
