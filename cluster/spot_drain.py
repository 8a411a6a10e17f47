"""Tells Ray that this node's machine is about to be taken away. One runs beside the raylet of every spot node.

    python -m cluster.spot_drain --provider aws|gcp     watches the cloud's metadata service, and drains the node on a notice
    python -m cluster.spot_drain --now SECONDS          drains at once and waits: for a Kubernetes preStop hook

Ray itself does not listen to these notices. A drained node is given no further tasks and actors; those that it runs go on until the
machine is gone (AWS: 120 s after the notice, GCP: 30 s). Only the standard library is used.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

POLL_S = {"aws": 5.0, "gcp": 1.0}
"""AWS recommends 5 s; of GCP's 30 s every one counts."""
TIMEOUT_S = 2.0
TOKEN_TTL_S = 21600
GCP_NOTICE_S = 30.0
DRAIN_TIMEOUT_S = 60.0
UNANSWERED = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Notice:
    """The machine goes away at `at`, in seconds since the epoch. Equal notices are one."""

    what: str
    at: float


class Provider(Protocol):
    """A cloud's metadata service."""

    def notice(self) -> Notice | None:
        """The notice that stands, if any. Raises OSError, HTTPException or ValueError when the service gives no proper answer."""

    def advice(self) -> str | None:
        """What the cloud says of a danger that is no notice yet."""


class Aws:
    """IMDSv2: a session token by PUT, then `spot/instance-action`, which is 404 as long as there is no notice."""

    def __init__(self, endpoint: str = "http://169.254.169.254", timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint, self.timeout_s = endpoint, timeout_s
        self._token: str | None = None

    def notice(self) -> Notice | None:
        body = self._get("spot/instance-action")
        if body is None:
            return None
        try:
            said = json.loads(body)
            at = datetime.strptime(said["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            return Notice(f"spot instance-action {said['action']} at {said['time']}", at.timestamp())
        except (KeyError, TypeError) as error:
            raise ValueError(f"spot/instance-action: expected action and time, found {body[:200]!r}") from error

    def advice(self) -> str | None:
        body = self._get("events/recommendations/rebalance")
        return None if body is None else f"rebalance recommendation {body.strip()[:200]}"

    def _get(self, path: str) -> str | None:
        """The text at a path of the metadata; None where there is none. A session token that has expired is renewed once."""
        for last in (False, True):
            if self._token is None:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
                self._token = _fetch(f"{self.endpoint}/latest/api/token", ttl, self.timeout_s, "PUT")[0]
            try:
                return _fetch(f"{self.endpoint}/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, self.timeout_s)[0]
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code != 401 or last:
                    raise
                self._token = None
        raise AssertionError("not reached")


class Gcp:
    """The metadata server's `instance/preempted`: FALSE until the notice, TRUE for the 30 s after it."""

    def __init__(self, endpoint: str = "http://metadata.google.internal", timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint, self.timeout_s = endpoint, timeout_s
        self._notice: Notice | None = None

    def notice(self) -> Notice | None:
        url = f"{self.endpoint}/computeMetadata/v1/instance/preempted"
        body, headers = _fetch(url, {"Metadata-Flavor": "Google"}, self.timeout_s)
        if headers.get("Metadata-Flavor") != "Google" or body.strip() not in ("TRUE", "FALSE"):
            raise ValueError(f"instance/preempted: expected TRUE or FALSE of a Google metadata server, found {body[:200]!r}")
        if body.strip() == "FALSE":
            self._notice = None
        elif self._notice is None:
            self._notice = Notice("preempted", time.time() + GCP_NOTICE_S)
        return self._notice

    def advice(self) -> str | None:
        return None


def _fetch(url: str, headers: dict[str, str], timeout_s: float, method: str = "GET") -> tuple[str, http.client.HTTPMessage]:
    # No proxy of the environment may stand between a machine and its own metadata.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers, method=method), timeout=timeout_s) as reply:
        return reply.read(65536).decode(errors="replace"), reply.headers


def watch(
    provider: Provider,
    drain: Callable[[str, float], bool],
    poll_s: float,
    stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Drain once a notice, for ever. A drain that is refused is tried again at the next look; a service that fails is asked again."""
    drained: set[Notice] = set()
    said: str | None = None
    while not stopped():
        try:
            notice, line = provider.notice(), provider.advice()
            if notice is not None and notice not in drained:
                seconds = max(0.0, notice.at - time.time())
                _log(f"{notice.what}: draining, {seconds:.0f} s are left")
                if drain(notice.what, seconds):
                    drained.add(notice)
        except (*UNANSWERED, ValueError) as error:
            line = f"the metadata service gave no answer: {error}"
        # Once a change, not once a look: a machine may be up for weeks.
        if line is not None and line != said:
            _log(line)
        said = line
        sleep(poll_s)


def raylet_node_id(cmdline: Path) -> str | None:
    """Ray's id, in hex, of the node whose raylet has this command line (a file of /proc); None if it is no raylet's."""
    try:
        program, *arguments = cmdline.read_text(errors="replace").split("\0")
    except OSError:
        return None
    ids = [a.partition("=")[2] for a in arguments if a.startswith("--node_id=")]
    return ids[0] if ids and Path(program).name == "raylet" else None


def local_node_ids(proc: Path = Path("/proc")) -> set[str]:
    """Ray's ids of the nodes whose raylets run on this machine, or in this container."""
    return {found for path in proc.glob("[0-9]*/cmdline") if (found := raylet_node_id(path))}


def drain_node(what: str, seconds: float, node_id: str | None = None, address: str | None = None) -> bool:
    """Have Ray drain this machine's node; whether it accepted. `ray drain-node` is a hidden command, so its flags are pinned by a test."""
    ids = {node_id} if node_id else local_node_ids()
    if len(ids) != 1:
        _log(f"nothing drained: expected the raylet of one node on this machine, found {len(ids)}; name it with --node-id")
        return False
    command = [
        shutil.which("ray") or str(Path(sys.executable).with_name("ray")),
        *("drain-node", "--node-id", ids.pop(), "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", what),
        *("--deadline-remaining-seconds", str(int(seconds))),
        *(("--address", address) if address else ()),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRAIN_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _log(f"ray drain-node failed: {error}")
        return False
    _log("drained" if done.returncode == 0 else f"ray drain-node ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.returncode == 0


def drain_now(seconds: float, drain: Callable[[str, float], bool]) -> None:
    """Drain, then wait until the time is over or the raylet has ended: when a preStop hook returns, the container is killed."""
    deadline = time.monotonic() + seconds
    if drain("the pod is being deleted", seconds):
        while time.monotonic() < deadline and local_node_ids():
            time.sleep(0.5)


def _log(line: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} spot-drain: {line}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--provider", choices=("aws", "gcp"), help="whose metadata service to watch")
    what.add_argument("--now", type=float, metavar="SECONDS", help="drain at once; the node has this many seconds")
    parser.add_argument("--endpoint", help="URL of the metadata service, if not the provider's own")
    parser.add_argument("--poll", type=float, metavar="SECONDS", help=f"time between two looks; {POLL_S}")
    parser.add_argument("--node-id", help="Ray's id of the node, in hex; of the raylet on this machine")
    parser.add_argument("--address", help="host:port of the cluster's GCS; found by Ray")
    args = parser.parse_args(argv)

    def drain(what: str, seconds: float) -> bool:
        return drain_node(what, seconds, args.node_id, args.address)

    if args.now is not None:
        drain_now(args.now, drain)
        return
    kind = {"aws": Aws, "gcp": Gcp}[args.provider]
    _log(f"watching the metadata service of {args.provider}")
    watch(kind(args.endpoint) if args.endpoint else kind(), drain, args.poll or POLL_S[args.provider])


if __name__ == "__main__":
    main()
