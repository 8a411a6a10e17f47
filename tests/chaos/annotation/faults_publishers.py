"""Many who publish under one name at once, each a process with a store of its own, on an S3 server (R3)."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine.errors import CommitConflict, EngineError
from engine.releases.publish import publish
from engine.storage import Store
from tests.chaos.annotation.arena import Arena
from tests.chaos.annotation.checker import Bucket, check
from tests.chaos.annotation.row import Row
from tests.engine.releases.conftest import commit_all, make_plan

Work = Callable[[Store, int, int, Callable[[], object]], str]
"""What a writer does in a round: store, number of the writer, round, and how to wait until all are as far."""
RELEASE = "rel"
"""The name that `commit_all` gives its drafts."""


def r3_publishers(arena: Arena) -> list[Row]:
    """The same release from all, another one from each, and the bare compare-and-swap."""
    writers, rounds = (3, 4) if arena.small else (8, 150)
    return [
        _publishers(arena, "the same release from all", _publish, writers, rounds, versions=rounds),
        _publishers(arena, "another release from each", _publish_own, writers, rounds, versions=writers * rounds),
        _swappers(arena, writers, rounds),
    ]


def _publish(store: Store, number: int, turn: int, together: Callable[[], object]) -> str:
    return _publish_draft(store, f"round {turn}", together)


def _publish_own(store: Store, number: int, turn: int, together: Callable[[], object]) -> str:
    return _publish_draft(store, f"round {turn}, writer {number}", together)


def _publish_draft(store: Store, word: str, together: Callable[[], object]) -> str:
    """Version and digest that the publisher was told. All drafts have the same rows, committed by `_writer`; their plans differ."""
    draft = commit_all(Store(f"memory://{word}"), make_plan(shards=1, persons=2, word=word), persons=2)
    together()
    release = publish(store, draft)
    return f"{release.manifest.version} {release.digest}"


def _swap(store: Store, number: int, turn: int, together: Callable[[], object]) -> str:
    expected = None if turn == 0 else store.get("pointer")
    together()
    try:
        store.swap("pointer", expected, f"round {turn}, writer {number}".encode())
        return "won"
    except CommitConflict:
        return "told"


def _publishers(arena: Arena, title: str, work: Work, writers: int, rounds: int, versions: int) -> Row:
    """Each round has one answer a release: whoever published it was told the same version, and no version has two releases."""
    url, begin = arena.bucket(), time.monotonic()
    watch = _HeadWatch(url)
    watch.start()
    said = _all_at_once(arena, url, work, writers, rounds)
    watch.stop.set()
    watch.join()
    found = check(url, RELEASE)
    problems = list(found["problems"])
    told: dict[str, set[str]] = {}
    for turn in range(rounds):
        answers = [said[writer][turn] for writer in range(writers)]
        problems += [answer for answer in answers if not answer[0].isdigit()]
        for version, digest in (answer.split() for answer in answers if answer[0].isdigit()):
            told.setdefault(version, set()).add(digest)
        if work is _publish and len(set(answers)) != 1:
            problems.append(f"round {turn}: {set(answers)}")
    problems += [f"version {version} was told for {len(digests)} releases" for version, digests in told.items() if len(digests) > 1]
    if found.get("version") != versions or found["unfinished"]:
        problems.append(f"HEAD is at {found.get('version')}, {versions} versions were published, unfinished {found['unfinished']}")
    if watch.seen != sorted(watch.seen):
        problems.append("HEAD went back")
    duplicated = max(0, len(told) - versions)
    note = "; ".join(problems[:3]) or f"{versions} versions, HEAD seen to move {len(set(watch.seen))} times, only forward"
    seconds = round(time.monotonic() - begin, 1)
    survived = 0 if problems else rounds
    return Row(f"R3 {writers} publishers, {title}", rounds, survived, len(found["lost"]), duplicated, note, seconds)


def _swappers(arena: Arena, writers: int, rounds: int) -> Row:
    """Each round exactly one of those who swap the same expected value wins, and the others are told."""
    url, begin = arena.bucket(), time.monotonic()
    said = _all_at_once(arena, url, _swap, writers, rounds)
    turns = [Counter(said[writer][turn] for writer in range(writers)) for turn in range(rounds)]
    good = sum(turn == Counter(won=1, told=writers - 1) for turn in turns)
    note = "one winner a round, all others told" if good == rounds else f"{[t for t in turns if t['won'] != 1][:3]}"
    winner = next((w for w in range(writers) if said[w][-1] == "won"), None)
    if Bucket(url).get("pointer") != f"round {rounds - 1}, writer {winner}".encode():
        good, note = 0, "what is there is not the last winner's"
    return Row(f"R3 {writers} compare-and-swap", rounds, good, 0, 0, note, round(time.monotonic() - begin, 1))


class _HeadWatch(threading.Thread):
    """Versions that HEAD was seen at, in order."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.bucket, self.seen, self.stop = Bucket(url), [], threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            head = self.bucket.json(f"releases/{RELEASE}/HEAD")
            if head is not None:
                self.seen.append(head["version"])
            time.sleep(0.1)


def _all_at_once(arena: Arena, url: str, work: Work, writers: int, rounds: int) -> list[list[str]]:
    """What each writer says of each round. They begin a round together, and are together again before they write."""
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(writers), context.SimpleQueue()
    processes = [
        context.Process(target=_writer, args=(url, work, number, rounds, barrier, results, arena.s3_variables()))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    said = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    return [said[number] for number in range(writers)]


def _writer(url: str, work: Work, number: int, rounds: int, barrier: Any, results: Any, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    store, said = Store(url), []
    commit_all(store, make_plan(shards=1, persons=2), persons=2)
    for turn in range(rounds):
        barrier.wait()
        try:
            said.append(work(store, number, turn, barrier.wait))
        except EngineError as error:
            said.append(f"{type(error).__name__}: {error}")
    results.put((number, said))
