"""An annotation job on a cluster of two nodes that share nothing but an S3 server, one of which is lost: release and metrics are right.

`make chaos` has it under `ray job submit`, on three nodes, with photographs: tests/chaos/nodes.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from cluster.local import FAST_DETECTION, local_cluster
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate
from schemas.manifests import ReleaseManifest
from tests.chaos.annotation.checker import check
from tests.chaos.faulty_s3 import faulty_s3
from tests.chaos.nodes import Watch, named_nodes, watched
from tests.engine.fanout.conftest import make_config, make_shards, write_shard_set
from tests.engine.fanout.test_light import commit_all

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
SHARDS, IMAGES, PERSONS = 24, 12, 2
KILL_AFTER = 4
STAGES = {"fetch", "crop", "network", "rows", "commit"}
EXPORT_MS = 1000
DRIVER = """
import sys, ray
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate
ray.init(logging_level="ERROR", log_to_driver=False)
annotate(AnnotateConfig.model_validate_json(sys.argv[1]))
(head,) = (node for node in ray.nodes() if "node:__internal_head__" in node["Resources"])
print("port", head["MetricsExportPort"], flush=True)
sys.stdin.read()
"""
"""Stays until its input ends: Ray forgets the metrics of a process that is gone."""


@dataclass(frozen=True)
class Job:
    """A job that lost a node, what its driver printed, and what Prometheus reads then: metric with its tags -> value."""

    config: AnnotateConfig
    watch: Watch
    log: list[str]
    metrics: dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def job(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket="nodes")
    url = write_shard_set("s3://nodes/images", make_shards(SHARDS, IMAGES, PERSONS))
    pool = {"min_size": 2, "max_size": 2, "cpus": 1}
    config = make_config(url, tmp_path_factory.mktemp("job"), out="s3://nodes/lossy", pool=pool)
    with faulty_s3(s3_server) as proxy:
        env = FAST_DETECTION | {
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "PYTHONPATH": str(REPO),
            "RAY_metrics_report_interval_ms": str(EXPORT_MS),
        }
        with (
            local_cluster(cpus=0, workers=named_nodes(2), object_store_mib=150, env=env) as cluster,
            watched(proxy, cluster.nodes) as watch,
        ):
            watch.kill_after = KILL_AFTER
            command = [sys.executable, "-c", DRIVER, config.model_dump_json()]
            driver = subprocess.Popen(
                command, env=cluster.driver_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert driver.stdin is not None and driver.stdout is not None
            try:
                log = []
                while not log or not log[-1].startswith("port "):
                    log.append(driver.stdout.readline())
                    assert log[-1], "".join(log)
                metrics = scrape(int(log[-1].split()[1]))
            finally:
                driver.kill()
                driver.wait()
    yield Job(config, watch, log, metrics)


def scrape(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Our metrics as a node exports them, once they say that no shard is left."""
    left = ("ray_pseudogt_shards_left", frozenset({("release", "coco")}))
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    while found.get(left) != 0:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            text = reply.read().decode()
        for name, tags, value in re.findall(r"^(ray_pseudogt_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            ours = {
                tag: said
                for tag, said in re.findall(r'(\w+)="([^"]*)"', tags)
                if tag in ("release", "reason", "outcome", "worker", "stage")
            }
            found[name, frozenset(ours.items())] = float(value)
    return found


def test_the_release_is_that_of_one_process_that_nobody_disturbed(job: Job, s3_server: str) -> None:
    assert job.watch.victim and job.watch.in_hand, "no node was caught at work"
    assert sorted(job.watch.committed) == list(range(SHARDS))
    survivor = {"w0": "w1", "w1": "w0"}[job.watch.victim]
    assert job.watch.shards(survivor)[1] >= len(job.watch.in_hand), "the other node did what the lost one had in hand"
    alone = job.config.model_copy(update={"out": "s3://nodes/alone"})
    commit_all(alone)
    expected = annotate(alone)
    assert isinstance(expected, ReleaseManifest) and expected.annotated == SHARDS * IMAGES * PERSONS
    found = check(job.config.out, job.config.name, job.config.shard_set)
    assert (found["lost"], found["duplicated"], found["problems"]) == ([], [], [])
    assert found["release_digest"] == expected.digest()


def test_prometheus_reads_what_was_done(job: Job) -> None:
    values = {(name, *(v for _, v in sorted(tags))): value for (name, tags), value in job.metrics.items()}
    assert values["ray_pseudogt_annotated_total", "coco"] == SHARDS * IMAGES * PERSONS
    assert values["ray_pseudogt_shards_total", "committed", "coco"] == SHARDS
    assert values["ray_pseudogt_shards_left", "coco"] == values["ray_pseudogt_eta_seconds", "coco"] == 0
    assert 1 <= values["ray_pseudogt_workers", "coco"] <= 3, "a dead one may still count, and one that was started again"
    rate = next(line for line in reversed(job.log) if "persons/s" in line)
    assert values["ray_pseudogt_instances_per_second", "coco"] == pytest.approx(float(rate.split(" persons/s")[0].split()[-1]), abs=0.05)
    for name in ("ray_pseudogt_stage_busy_share", "ray_pseudogt_queue_occupancy"):
        found = [(dict(tags), value) for (n, tags), value in job.metrics.items() if n == name]
        assert {tags["stage"] for tags, _ in found} == STAGES and len({tags["worker"] for tags, _ in found}) >= 1
        assert all(0 <= value <= 1 for _, value in found)
    assert not [name for name, *_ in values if "quarantined" in name], "nobody was"
