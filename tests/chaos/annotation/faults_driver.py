"""Drivers that die (R2), are asked to go (R10), or are not alone (R15)."""

from __future__ import annotations

import ast
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from tests.chaos.annotation.arena import Arena, attempts, commits
from tests.chaos.annotation.checker import Bucket
from tests.chaos.annotation.nodes import drain
from tests.chaos.annotation.row import Row
from tests.chaos.annotation.submission import REPO, wait_until

WORKER_POINTS = ("before_object", "after_object", "after_record")
DRIVER_POINTS = ("after_plan", "before_manifest", "after_manifest", "before_head", "after_head")
IN_FLIGHT = 8
"""Shards that two workers may have in hand: at most four each."""
STOPS_TAKING_S, GONE_S = 1.0, 25.0


def r2_driver_killed(arena: Arena) -> Iterator[Row]:
    """SIGKILL to the driver at each named point, then the same job again."""
    if arena.small:
        yield _crash_chain(arena)
        return
    shards = 12
    world = arena.world(shards, 40)
    calm = arena.calm(world)
    for point in ("after_plan", *WORKER_POINTS, *DRIVER_POINTS[1:]):
        begin, recovered, redone, notes, lost, duplicated = time.monotonic(), 0, [], [], 0, 0
        for seed in range(3):
            config = arena.config(world, arena.new("crashed"))
            alone = seed == 0
            first = arena.submit(config, _crash(point, seed * 3 + 2), alone=alone)
            if point in WORKER_POINTS:
                assert wait_until(partial(first.fired, f"{point}-hang"), 120), first.output
                first.signal(signal.SIGKILL)
            first.wait()
            before = set(commits(config))
            begun = {event["detail"] for event in first.fired("before_object-note")} | {f"{a['shard']:06d}" for a in attempts(config)}
            again = arena.run(config, [{"point": "before_object", "action": "note"}], alone=alone)
            found = arena.check(config)
            done = {event["detail"] for event in again.fired("before_object-note")}
            redone.append(len(done & begun))
            same = again.poll() == 0 and found.get("release_digest") == calm and not found["problems"] and found["version"] == 1
            twice = done & {Path(key).stem for key in before}
            recovered += same and not twice and redone[-1] <= IN_FLIGHT and first.poll() == -signal.SIGKILL
            lost, duplicated = lost + len(found["lost"]), duplicated + len(found["duplicated"])
            if not same or twice:
                notes.append(f"seed {seed}: exit {again.poll()}, {again.message}, committed shards done again {sorted(twice)}, {found}")
        note = "; ".join(notes) or f"to the same digest; shards begun and done again: {redone}"
        seconds = round(time.monotonic() - begin, 1)
        yield Row(f"R2 driver killed {point}", 3, recovered, lost, duplicated, note, seconds, {"redone": redone})


def _crash(point: str, shard: int) -> list[dict[str, Any]]:
    """At a driver's point the driver kills itself; a worker stops still at its own, so that the driver can be killed just then."""
    note = {"point": "before_object", "action": "note"}
    if point in WORKER_POINTS:
        return [note, {"point": point, "match": f"{shard:06d}", "action": "hang", "times": 1}]
    return [note, {"point": point, "action": "kill", "times": 1}]


def _crash_chain(arena: Arena) -> Row:
    """One job that is submitted again and again: each time its driver dies at the next point; and a worker with an object but no record."""
    world = arena.world(6, 10)
    calm, begin = arena.calm(world), time.monotonic()
    config, survived, worker_deaths = arena.config(world, arena.new("chain")), 0, 0
    for point in DRIVER_POINTS:
        submission = arena.run(config, [{"point": p, "action": "kill", "times": 1} for p in (point, "after_object")])
        survived += submission.poll() == -signal.SIGKILL and len(submission.fired(f"{point}-kill")) == 1
        worker_deaths += len(submission.fired("after_object-kill"))
    last = arena.run(config)
    found = arena.check(config)
    same = last.poll() == 0 and found.get("release_digest") == calm and not found["problems"] and found["version"] == 1
    injected = len(DRIVER_POINTS) + 1
    note = "to the same digest, one version" if same else f"exit {last.poll()}: {last.message}; {found}"
    lost, duplicated = len(found["lost"]), len(found["duplicated"])
    seconds = round(time.monotonic() - begin, 1)
    return Row("R2 killed at every point", injected, (survived + worker_deaths) if same else 0, lost, duplicated, note, seconds)


def r10_asked_to_go(arena: Arena) -> Iterator[Row]:
    """SIGTERM to the driver, with a notice after which it is killed; and a node that is drained, and gone at the end of its notice."""
    for notice_s in (30, 120):
        yield _terminate(arena, f"R10 SIGTERM, {notice_s} s notice", notice_s, [])
    stuck = [{"point": "before_object", "match": "000005", "action": "hang", "times": 1}]
    yield _terminate(arena, "R10 SIGTERM, one shard never ends", 30, stuck)
    yield _drain(arena)


def _terminate(arena: Arena, title: str, notice_s: float, faults: list[dict[str, Any]]) -> Row:
    world = arena.world(64, 100)
    calm, config = arena.calm(world), arena.config(world, arena.new("asked"))
    submission = arena.submit(config, faults, alone=True)
    reached = (lambda: submission.fired("before_object-hang")) if faults else (lambda: len(commits(config)) >= 8)
    assert wait_until(reached, 180), submission.output
    watch = _Attempts(config)
    watch.start()
    time.sleep(0.3)
    asked = time.time()
    submission.signal(signal.SIGTERM)
    in_time = wait_until(lambda: submission.poll() is not None, notice_s)
    gone_s = time.time() - asked
    submission.kill()
    watch.stop.set()
    watch.join()
    late = sorted(round(at - asked, 2) for at in watch.begun.values() if at > asked + STOPS_TAKING_S)
    after = len(commits(config))
    again = arena.run(config)
    found = arena.check(config)
    same = again.poll() == 0 and found.get("release_digest") == calm and not found["problems"]
    good = same and in_time and gone_s <= GONE_S and not late and submission.poll() != 0
    note = f"gone after {gone_s:.1f} s with exit code {submission.poll()}; shards taken later than {STOPS_TAKING_S:g} s: {len(late)}"
    note += f"; {after} of 64 committed; submitted again: {'the same digest' if same else again.message}; said: {submission.message[:200]}"
    figures = {"gone_s": round(gone_s, 2), "taken_late": late, "exit_code": submission.poll(), "committed": after}
    return Row(title, 1, int(good), len(found["lost"]), len(found["duplicated"]), note, round(gone_s, 1), figures)


class _Attempts(threading.Thread):
    """Notes when each attempt at a shard began, from the records that come and go."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.root, self.begun, self.stop = Path(config["out"]), {}, threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            for path in self.root.glob("runs/*/attempts/*/*.json"):
                if path not in self.begun:
                    try:
                        self.begun[path] = path.stat().st_mtime
                    except FileNotFoundError:
                        continue
            time.sleep(0.005)


def _drain(arena: Arena) -> Row:
    """A node with a worker on it is drained with 30 s of notice, and then really killed; the job goes on with the others."""
    world = arena.world(64, 100)
    calm, config, begin = arena.calm(world), arena.config(world, arena.new("drained")), time.monotonic()
    config["pool"] = {"min_size": 1, "max_size": 2, "initial_size": 2, "cpus": 1.0}
    head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        submission = arena.submit(config, address=cluster.address)
        assert wait_until(lambda: len(commits(config)) >= 8, 180), submission.output
        drained = drain(cluster.address, node.node_id, notice_s=30)
        early = wait_until(lambda: submission.poll() is not None, 30)
        cluster.remove_node(node, allow_graceful=False)
        submission.wait()
    finally:
        cluster.shutdown()
    found = arena.check(config)
    same = drained and submission.poll() == 0 and found.get("release_digest") == calm and not found["problems"]
    note = f"the job ended {'before' if early else 'after'} the node was gone, at the same digest"
    if not same:
        note = f"drained {drained}, exit {submission.poll()}: {submission.message}; {found}"
    seconds = round(time.monotonic() - begin, 1)
    return Row("R10 a node drained, then gone", 1, int(same), len(found["lost"]), len(found["duplicated"]), note, seconds)


def r15_not_alone(arena: Arena) -> list[Row]:
    """Two drivers on one plan at once, then the finished job once more; and clocks an hour off."""
    shards, images, rounds = (6, 10, 1) if arena.small else (12, 60, 5)
    world = arena.world(shards, images)
    calm = arena.calm(world)
    rows = [_two_drivers(arena, world, calm, rounds)]
    return rows if arena.small else [*rows, _clocks(arena, world, calm)]


def _two_drivers(arena: Arena, world: str, calm: str, rounds: int) -> Row:
    row = Row("R15 two drivers at once, clocks two hours apart", rounds, 0)
    row.note = "one set of outputs, one version; submitted again, not a byte written"
    begin = time.monotonic()
    for number in range(rounds):
        config = arena.config(world, arena.new("twins"))
        twins = []
        for clock_s in (-3600, 3600):
            twins.append(arena.submit(config, clock_s=clock_s))
            time.sleep(0.7 * number)
        codes = [twin.wait() for twin in twins]
        before = _stamps(config)
        again = arena.run(config, environment={"RAY_ADDRESS": "127.0.0.1:1"})
        found = arena.check(config)
        objects = Bucket(config["out"]).keys("objects/")
        same = codes == [0, 0] and found["version"] == 1 and found["release_digest"] == calm and not (found["problems"] or found["orphans"])
        idle = again.poll() == 0 and _stamps(config) == before
        row.survived += same and idle and len(objects) == len(commits(config))
        row.lost, row.duplicated = row.lost + len(found["lost"]), row.duplicated + len(found["duplicated"])
        if not (same and idle):
            row.note = f"round {number}: exit codes {codes}, {[twin.message for twin in twins]}, submitted again {again.message}, {found}"
    row.seconds = round(time.monotonic() - begin, 1)
    return row


def _stamps(config: dict[str, Any]) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(config["out"]).rglob("*")}


def _clocks(arena: Arena, world: str, calm: str) -> Row:
    """A driver whose clock is an hour ahead dies before HEAD; one an hour behind finishes, and one that is right finds it finished.

    The clock enters what is written in one place alone, `created_at`, and is put there; that there is no other place is checked too.
    """
    config, begin = arena.config(world, arena.new("clocks")), time.monotonic()
    ahead = arena.run(config, [{"point": "before_head", "action": "kill", "times": 1}], clock_s=3600)
    behind = arena.run(config, clock_s=-3600)
    now = arena.run(config)
    found = arena.check(config)
    stamp = Bucket(config["out"]).json(f"releases/{config['name']}/v0001/manifest.json")["created_at"]
    places, others = _wall_clocks()
    codes = [job.poll() for job in (ahead, behind, now)]
    same = codes == [-signal.SIGKILL, 0, 0] and found["version"] == 1 and found["release_digest"] == calm and not found["problems"]
    note = f"one version, stamped {stamp}; datetime.now is called in {', '.join(places)}, no other wall clock"
    if not same or others:
        note = f"exit codes {codes}: {behind.message}; time.time is called in {others}; {found}"
    survived, seconds = 2 * int(same and not others), round(time.monotonic() - begin, 1)
    return Row("R15 clocks an hour off", 2, survived, len(found["lost"]), len(found["duplicated"]), note, seconds)


def _wall_clocks() -> tuple[list[str], list[str]]:
    """Files that annotate or publish and read the wall clock: through datetime.now, which is skewed here, and in any other way.

    fsck.py is neither: it asks for the age of garbage, with a grace that is longer than clocks differ.
    """
    now, other = set(), set()
    for path in (p for folder in ("fanout", "releases", "annotators") for p in (REPO / "engine" / folder).glob("*.py") if p.stem != "fsck"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in ("time.time", "time.time_ns", "datetime.now"):
                (now if name == "datetime.now" else other).add(f"{path.parent.name}/{path.name}")
    return sorted(now), sorted(other)
