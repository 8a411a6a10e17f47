"""Where faults are tried: a scratch folder, annotation jobs as processes of their own, and what they left as the checker sees it.

A job is a process of its own. Those on the arena's cluster are forked from one that has the engine imported already, which saves ten
seconds a job; those that are `alone` are `python jobs/annotate.py --config FILE` with a Ray that lives and dies with them.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import ray
import yaml
from moto.server import ThreadedMotoServer

from tests.chaos.annotation.checker import Bucket, check
from tests.chaos.annotation.submission import REPO, Submission, drive
from tests.chaos.annotation.world import write_world

NAME = "chaos"
"""Of every release here."""


class Arena:
    """Scratch folder, worlds and jobs of one run of the suite."""

    def __init__(self, folder: Path, small: bool = False) -> None:
        self.folder, self.small = folder, small
        self.token = uuid.uuid4().hex
        self._environment = dict(os.environ)
        self._calm: dict[str, str] = {}
        self._submissions: list[Submission] = []

    def world(self, shards: int, images: int, persons: int = 1) -> str:
        """URL of a local shard set of good images; written once."""
        url = str(self.folder / f"world-{shards}x{images}x{persons}")
        return url if Path(url).exists() else write_world(url, shards, images, persons)

    def new(self, word: str) -> str:
        """A path that is not taken, for a release store."""
        return str(self.folder / f"{word}-{uuid.uuid4().hex[:8]}")

    def config(self, world: str, out: str, **fields: Any) -> dict[str, Any]:
        pool = {"min_size": 1, "max_size": 1, "cpus": 0.5} if self.small else {"min_size": 2, "max_size": 2, "cpus": 0.5}
        values = {"shard_set": world, "annotator": "mean_pose", "out": out, "name": NAME, "batch_size": 16, "pool": pool}
        return values | {"mean_pose": {"crop_hw": [64, 48]}} | fields

    @cached_property
    def ray_address(self) -> str:
        """The cluster that jobs share, started when it is first wanted."""
        os.environ["PSEUDOGT_CHAOS"] = self.token  # every process of the cluster carries it
        context = ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=150 << 20
        )
        del os.environ["PSEUDOGT_CHAOS"]
        return context.address_info["gcs_address"]

    @cached_property
    def s3(self) -> str:
        """Endpoint of an S3 server, started when it is first wanted."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def s3_variables(self, endpoint: str | None = None) -> dict[str, str]:
        """Environment of who is to find the S3 server, directly or at another endpoint that leads to it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.s3,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self) -> str:
        """URL of a fresh bucket. From here on this process finds the S3 server too."""
        os.environ.update(self.s3_variables())
        name = f"chaos-{uuid.uuid4().hex[:12]}"
        boto3.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}/root"

    def submit(
        self,
        config: dict[str, Any],
        faults: Sequence[dict[str, Any]] = (),
        environment: dict[str, str] | None = None,
        alone: bool = False,
        address: str | None = None,
        **driver: Any,
    ) -> Submission:
        """Start a job, with fault points armed in the driver and in its workers.

        environment: for both, too. alone: with a Ray of its own. address: of another cluster than the arena's. driver: how the driver
        itself is to differ (see `submission.differ`).
        """
        folder = self.folder / "submissions" / uuid.uuid4().hex[:12]
        (folder / "fired").mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        armed = {"PSEUDOGT_FAULTS": json.dumps(list(faults)), "PSEUDOGT_FAULTS_DIR": str(folder / "fired")}
        armed |= {"PYTHONPATH": str(REPO), "PSEUDOGT_CHAOS": self.token} | (environment or {})
        variables = {**os.environ, **armed, "RAY_USAGE_STATS_ENABLED": "0"}
        variables["RAY_ADDRESS"] = armed.get("RAY_ADDRESS") or ("local" if alone else address or self.ray_address)
        arguments = ["--config", str(folder / "config.yaml")]
        log = folder / "log.txt"
        if alone:
            command = [sys.executable, str(REPO / "jobs/annotate.py"), *arguments]
            with open(log, "wb") as out:
                process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=variables, cwd=folder)
        else:
            # what `ray job submit` does to carry an environment to the workers of one job
            variables |= {"RAY_AUTH_MODE": "token", "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": armed}})}
            process = self.forks.Process(target=drive, args=(arguments, variables, str(log), driver))
            process.start()
        submission = Submission(process, log, folder / "fired")
        self._submissions.append(submission)
        return submission

    @cached_property
    def forks(self) -> Any:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["engine.fanout.run", __name__])
        return context

    def run(self, config: dict[str, Any], *arguments: Any, **options: Any) -> Submission:
        """Start a job and wait for its end; arguments as for `submit`."""
        submission = self.submit(config, *arguments, **options)
        submission.wait()
        return submission

    def calm(self, world: str, **fields: Any) -> str:
        """Digest of the release that nothing disturbs; computed once."""
        key = json.dumps([world, fields], sort_keys=True)
        if key not in self._calm:
            config = self.config(world, self.new("calm"), **fields)
            submission = self.run(config)
            assert submission.poll() == 0, submission.output
            found = self.check(config)
            assert not (found["lost"] or found["duplicated"] or found["problems"]), found
            self._calm[key] = found["release_digest"]
        return self._calm[key]

    def check(self, config: dict[str, Any], shard_set: str | None = None) -> dict[str, Any]:
        """The checker's findings on a job's release; `shard_set` where the job's own one is damaged."""
        return check(config["out"], config["name"], shard_set or config["shard_set"])

    def children(self) -> list[int]:
        """Ids of all processes that were started by jobs of this arena, and by nobody else."""
        found, mark = [], f"PSEUDOGT_CHAOS={self.token}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        """Leave no process behind."""
        for submission in self._submissions:
            submission.kill()
        if "ray_address" in self.__dict__:
            ray.shutdown()
        if "s3" in self.__dict__:
            self._server.stop()
        os.environ.clear()
        os.environ.update(self._environment)
        for pid in self.children():
            kill(pid)


def kill(pid: int) -> bool:
    """SIGKILL; False when the process is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def commits(config: dict[str, Any]) -> list[str]:
    """Keys of the commit records in a job's store."""
    return [key for key in Bucket(config["out"]).keys("runs/") if "/shards/" in key]


def attempts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Attempt records in a job's local store: shard, host, pid of workers that are at work, or died at it."""
    found = []
    for path in Path(config["out"]).glob("runs/*/attempts/*/*.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (FileNotFoundError, ValueError):
            continue
    return found
