"""Stages overlap, keep to their tickets, and say how busy they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from engine.fanout.stages import Pipeline, Stage, Ticket


def _count(ticket: Ticket, n: int) -> Iterator[int]:
    yield from range(n)


def _sum(ticket: Ticket, item: int) -> Iterator[int]:
    seen = ticket.state.setdefault("seen", [])
    seen.append(item)
    if len(seen) == ticket.work:
        yield sum(seen)


def test_every_item_of_every_ticket_arrives_whatever_the_number_of_threads() -> None:
    pipeline = Pipeline([Stage("count", _count, threads=3, capacity=1), Stage("same", _same, threads=4, capacity=2), Stage("sum", _sum)])
    futures = [pipeline.submit(n) for n in range(1, 40)]
    assert [future.result() for future in futures] == [n * (n - 1) // 2 for n in range(1, 40)]
    pipeline.close()


def _same(ticket: Ticket, item: int) -> Iterator[int]:
    yield item


def test_an_exception_fails_its_ticket_and_nothing_else() -> None:
    def choke(ticket: Ticket, item: int) -> Iterator[int]:
        if ticket.work == 3 and item == 1:
            raise ValueError("three")
        yield item

    pipeline = Pipeline([Stage("count", _count), Stage("choke", choke, threads=2), Stage("sum", _sum)])
    futures = {n: pipeline.submit(n) for n in range(1, 6)}
    with pytest.raises(ValueError, match="three"):
        futures.pop(3).result()
    assert {n: future.result() for n, future in futures.items()} == {1: 0, 2: 1, 4: 6, 5: 10}
    pipeline.close()


def test_stages_work_at_the_same_time() -> None:
    """The later stage waits, at every item, for the earlier one to begin the next."""
    begun = [threading.Event() for _ in range(4)]

    def early(ticket: Ticket, item: int) -> Iterator[int]:
        begun[item].set()
        yield item

    def late(ticket: Ticket, item: int) -> Iterator[int]:
        assert item == 3 or begun[item + 1].wait(timeout=30)
        yield item

    pipeline = Pipeline([Stage("count", _count), Stage("early", early), Stage("late", late), Stage("sum", _sum)])
    assert pipeline.submit(4).result() == 6
    pipeline.close()


def test_the_slowest_stage_is_the_busiest_and_has_the_fullest_queue() -> None:
    def slow(ticket: Ticket, item: int) -> Iterator[int]:
        time.sleep(0.02)
        yield item

    pipeline = Pipeline([Stage("count", _count), Stage("quick", _same), Stage("slow", slow), Stage("sum", _sum)])
    pipeline.usage()
    pipeline.submit(40).result()
    usage = pipeline.usage()
    assert max(usage, key=lambda name: usage[name].busy_share) == max(usage, key=lambda name: usage[name].queue_share) == "slow"
    assert usage["slow"].busy_share > 0.7 and usage["quick"].busy_share < 0.3
    assert all(0 <= u.busy_share <= 1 and 0 <= u.queue_share <= 1 for u in usage.values())
    pipeline.close()


def test_what_hangs_is_named() -> None:
    forever, named = threading.Event(), []

    def stuck(ticket: Ticket, item: int) -> Iterator[int]:
        forever.wait()
        yield item

    def note(stage: str, ticket: Ticket) -> None:
        named.append((stage, ticket.work))
        forever.set()

    pipeline = Pipeline([Stage("quick", _same), Stage("stuck", stuck)], hang_s=0.2, on_hang=note)
    assert pipeline.submit(7).result() == 7
    assert named[0] == ("stuck", 7)
    pipeline.close()
