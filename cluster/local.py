"""A Ray cluster on this machine, started and stopped as one thing, with token authentication on.

`ray stop` would end every Ray on the machine; here the head is a child process in its own session, so that leaving the
context ends exactly what was started.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError

START_TIMEOUT_S = 120


class ClusterError(EngineError):
    """The local cluster did not come up, or a submitted job failed."""


@dataclass(frozen=True)
class LocalCluster:
    """Where a running local cluster answers, and the environment its clients need."""

    dashboard_url: str
    env: dict[str, str]
    log_dir: Path

    def submit(self, script: str, *args: str, working_dir: Path, submission_id: str | None = None) -> None:
        """`ray job submit` a script of `working_dir` and follow its log. ClusterError names the job when it fails."""
        name = ["--submission-id", submission_id] if submission_id else []
        command = [
            _ray(),
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
def local_cluster(cpus: int | None = None) -> Iterator[LocalCluster]:
    """A one-node cluster on free ports of the loopback address; ended with the context."""
    temporary = Path(tempfile.mkdtemp(prefix="pg-"))
    port, dashboard_port, client_port, agent_port = _free_ports(4)
    dashboard_url = f"http://127.0.0.1:{dashboard_port}"
    env = dict(os.environ) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": dashboard_url,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    ports = {
        "port": port,
        "dashboard-port": dashboard_port,
        "ray-client-server-port": client_port,
        "dashboard-agent-listen-port": agent_port,
    }
    command = [
        *(_ray(), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--disable-usage-stats"),
        *(f"--{name}={value}" for name, value in ports.items()),
        f"--temp-dir={temporary}",
        *([f"--num-cpus={cpus}"] if cpus else []),
    ]
    log_path = temporary / "head.log"
    with open(log_path, "wb") as log:
        head = subprocess.Popen(
            command, env={k: v for k, v in env.items() if k != "RAY_ADDRESS"}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_up(head, dashboard_url, env, log_path)
        yield LocalCluster(dashboard_url, env, temporary)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=5)
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        _end_orphans(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _wait_until_up(head: subprocess.Popen, dashboard_url: str, env: dict[str, str], log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if head.poll() is not None:
            raise ClusterError(f"ray start ended with exit code {head.returncode}:\n{log_path.read_text()[-2000:]}")
        # A listing answers before the agent that starts jobs is there, so the probe is a job.
        probe = [_ray(), "job", "submit", "--address", dashboard_url, "--", "true"]
        if subprocess.run(probe, env=env, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.5)
    raise ClusterError(f"no answer from {dashboard_url} after {START_TIMEOUT_S} s:\n{log_path.read_text()[-2000:]}")


def _end_orphans(temporary: Path) -> None:
    """Workers outlive a killed head for a while; they all name its temporary folder in their command line."""
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


def _ray() -> str:
    return str(Path(sys.executable).with_name("ray"))


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
    "warnings.warn",
)


def _is_chatter(line: str) -> bool:
    text = line.strip()
    return not text or any(part in text for part in _CHATTER)
