"""A Ray cluster of one or many nodes on this machine, started and stopped as one thing, with token authentication on.

`ray stop` would end every Ray on the machine; here each node is a child process in a session of its own, so that a node can be
lost as a machine is lost, and leaving the context ends exactly what was started.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.local_node import START_TIMEOUT_S, ClusterError, LocalNode, NodeSpec, ray_command

FAST_DETECTION = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""For `local_cluster(env=...)`: a killed node is known to be dead after 1 to 2 s; by Ray's defaults, after 15 s. How long a check
waits for an answer stays as it is: a killed raylet's port refuses at once, and one that is only slow shall live."""


@dataclass(frozen=True)
class LocalCluster:
    """Where a running local cluster answers, the environment its clients need, and its nodes."""

    dashboard_url: str
    address: str
    """Of the GCS: what a driver gives `ray.init`, and a further node `ray start --address`."""
    env: dict[str, str]
    """For clients of the job server; its RAY_ADDRESS is the dashboard's."""
    log_dir: Path
    head: LocalNode
    nodes: list[LocalNode]
    """The workers, in the order they were added; lost ones stay listed."""

    @property
    def driver_env(self) -> dict[str, str]:
        """For a process that calls `ray.init()` itself, without the job server."""
        return self.env | {"RAY_ADDRESS": self.address}

    def add_node(self, spec: NodeSpec, wait: bool = True) -> LocalNode:
        """A further worker node. Without `wait`, its `wait_until_started` is the caller's."""
        # Nodes of one machine may share neither the fixed default ports (0: each process binds a free one) nor a folder of logs
        # and sockets: two that start at once would take each other's.
        name = f"w{len(self.nodes)}"
        ports = ("dashboard-agent-listen-port", "min-worker-port", "max-worker-port")
        arguments = [f"--address={self.address}", f"--temp-dir={self.log_dir / name}", *(f"--{port}=0" for port in ports)]
        env = {k: v for k, v in self.env.items() if k != "RAY_ADDRESS"}
        node = LocalNode(name, spec, arguments, env, self.log_dir / f"{name}.log")
        self.nodes.append(node)
        if wait:
            node.wait_until_started()
        return node

    def submit(self, script: str, *args: str, working_dir: Path, submission_id: str | None = None) -> None:
        """`ray job submit` a script of `working_dir` and follow its log. ClusterError names the job when it fails."""
        name = ["--submission-id", submission_id] if submission_id else []
        command = [
            ray_command(),
            "job",
            "submit",
            "--address",
            self.dashboard_url,
            "--working-dir",
            str(working_dir),
            *name,
            "--",
            "python",
            script,
            *args,
        ]
        process = subprocess.Popen(
            command, env=self.env, cwd=working_dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            if not _is_chatter(line):
                print(f"  {line}", end="", flush=True)
        if process.wait() != 0:
            raise ClusterError(f"{script} {' '.join(args)}: the job failed (exit code {process.returncode}); its log is above")


@contextmanager
def local_cluster(
    cpus: int | None = None,
    workers: Sequence[NodeSpec] = (),
    object_store_mib: int | None = None,
    env: Mapping[str, str] | None = None,
    autoscaling_config: Mapping[str, object] | None = None,
) -> Iterator[LocalCluster]:
    """A cluster on free ports of the loopback address; ended with the context, whatever became of its nodes.

    The head offers `cpus` (None: all of this machine's; 0: it runs drivers and no work) and `object_store_mib`. `env` reaches every
    process of every node. `autoscaling_config` is what `ray start --autoscaling-config` reads: cluster/autoscaling.py.
    """
    temporary = Path(tempfile.mkdtemp(prefix="pg-"))
    port, dashboard_port, client_port, agent_port = _free_ports(4)
    dashboard_url = f"http://127.0.0.1:{dashboard_port}"
    cluster_env = dict(os.environ) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": dashboard_url,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    cluster_env |= env or {}
    ports = {
        "port": port,
        "dashboard-port": dashboard_port,
        "ray-client-server-port": client_port,
        "dashboard-agent-listen-port": agent_port,
    }
    arguments = [
        *("--head", "--dashboard-host=127.0.0.1", "--disable-usage-stats", f"--temp-dir={temporary}"),
        *(f"--{name}={value}" for name, value in ports.items()),
    ]
    if autoscaling_config is not None:
        config_path = temporary / "autoscaling.json"
        config_path.write_text(json.dumps(autoscaling_config).replace("$GCS_ADDRESS", f"127.0.0.1:{port}"))
        arguments.append(f"--autoscaling-config={config_path}")
    spec = NodeSpec(cpus=cpus, object_store_mib=object_store_mib)
    head_env = {k: v for k, v in cluster_env.items() if k != "RAY_ADDRESS"}
    head = LocalNode("head", spec, arguments, head_env, temporary / "head.log")
    cluster = LocalCluster(dashboard_url, f"127.0.0.1:{port}", cluster_env, temporary, head, [])
    try:
        head.wait_until_started()
        for worker in workers:
            cluster.add_node(worker, wait=False)
        _wait_for_job_server(cluster)
        for node in cluster.nodes:
            node.wait_until_started()
        yield cluster
    finally:
        for node in (*cluster.nodes, head):
            node.kill()
        _end_orphans(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _wait_for_job_server(cluster: LocalCluster) -> None:
    """Until a job has run: a listing answers before the agent that starts jobs is there."""
    deadline = time.monotonic() + START_TIMEOUT_S
    submitted = None
    while time.monotonic() < deadline:
        if not cluster.head.alive:
            raise ClusterError(f"ray start ended with exit code {cluster.head.process.returncode}:\n{cluster.head.log_tail()}")
        with suppress(OSError):
            if submitted is None:
                submitted = _job_api(cluster, "", {"entrypoint": "true"})["submission_id"]
            if _job_api(cluster, submitted)["status"] == "SUCCEEDED":
                return
        time.sleep(0.2)
    raise ClusterError(f"no answer from {cluster.dashboard_url} after {START_TIMEOUT_S} s:\n{cluster.head.log_tail()}")


def _job_api(cluster: LocalCluster, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {cluster.env['RAY_AUTH_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{cluster.dashboard_url}/api/jobs/{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def _end_orphans(temporary: Path) -> None:
    """Whatever has left its family but names the cluster's temporary folder in its command line."""
    found = subprocess.run(["pgrep", "-f", str(temporary)], capture_output=True, text=True, check=False).stdout.split()
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), signal.SIGKILL)


def _free_ports(n: int) -> list[int]:
    """Ports below Ray's worker range (10002 to 19999), which the client server must avoid."""
    found: list[int] = []
    candidate = 6300 + secrets.randbelow(1500)
    while len(found) < n:
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", candidate))
            found.append(candidate)
        candidate += 1
    return found


_CHATTER = (
    "Job submission server address",
    "WebSocket closed",
    "WARNING working_dir.py",
    "Running entrypoint for job",
    "SUCC cli.py",
    "INFO cli.py",
    "INFO dashboard_sdk.py",
    "INFO job_manager.py",
    "Next steps",
    "Query the logs",
    "ray job ",
    "Query the status",
    "Request the job",
    "Tailing logs until",
    "-------",
    "INFO packaging.py",
    "Job 'raysubmit",
    "Runtime env is setting up",
    "INFO worker.py",
    "FutureWarning",
    "has constructor arguments in the object store",
    "Progress bars disabled",
    "warnings.warn",
)


def _is_chatter(line: str) -> bool:
    text = line.strip()
    return not text or any(part in text for part in _CHATTER)
