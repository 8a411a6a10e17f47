"""A local cluster of many nodes: they are told apart, lost, added and ended, and nothing of them outlives the context."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.local import FAST_DETECTION, ClusterError, LocalCluster, NodeSpec, local_cluster

DRIVER = """
import json, os, sys, time, ray
ray.init(logging_level="ERROR", log_to_driver=False)

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def who():
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id(), os.environ["WHO"]

@ray.remote(num_cpus=0, resources={"cpu_stage": 1})
def stage():
    return os.environ["WHO"]

def nodes():
    return {n["NodeID"]: [n["Alive"], n["Resources"]] for n in ray.nodes()}

for line in sys.stdin:
    print("=", json.dumps(eval(line)), flush=True)
"""


class Driver:
    """A process that is connected to the cluster and says what an expression is there."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], env=cluster.driver_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, expression: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        # Ray writes there too.
        while not (line := self.process.stdout.readline()).startswith("= "):
            assert line, "the driver has ended"
        return json.loads(line[2:])

    def wait_until_dead(self, node_id: str) -> None:
        while self("nodes()")[node_id][0]:
            time.sleep(0.2)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.slow
def test_nodes_are_lost_added_and_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: set[int] = set()
    specs = [NodeSpec(env={"WHO": "first"}), NodeSpec(env={"WHO": "second"}, resources={"cpu_stage": 2})]
    with local_cluster(cpus=0, workers=specs, object_store_mib=150, env=FAST_DETECTION) as cluster:
        first, second = cluster.nodes
        ids = {node.name: node.node_id for node in (cluster.head, first, second)}
        driver = Driver(cluster)
        seen |= cluster.head.pids() | first.pids() | second.pids()
        try:
            found = driver("nodes()")
            assert {i: alive for i, (alive, _) in found.items()} == dict.fromkeys(ids.values(), True)
            assert "CPU" not in found[ids["head"]][1], "the head runs no work"
            assert found[ids["w1"]][1]["cpu_stage"] == 2
            assert found[ids["w0"]][1]["object_store_memory"] == 150 << 20
            assert {tuple(pair) for pair in driver("ray.get([who.remote() for _ in range(6)])")} == {
                (ids["w0"], "first"),
                (ids["w1"], "second"),
            }
            assert driver("ray.get(stage.remote())") == "second"

            pids = first.pids()
            assert len(pids) > 3, "a raylet, its agents and workers"
            first.kill()
            assert not running(pids) and not first.alive and second.alive
            with pytest.raises(ClusterError, match="no raylet"):
                _ = first.node_id
            driver.wait_until_dead(ids["w0"])
            assert {node for node, _ in driver("ray.get([who.remote() for _ in range(4)])")} == {ids["w1"]}

            third = cluster.add_node(NodeSpec(cpus=2, env={"WHO": "third"}))
            seen |= third.pids()
            assert "third" in {name for _, name in driver("ray.get([who.remote() for _ in range(8)])")}

            with pytest.raises(ClusterError, match=r"node w3: ray start ended with exit code \d+:\n(.|\n)*object store"):
                cluster.add_node(NodeSpec(object_store_mib=1))

            # Jobs run on a head without CPUs, for those who have the token.
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{cluster.dashboard_url}/api/jobs/")
            (tmp_path / "hello.py").write_text("import sys; print('hello', sys.argv[1]); sys.exit(3)")
            with pytest.raises(ClusterError, match=r"hello\.py you: the job failed"):
                cluster.submit("hello.py", "you", working_dir=tmp_path)
            assert "hello you" in capsys.readouterr().out

            second.stop()
            driver.wait_until_dead(ids["w1"])
            assert {name for _, name in driver("ray.get([who.remote() for _ in range(4)])")} == {"third"}
        finally:
            seen |= cluster.head.pids()
            driver.end()
    assert not running(seen)
    assert not cluster.log_dir.exists()


def running(pids: set[int]) -> set[int]:
    """Those of them that are there and are no zombies."""
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
