"""A whole node of three is killed while it annotates photographs: `make chaos`.

The job is `ray job submit ... -- python jobs/annotate.py` on a head without CPUs and three nodes of one worker each; image shards and
release lie on an S3 server. It runs twice into two stores: undisturbed, and losing the node that has the most shards in hand.
Laws: the node died over shards that it had in hand, nothing is lost or duplicated, and the release is the undisturbed one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.photos import SPLIT, photographs
from cluster.local import FAST_DETECTION, ClusterError, LocalCluster, LocalNode, NodeSpec, local_cluster
from engine.shards.ingest import IngestConfig, ingest
from tests.chaos.annotation.arena import Arena
from tests.chaos.annotation.submission import REPO
from tests.chaos.faulty_s3 import FaultyS3, faulty_s3

SHARDS, SAMPLES_PER_SHARD = 40, 32
KILL_AFTER = 12
"""Shards that are committed when the node is killed."""


@dataclass(eq=False)
class Watch(threading.Thread):
    """Which node has which shard in hand and commits it, as its requests to the S3 server show it.

    With `kill_after`, the node with the most shards in hand is killed once so many shards are committed.
    """

    proxy: FaultyS3
    nodes: list[LocalNode]
    kill_after: int | None = None
    committed: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Shard -> when its record was written (monotonic, s), and by which node."""
    working: dict[int, str] = field(default_factory=dict)
    """Shard -> node that has it in hand."""
    victim: str = ""
    killed_at: float = math.inf
    in_hand: set[int] = field(default_factory=set)
    """Shards of the victim when it died."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.stop, self._seen = threading.Event(), len(self.proxy.log)

    def run(self) -> None:
        while not self.stop.wait(0.01):
            self.look()
            if self.kill_after is not None and not self.victim and len(self.committed) >= self.kill_after:
                self.kill()

    def look(self) -> None:
        """Take in the requests that have come since."""
        news = self.proxy.log[self._seen :]
        self._seen += len(news)
        for arrival in news:
            if found := re.search(r"/runs/[0-9a-f]{64}/(shards|attempts/[^/]+)/(\d+)(-\d+)?\.json$", arrival.path.partition("?")[0]):
                index = int(found[2])
                if arrival.method == "PUT" and found[1] == "shards":
                    self.committed.setdefault(index, (arrival.time_s, arrival.sender))
                elif arrival.method == "PUT":
                    self.working[index] = arrival.sender
                elif arrival.method == "DELETE" and self.working.get(index) == arrival.sender:
                    del self.working[index]

    def kill(self) -> None:
        busy = Counter(name for index, name in self.working.items() if index not in self.committed)
        for victim in [node for node in self.nodes if node.name == max(busy, key=busy.__getitem__, default="")]:
            self.victim, self.killed_at = victim.name, time.monotonic()
            victim.kill()
            self.look()
            self.in_hand = {index for index, name in self.working.items() if name == self.victim and index not in self.committed}

    def shards(self, name: str) -> tuple[int, int]:
        """Committed by a node before the kill, and after it."""
        times = [at for at, who in self.committed.values() if who == name]
        before = sum(at <= self.killed_at for at in times)
        return before, len(times) - before

    def longest_gap_s(self) -> float:
        """Between two commits, or between the kill and the first one after it."""
        killed = [self.killed_at] if self.victim else []
        times = sorted([at for at, _ in self.committed.values() if not killed or at > self.killed_at] + killed)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def redone_s(self) -> float:
        """From the kill to the last commit of the shards that the victim had in hand."""
        return max((self.committed[index][0] - self.killed_at for index in self.in_hand & self.committed.keys()), default=0.0)


@contextlib.contextmanager
def watched(proxy: FaultyS3, nodes: list[LocalNode], kill_after: int | None = None) -> Iterator[Watch]:
    """A running Watch of the requests from now on; at the end it has seen them all."""
    watch = Watch(proxy, nodes, kill_after)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        watch.join()
        watch.look()


def named_nodes(count: int, **spec: Any) -> list[NodeSpec]:
    """Specs of nodes whose requests to S3 carry the names that a local cluster gives its nodes: w0, w1 ..."""
    return [NodeSpec(env={"AWS_SDK_UA_APP_ID": f"w{i}"}, **spec) for i in range(count)]


@dataclass(frozen=True)
class Run:
    """A submitted job that has ended."""

    watch: Watch
    log: str
    seconds: float
    error: str = ""


def submit(cluster: LocalCluster, proxy: FaultyS3, config: dict[str, Any], folder: Path, kill_after: int | None = None) -> Run:
    """The job under `ray job submit`, its log shown as it comes."""
    path = folder / f"{Path(config['out']).name}.yaml"
    path.write_text(yaml.safe_dump(config))
    log, begin, error = _Tee(sys.stdout), time.monotonic(), ""
    with watched(proxy, cluster.nodes, kill_after) as watch, contextlib.redirect_stdout(log):
        try:
            cluster.submit("jobs/annotate.py", "--config", str(path), working_dir=REPO)
        except ClusterError as failed:
            error = str(failed)
    return Run(watch, log.getvalue(), time.monotonic() - begin, error)


class _Tee(io.StringIO):
    def __init__(self, other: Any) -> None:
        super().__init__()
        self._other = other

    def write(self, text: str) -> int:
        self._other.write(text)
        self._other.flush()
        return super().write(text)


def check_run(run: Run, calm_digest: str, found: dict[str, Any], shards: int) -> dict[str, Any]:
    """The line of JSON about a run that lost a node; `found` is the checker's."""
    watch = run.watch
    died_at_work = bool(watch.victim and watch.in_hand)
    same = not run.error and found.get("release_digest") == calm_digest and not found["problems"] and len(watch.committed) == shards
    return {
        "fault": "node killed",
        "injected": int(died_at_work),
        "survived": int(died_at_work and same),
        "lost": len(found["lost"]),
        "duplicated": len(found["duplicated"]),
        "digest_equal": found.get("release_digest") == calm_digest,
        "seconds": round(run.seconds, 1),
    }


def table(watch: Watch, nodes: list[LocalNode]) -> Iterator[str]:
    """Shards committed by each node before the kill and after it."""
    yield f"{'node':<10}{'before':>8}{'after':>8}"
    for node in nodes:
        before, after = watch.shards(node.name)
        note = f"  killed with {len(watch.in_hand)} shards in hand" if node.name == watch.victim else ""
        yield f"{node.name:<10}{before:>8}{after:>8}{note}"


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        folder, arena = Path(scratch), Arena(Path(scratch))
        try:
            return lose_a_node(folder, arena)
        finally:
            arena.close()


def lose_a_node(folder: Path, arena: Arena) -> int:
    bucket = arena.bucket()
    shard_set = f"{bucket}/images"
    root, words = photographs(folder, at_least=SHARDS * SAMPLES_PER_SHARD)
    dataset = {"name": "coco", "root": str(root), "split": SPLIT}
    manifest = ingest(
        IngestConfig.model_validate({"dataset": dataset, "out": shard_set, "samples_per_shard": SAMPLES_PER_SHARD, "workers": 0})
    )
    shards = len(manifest.shards)
    print(f"{shards} shards of {SAMPLES_PER_SHARD} photographs, {manifest.instances} persons: {words}, each many times", flush=True)
    pool = {"min_size": 3, "max_size": 3, "cpus": 1}
    config = {"shard_set": shard_set, "annotator": "mean_pose", "name": "coco", "batch_size": 16, "pool": pool}
    calm, lossy = (config | {"out": f"{bucket}/{name}"} for name in ("calm", "lossy"))
    with faulty_s3(arena.s3) as proxy:
        env = FAST_DETECTION | arena.s3_variables(proxy.endpoint) | {"PYTHONPATH": str(REPO)}
        with local_cluster(cpus=0, workers=named_nodes(3), object_store_mib=150, env=env) as cluster:
            first = submit(cluster, proxy, calm, folder)
            second = submit(cluster, proxy, lossy, folder, kill_after=KILL_AFTER)
    expected = arena.check(calm)
    line = check_run(second, expected["release_digest"], arena.check(lossy), shards)
    for row in table(second.watch, cluster.nodes):
        print(row)
    print(
        f"undisturbed: {first.seconds:.1f} s, at most {first.watch.longest_gap_s():.1f} s without a commit; losing a node: "
        f"{second.seconds:.1f} s, {second.watch.longest_gap_s():.1f} s, and {second.watch.redone_s():.1f} s until its shards were done"
    )
    print(json.dumps(line), flush=True)
    told = len(re.findall(rf"annotate: \d+/{shards} shards · ", second.log))
    good = line["injected"] == line["survived"] == 1 and not (line["lost"] or line["duplicated"]) and told > 1
    print(f"nodes: {'all laws hold' if good else 'A LAW IS BROKEN'}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
