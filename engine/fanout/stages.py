"""Stages that overlap: each has a queue before it and threads of its own, and knows how busy it is and how full its queue.

Work enters as one ticket a shard; a stage turns one item of a ticket into any number of items for the next stage. What the last stage
makes is the ticket's result. An exception in a stage fails its ticket and nothing else: the rest of the ticket's items are dropped.
Queues are bounded, so that what is ahead of the slowest stage waits instead of filling memory.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_CHECK_S = 0.2


@dataclass
class Ticket:
    """One shard on its way. `state` is for the stages; a stage of one thread may keep there what it collects of the ticket."""

    work: Any
    future: Future = field(default_factory=Future)
    state: dict[str, Any] = field(default_factory=dict)
    alive: float = 0.0

    def touch(self) -> None:
        """Something was achieved: whoever works on it does not hang."""
        self.alive = time.monotonic()


@dataclass(frozen=True)
class StageUsage:
    """busy_share: of its threads' time, in [0, 1]. queue_share: how full the queue before it was on average, in [0, 1]."""

    busy_share: float
    queue_share: float


class Stage:
    """`run(ticket, item)` yields the items for the next stage. `capacity`: items that may wait before it.

    `watched`: whether it can hang; what talks to a store has deadlines of its own.
    """

    def __init__(
        self, name: str, run: Callable[[Ticket, Any], Iterable[Any]], threads: int = 1, capacity: int = 4, watched: bool = True
    ) -> None:
        self.name, self.run, self.threads, self.watched = name, run, threads, watched
        self.queue: queue.Queue = queue.Queue(capacity)
        self.lock = threading.Lock()
        self.working: dict[int, tuple[Ticket, float]] = {}
        self.busy_s = 0.0
        self.seen = self.waiting = 0

    def sample(self) -> None:
        with self.lock:
            self.seen += 1
            self.waiting += self.queue.qsize()

    def begin(self, ticket: Ticket) -> None:
        """This thread works on an item of this ticket from now on."""
        with self.lock:
            self.working[threading.get_ident()] = (ticket, time.monotonic())

    def end(self) -> None:
        """This thread no longer works."""
        with self.lock:
            found = self.working.pop(threading.get_ident(), None)
            if found is not None:
                self.busy_s += time.monotonic() - found[1]


class Pipeline:
    """Runs stages until it is closed or forgotten. `on_hang(stage, ticket)` is called over an item that takes longer than `hang_s`."""

    def __init__(
        self, stages: Sequence[Stage], hang_s: float = float("inf"), on_hang: Callable[[str, Ticket], None] = lambda name, ticket: None
    ) -> None:
        self.stages = list(stages)
        closed = threading.Event()
        self.close = weakref.finalize(self, closed.set)
        """Stop the threads once they have done what they are at. What waits in queues is left undone."""
        self._since = time.monotonic()
        self._busy_before = dict.fromkeys((stage.name for stage in stages), 0.0)
        for stage, after in zip(self.stages, [*self.stages[1:], None], strict=True):
            for n in range(stage.threads):
                threading.Thread(target=_work, args=(stage, after, closed), name=f"{stage.name}-{n}", daemon=True).start()
        threading.Thread(target=_watch, args=(self.stages, closed, hang_s, on_hang), name="watch", daemon=True).start()

    def submit(self, work: Any) -> Future:
        """Put a shard before the first stage; its future holds what the last stage makes of it. Waits while the queue is full."""
        ticket = Ticket(work)
        self.stages[0].queue.put((ticket, work))
        return ticket.future

    def usage(self) -> dict[str, StageUsage]:
        """Of every stage, since this was asked last."""
        now = time.monotonic()
        elapsed_s, self._since = max(now - self._since, 1e-9), now
        found = {}
        for stage in self.stages:
            with stage.lock:
                running = sum(now - since for _, since in stage.working.values())
                busy_s, seen, waiting = stage.busy_s + running, stage.seen, stage.waiting
                stage.seen = stage.waiting = 0
            share = (busy_s - self._busy_before[stage.name]) / (elapsed_s * stage.threads)
            self._busy_before[stage.name] = busy_s
            found[stage.name] = StageUsage(min(1.0, max(0.0, share)), waiting / max(1, seen * stage.queue.maxsize))
        return found


def _work(stage: Stage, after: Stage | None, closed: threading.Event) -> None:
    while not closed.is_set():
        try:
            ticket, item = stage.queue.get(timeout=_CHECK_S)
        except queue.Empty:
            continue
        stage.sample()
        if not ticket.future.done():
            _run(stage, after, ticket, item, closed)
        del ticket, item


def _run(stage: Stage, after: Stage | None, ticket: Ticket, item: Any, closed: threading.Event) -> None:
    stage.begin(ticket)
    try:
        for made in stage.run(ticket, item):
            stage.end()
            if after is None:
                ticket.future.set_result(made)
            while after is not None and not closed.is_set():
                try:
                    after.queue.put((ticket, made), timeout=_CHECK_S)
                    break
                except queue.Full:
                    continue
            stage.begin(ticket)
    except BaseException as error:  # a thread that dies of a cancellation would leave its tickets waiting for ever
        if not ticket.future.done():
            ticket.future.set_exception(error)
    finally:
        stage.end()


def _watch(stages: Sequence[Stage], closed: threading.Event, hang_s: float, on_hang: Callable[[str, Ticket], None]) -> None:
    while not closed.wait(_CHECK_S):
        now = time.monotonic()
        for stage in (stage for stage in stages if stage.watched):
            with stage.lock:
                stuck = [ticket for ticket, since in stage.working.values() if now - max(since, ticket.alive) > hang_s]
            for ticket in stuck:
                on_hang(stage.name, ticket)
