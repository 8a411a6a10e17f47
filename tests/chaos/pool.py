"""A pool of Ray Data on a cluster that scales: `make chaos`. It starts without a node, and each worker it gains takes a node of its own.

Laws: nodes go from 0 to at least 2 and back to 0; the pool gains a second worker; every row arrives once.

It takes over a minute because Ray Data 2.60 looks at the cluster's nodes every 20 s (`_AutoscalingCoordinatorActor.TICK_INTERVAL_S`): until
then a pool that began with no node has a budget for one worker, however many nodes have come, and whatever its `initial_size` is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import ray

from cluster.autoscaling import autoscaling_cluster
from cluster.local import NodeSpec

ROWS = 60
IDLE_S = 8


class Slow:
    """A second a row; says which process it is."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(1)
        return batch | {"pid": [os.getpid()] * len(batch["id"])}


def count_nodes(counts: list[tuple[float, int]], begin: float) -> None:
    """Note (seconds, nodes that work) whenever the second changes."""
    while True:
        now = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        if not counts or counts[-1][1] != now:
            counts.append((round(time.monotonic() - begin, 1), now))
        time.sleep(0.2)


def drive() -> None:
    """The driver's part, in a process that has the cluster's environment."""
    ray.init(logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    begin, counts, first_seen = time.monotonic(), [], {}
    threading.Thread(target=count_nodes, args=(counts, begin), daemon=True).start()
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=3)
    rows = ray.data.range(ROWS, override_num_blocks=ROWS).map_batches(Slow, batch_size=1, num_cpus=1, compute=pool)
    ids = []
    for row in rows.iter_rows():
        ids.append(int(row["id"]))
        first_seen.setdefault(int(row["pid"]), round(time.monotonic() - begin, 1))
    finished = time.monotonic()
    while counts[-1][1] and time.monotonic() < finished + 60:
        time.sleep(0.2)
    good = (
        counts[0][1] == 0
        and max(n for _, n in counts) >= 2
        and counts[-1][1] == 0
        and len(first_seen) >= 2
        and sorted(ids) == list(range(ROWS))
    )
    found = {"nodes": counts, "workers first seen": sorted(first_seen.values()), "rows": len(ids), "seconds": round(finished - begin)}
    print(json.dumps(found), flush=True)
    print(f"pool: {'all laws hold' if good else 'A LAW IS BROKEN'}", flush=True)
    sys.exit(0 if good else 1)


def main() -> int:
    if len(sys.argv) > 1:
        drive()
    with autoscaling_cluster(NodeSpec(), max_nodes=3, idle_timeout_s=IDLE_S, env={"PYTHONPATH": os.getcwd()}) as cluster:
        return os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-m", "tests.chaos.pool", "drive"], cluster.driver_env)


if __name__ == "__main__":
    sys.exit(main())
