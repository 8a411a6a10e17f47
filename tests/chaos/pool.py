"""Our pool on a cluster that scales: `make chaos`. It starts without a node, and each worker it gains takes a node of its own.

Laws: nodes go from 0 to 3 and back to 0; several workers report; every shard is committed, and each person is computed once.

It takes over a minute because Ray Data 2.60 looks at the cluster's nodes every 20 s (`_AutoscalingCoordinatorActor.TICK_INTERVAL_S`): until
then a pool that began with no node has a budget for one worker, however many nodes have come, and whatever its `initial_size` is.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import ray

from cluster.autoscaling import autoscaling_cluster
from cluster.local import NodeSpec
from engine.annotators.base import Prediction
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.fanout.config import PoolConfig
from engine.fanout.pool import run_shards
from engine.releases.commit import load_commits
from engine.storage import Store
from tests.chaos.annotation.world import write_world
from tests.engine.fanout.test_actor import make_job

SHARDS = 100
NODES = 3
IDLE_S = 8


class SlowAnnotator(MeanPoseAnnotator):
    """A second a batch, on any machine."""

    def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
        time.sleep(1)
        return super().predict(crops_NHW3, seen)


def make_slow() -> SlowAnnotator:
    return SlowAnnotator(MeanPoseConfig())


def count_nodes(counts: list[tuple[float, int]], begin: float) -> None:
    """Note (seconds, nodes that work) whenever the second changes."""
    while True:
        now = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        if not counts or counts[-1][1] != now:
            counts.append((round(time.monotonic() - begin, 1), now))
        time.sleep(0.2)


def drive(folder: Path) -> int:
    """The driver's part, in a process that has the cluster's environment."""
    job = make_job(write_world(str(folder / "set"), SHARDS, images=1), str(folder / "out"), make=make_slow)
    ray.init(logging_level="ERROR", log_to_driver=False)
    begin, counts, first_seen, results = time.monotonic(), [], {}, []
    threading.Thread(target=count_nodes, args=(counts, begin), daemon=True).start()
    for result in run_shards(PoolConfig(min_size=1, max_size=NODES), job.worker, list(job.plan.shards)):
        results.append(result)
        for worker in result.usage:
            first_seen.setdefault(worker, round(time.monotonic() - begin, 1))
    finished = time.monotonic()
    while counts[-1][1] and time.monotonic() < finished + 60:
        time.sleep(0.2)
    done = sorted((r.index, r.failure, r.annotated, r.computed) for r in results)
    once = done == [(i, "", 1, 1) for i in range(SHARDS)] and sorted(load_commits(Store(job.out_url), job.plan)) == list(range(SHARDS))
    good = counts[0][1] == 0 and max(n for _, n in counts) == NODES and counts[-1][1] == 0 and len(first_seen) >= 2 and once
    found = {"nodes": counts, "workers first seen": sorted(first_seen.values()), "shards": len(results), "once": once}
    print(json.dumps(found | {"seconds": round(finished - begin)}), flush=True)
    print(f"pool: {'all laws hold' if good else 'A LAW IS BROKEN'}", flush=True)
    return 0 if good else 1


def main() -> int:
    if len(sys.argv) > 1:
        return drive(Path(sys.argv[1]))
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as scratch,
        autoscaling_cluster(NodeSpec(), max_nodes=NODES, idle_timeout_s=IDLE_S, env={"PYTHONPATH": os.getcwd()}) as cluster,
    ):
        return os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-m", "tests.chaos.pool", scratch], cluster.driver_env)


if __name__ == "__main__":
    sys.exit(main())
