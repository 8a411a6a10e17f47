"""One node of a local Ray cluster: `ray start --block` in a session of its own, and all that it has started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.spot_drain import raylet_node_id
from engine.errors import EngineError

START_TIMEOUT_S = 120
STARTED = "Ray runtime started."


class ClusterError(EngineError):
    """The local cluster did not come up, or a submitted job failed."""


@dataclass(frozen=True)
class NodeSpec:
    """What a node offers, and what its environment has that others' have not."""

    cpus: int | None = 1
    """None: all of this machine's."""
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    object_store_mib: int | None = 150
    """Small, because many nodes share one machine; None: what Ray takes, a third of its memory."""
    env: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """As `ray start` wants them."""
        return [
            *([f"--num-cpus={self.cpus}"] if self.cpus is not None else []),
            *([f"--num-gpus={self.gpus}"] if self.gpus else []),
            *([f"--resources={json.dumps(dict(self.resources))}"] if self.resources else []),
            *([f"--object-store-memory={self.object_store_mib << 20}"] if self.object_store_mib is not None else []),
        ]


class LocalNode:
    """One node of the cluster: `ray start --block` in its own session, and all that it has started."""

    def __init__(self, name: str, spec: NodeSpec, arguments: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        self.name, self.spec, self.log_path = name, spec, log_path
        command = [ray_command(), "start", "--block", "--node-ip-address=127.0.0.1", f"--node-name={name}", *arguments, *spec.arguments()]
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(command, env={**env, **spec.env}, stdout=log, stderr=log, start_new_session=True)

    def wait_until_started(self) -> None:
        """Until the node is a member of the cluster. ClusterError shows the end of its log when that fails."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while STARTED not in self.log_path.read_text(errors="replace"):
            if self.process.poll() is not None:
                raise ClusterError(f"node {self.name}: ray start ended with exit code {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ClusterError(f"node {self.name}: not started after {START_TIMEOUT_S} s:\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The end of what `ray start` said."""
        return self.log_path.read_text(errors="replace")[-2000:]

    def pids(self) -> set[int]:
        """Every process of the node."""
        return _family(self.process.pid)

    @property
    def node_id(self) -> str:
        """Ray's id of the node, in hex, as its raylet was told it."""
        for pid in self.pids():
            if found := raylet_node_id(Path(f"/proc/{pid}/cmdline")):
                return found
        raise ClusterError(f"node {self.name}: no raylet is running")

    @property
    def alive(self) -> bool:
        """Whether it has been neither killed nor stopped."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Lose the whole node at once, raylet and workers, by SIGKILL. The cluster finds out by its health checks (FAST_DETECTION)."""
        while family := self.pids():
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.05)
        self.process.wait()

    def stop(self, timeout_s: float = 20) -> None:
        """End the node in order, by SIGTERM; whatever is left of it after `timeout_s` is killed."""
        family = self.pids()
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=timeout_s)
        for pid in family & _running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kill()


def _stat() -> dict[int, tuple[int, int]]:
    """(parent, session) of every process that is not a zombie."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, _, session = path.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if state != "Z":
                found[int(path.parent.name)] = (int(parent), int(session))
    return found


def _running() -> set[int]:
    return set(_stat())


def _family(leader: int) -> set[int]:
    """The processes of a session, and those they have started in further sessions, as Ray's job server does."""
    stat = _stat()
    found = {pid for pid, (_, session) in stat.items() if session == leader}
    while more := {pid for pid, (parent, _) in stat.items() if parent in found} - found:
        found |= more
    return found


def ray_command() -> str:
    """The `ray` of this Python."""
    return str(Path(sys.executable).with_name("ray"))
