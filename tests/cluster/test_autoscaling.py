"""Nodes come when tasks wait and go when they are idle, by Ray's own autoscaler. `tests/chaos/pool.py` has the pool of Ray Data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cluster.autoscaling import autoscaling_cluster
from cluster.local import NodeSpec

DRIVER = """
import json, time, ray
ray.init(logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=1, resources={"cpu_stage": 1})
def work():
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

def workers():
    return sum(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in ray.nodes())

counts = [workers()]
refs = [work.remote() for _ in range(4)]
ended, deadline = False, time.monotonic() + 90
while time.monotonic() < deadline and not (ended and counts[-1] == 0):
    ended = ended or len(ray.wait(refs, num_returns=4, timeout=0)[0]) == 4
    if workers() != counts[-1]:
        counts.append(workers())
    time.sleep(0.1)
print(json.dumps([counts, len(set(ray.get(refs)))]))
"""


@pytest.mark.slow
def test_nodes_follow_the_work() -> None:
    with autoscaling_cluster(NodeSpec(resources={"cpu_stage": 1}), max_nodes=2, idle_timeout_s=1) as cluster:
        done = subprocess.run([sys.executable, "-c", DRIVER], env=cluster.driver_env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        counts, used = json.loads(done.stdout.splitlines()[-1])
        assert counts[0] == 0 and max(counts) == 2 and counts[-1] == 0, counts
        assert used == 2
