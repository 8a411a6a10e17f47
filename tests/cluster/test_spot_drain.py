"""The spot drainer against an HTTP server that behaves as the clouds' metadata services do, and against a real two-node cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.local import NodeSpec, local_cluster
from cluster.spot_drain import Aws, Gcp, Notice, drain_node, drain_now, local_node_ids, watch

REPO = Path(__file__).resolve().parents[2]


@dataclass
class Metadata:
    """What a metadata server says, how it misbehaves, and what it was asked."""

    action: str | None = None
    rebalance: str | None = None
    preempted: str = "FALSE"
    errors: list[int | float] = field(default_factory=list)
    """Of the next answers to GET: a status instead of the answer, or (below 100) seconds of silence before it."""
    token: str = "token-1"
    tokens_given: int = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""


def make_handler(metadata: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def answer(self, status: int, body: str = "", **headers: str) -> None:
            data = body.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            metadata.asked.append(f"PUT {self.path}")
            ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600 or "X-Forwarded-For" in self.headers:
                return self.answer(400)
            metadata.tokens_given += 1
            return self.answer(200, metadata.token)

        def do_GET(self) -> None:
            metadata.asked.append(f"GET {self.path}")
            if metadata.errors:
                error = metadata.errors.pop(0)
                if error >= 100:
                    return self.answer(int(error), "sorry")
                time.sleep(error)
            if self.path.startswith("/computeMetadata/"):
                if self.headers.get("Metadata-Flavor") != "Google":
                    return self.answer(403)
                return self.answer(200, metadata.preempted, Metadata_Flavor="Google")
            if self.headers.get("X-aws-ec2-metadata-token") != metadata.token:
                return self.answer(401)
            found = {
                "/latest/meta-data/spot/instance-action": metadata.action,
                "/latest/meta-data/events/recommendations/rebalance": metadata.rebalance,
            }.get(self.path)
            return self.answer(404) if found is None else self.answer(200, found)

    return Handler


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    state = Metadata()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state))
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def notice_at(seconds: float, action: str = "terminate") -> str:
    at = datetime.fromtimestamp(time.time() + seconds, UTC)
    return json.dumps({"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})


class Looks:
    """Lets `watch` look a number of times, with something done before each look, and notes what was drained."""

    def __init__(self, *before: object) -> None:
        self.before, self.looks, self.drained, self.slept = list(before), 0, [], []
        self.accepts: list[bool] = []

    def stopped(self) -> bool:
        if self.looks == len(self.before):
            return True
        if callable(act := self.before[self.looks]):
            act()
        self.looks += 1
        return False

    def drain(self, what: str, seconds: float) -> bool:
        self.drained.append((what, seconds))
        return self.accepts.pop(0) if self.accepts else True

    def run(self, provider: Aws | Gcp) -> list[tuple[str, float]]:
        watch(provider, self.drain, 5.0, self.stopped, self.slept.append)
        return self.drained


def test_no_notice_drains_nothing_and_one_session_token_serves_many_looks(metadata: Metadata) -> None:
    assert Looks(*[None] * 5).run(Aws(metadata.url)) == []
    assert metadata.tokens_given == 1
    assert metadata.asked.count("GET /latest/meta-data/spot/instance-action") == 5


def test_a_notice_drains_once_with_the_time_that_is_left(metadata: Metadata) -> None:
    looks = Looks(None, None, lambda: setattr(metadata, "action", notice_at(120)), None, None)
    ((what, seconds),) = looks.run(Aws(metadata.url))
    assert what.startswith("spot instance-action terminate at ")
    assert 110 < seconds <= 120
    assert looks.slept == [5.0] * 5, "it goes on looking"


def test_another_notice_drains_again(metadata: Metadata) -> None:
    first, second = notice_at(120, "hibernate"), notice_at(300)
    looks = Looks(lambda: setattr(metadata, "action", first), None, lambda: setattr(metadata, "action", second), None)
    assert [what.split()[2] for what, _ in looks.run(Aws(metadata.url))] == ["hibernate", "terminate"]


def test_a_notice_of_the_past_leaves_no_time(metadata: Metadata) -> None:
    metadata.action = notice_at(-30)
    assert Looks(None).run(Aws(metadata.url))[0][1] == 0


def test_an_expired_session_token_is_renewed(metadata: Metadata) -> None:
    def expire() -> None:
        metadata.token, metadata.action = "token-2", notice_at(60)

    assert len(Looks(None, expire, None).run(Aws(metadata.url))) == 1
    assert metadata.tokens_given == 2


@pytest.mark.parametrize(
    "trouble",
    [[500], [500, 503, 500], [0.5], [401, 401], [200]],
    ids=["one 500", "three errors", "silence", "no token is good", "an answer that is no notice"],
)
def test_it_outlives_a_service_that_fails(metadata: Metadata, trouble: list[int | float], capsys: pytest.CaptureFixture[str]) -> None:
    def break_down() -> None:
        metadata.action, metadata.errors = notice_at(90), list(trouble)

    looks = Looks(None, break_down, None, None, None, None)
    assert len(looks.run(Aws(metadata.url, timeout_s=0.2))) == 1
    assert "gave no answer" in capsys.readouterr().out


def test_no_service_at_all_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert Looks(*[None] * 4).run(Aws("http://127.0.0.1:1", timeout_s=0.2)) == []
    assert capsys.readouterr().out.count("gave no answer") == 1


def test_a_drain_that_ray_refuses_is_tried_again(metadata: Metadata) -> None:
    metadata.action = notice_at(120)
    looks = Looks(*[None] * 5)
    looks.accepts = [False, False, True]
    assert len(looks.run(Aws(metadata.url))) == 3


def test_a_rebalance_recommendation_is_a_line_in_the_log_alone(metadata: Metadata, capsys: pytest.CaptureFixture[str]) -> None:
    metadata.rebalance = json.dumps({"noticeTime": "2026-01-01T00:00:00Z"})
    assert Looks(*[None] * 3).run(Aws(metadata.url)) == []
    assert capsys.readouterr().out.count("rebalance recommendation") == 1


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"action": "terminate", "time": "soon"}', '{"action": "stop", "time": null}'])
def test_a_malformed_notice_is_no_notice(metadata: Metadata, body: str) -> None:
    metadata.action = body
    with pytest.raises(ValueError, match=r"action|time|Expecting"):
        Aws(metadata.url).notice()


def test_gcp_preemption_leaves_thirty_seconds_from_when_it_was_seen(metadata: Metadata) -> None:
    looks = Looks(None, lambda: setattr(metadata, "preempted", "TRUE"), None, None)
    ((what, seconds),) = looks.run(Gcp(metadata.url))
    assert what == "preempted" and 29 < seconds <= 30


def test_gcp_answers_of_another_server_are_refused(metadata: Metadata) -> None:
    metadata.preempted = "<html>TRUE</html>"
    with pytest.raises(ValueError, match="expected TRUE or FALSE"):
        Gcp(metadata.url).notice()


def test_equal_notices_are_one() -> None:
    assert Notice("a", 1.0) == Notice("a", 1.0) and hash(Notice("a", 1.0)) == hash(Notice("a", 1.0))


def test_a_node_is_known_by_its_raylet(tmp_path: Path) -> None:
    commands = {
        "11": ["/venv/ray/core/src/ray/raylet/raylet", "--raylet_socket_name=/x", "--node_id=aa11", "--gcs-address=h:1"],
        "12": ["python", "agent.py", "--node_id=ff00"],
        "13": ["/venv/ray/core/src/ray/gcs/gcs_server", "--node-id=aa11"],
        "self": ["/venv/ray/core/src/ray/raylet/raylet", "--node_id=ee00"],
        "14": [],
    }
    for pid, command in commands.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_text("\0".join(command))
    (tmp_path / "15").mkdir()
    assert local_node_ids(tmp_path) == {"aa11"}


def test_a_hook_waits_for_a_drain_that_was_accepted_and_for_no_other() -> None:
    asked: list[tuple[str, float]] = []
    for accepted in (True, False):
        drain_now(0.01, lambda *notice, accepted=accepted: asked.append(notice) or accepted)
    assert asked == [("the pod is being deleted", 0.01)] * 2


def test_a_node_that_ray_does_not_know_is_not_drained(capsys: pytest.CaptureFixture[str]) -> None:
    assert not drain_node("a notice", 60, node_id="00", address="127.0.0.1:1")
    assert "exit code" in capsys.readouterr().out


DRIVER = """
import json, sys, ray
ray.init(logging_level="ERROR", log_to_driver=False)
drained = sys.argv[1]

@ray.remote(num_cpus=1)
def where():
    return ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=1, resources={"spot": 1})
class Holder:
    def node(self):
        return ray.get_runtime_context().get_node_id()

holder = Holder.remote()
print(json.dumps(ray.get(holder.node.remote())), flush=True)
sys.stdin.readline()
print(json.dumps([ray.get(holder.node.remote()), *ray.get([where.remote() for _ in range(6)])]), flush=True)
"""


@pytest.mark.slow
def test_a_notice_drains_a_node_of_a_real_cluster(metadata: Metadata) -> None:
    """The process as it is started on a machine: after the notice, what runs on the node goes on, and nothing new comes to it."""
    spot, other = NodeSpec(cpus=4, resources={"spot": 1}), NodeSpec(cpus=1)
    with local_cluster(cpus=0, workers=[spot, other], object_store_mib=150) as cluster:
        drained, kept = (node.node_id for node in cluster.nodes)
        assert {drained, kept, cluster.head.node_id} <= local_node_ids()
        environment = cluster.driver_env | {"PYTHONPATH": str(REPO)}
        command = [sys.executable, "-c", DRIVER, drained]
        driver = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert driver.stdin is not None and driver.stdout is not None
        assert json.loads(driver.stdout.readline()) == drained
        metadata.action = notice_at(120)
        arguments = ["--provider", "aws", "--endpoint", metadata.url, "--poll", "0.2", "--node-id", drained]
        drainer = subprocess.Popen(
            [sys.executable, "-m", "cluster.spot_drain", *arguments, "--address", cluster.address],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert drainer.stdout is not None
        try:
            lines = []
            while not lines or not lines[-1].endswith("spot-drain: drained\n"):
                lines.append(drainer.stdout.readline())
                assert lines[-1] and "exit code" not in lines[-1], "".join(lines)
            driver.stdin.write("\n")
            driver.stdin.flush()
            holder, *tasks = json.loads(driver.stdout.readline())
            assert drainer.poll() is None, "it goes on looking"
        finally:
            drainer.kill()
            driver.stdin.close()
            driver.wait()
            os.waitpid(drainer.pid, 0)
        assert holder == drained
        assert set(tasks) == {kept}
