"""The cluster files for AWS and Google Cloud: valid for Ray's own validator, and for the checks that it lacks, each shown to bite."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.spot_drain import main

REPO = Path(__file__).resolve().parents[2]
AWS = yaml.safe_load((REPO / "ray_cluster.yaml").read_text())
GCP = yaml.safe_load((REPO / "cluster/gcp.yaml").read_text())
TOML = (REPO / "pyproject.toml").read_text()
WORKER_ROLE, HEAD_ROLE = "pseudogt-worker", "pseudogt-head"

Cluster = dict[str, Any]
both = pytest.mark.parametrize("cluster", [AWS, GCP], ids=["aws", "gcp"])


def workers(cluster: Cluster) -> dict[str, Any]:
    return {name: node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]}


def head(cluster: Cluster) -> dict[str, Any]:
    return cluster["available_node_types"][cluster["head_node_type"]]


def is_spot(node: dict[str, Any]) -> bool:
    config = node["node_config"]
    gcp = any(s.get("provisioningModel") == "SPOT" or s.get("preemptible") for s in config.get("scheduling", []))
    return gcp or config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"


def check_ray_accepts(cluster: Cluster) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def check_counts(cluster: Cluster) -> None:
    for name, node in workers(cluster).items():
        assert 0 <= node["min_workers"] <= node["max_workers"] <= cluster["max_workers"], f"{name}: min <= max <= the cluster's max"
    assert cluster["max_workers"] <= sum(node["max_workers"] for node in workers(cluster).values()), "more than all types together"
    assert sum(node["min_workers"] for node in workers(cluster).values()) == 0, "machines that stay when there is no work cost money"


def check_head_runs_no_work(cluster: Cluster) -> None:
    assert head(cluster)["resources"] == {"CPU": 0}, "tasks would land on the head"
    assert not is_spot(head(cluster)), "a spot head takes every job down with it"


def check_workers_are_spot(cluster: Cluster) -> None:
    for name, node in workers(cluster).items():
        assert is_spot(node), f"{name}: on demand"
        assert ("GPU" in node["resources"]) != ("cpu_stage" in node["resources"]), f"{name}: neither a GPU nor a CPU worker, or both"


def check_roles(cluster: Cluster) -> None:
    """Ray gives a role of its own to the head (a very wide one), and none to workers."""
    for name, node in cluster["available_node_types"].items():
        config = node["node_config"]
        if cluster["provider"]["type"] == "aws":
            expected = HEAD_ROLE if name == cluster["head_node_type"] else WORKER_ROLE
            assert config.get("IamInstanceProfile") == {"Name": expected}, f"{name}: expected the instance profile {expected}"
        else:
            emails = [account["email"] for account in config.get("serviceAccounts", [])]
            assert emails == [f"{WORKER_ROLE}@PROJECT.iam.gserviceaccount.com"], f"{name}: expected the account {WORKER_ROLE}"


def check_image(cluster: Cluster) -> None:
    version = re.search(r'^version = "(.+)"', TOML, re.MULTILINE)
    assert version is not None
    assert cluster["docker"]["image"].endswith(f"/pseudogt:{version[1]}-ray-{ray.__version__}"), (
        "the tag names the package's and ray's version"
    )


def check_token(cluster: Cluster) -> None:
    """Every node demands a token, and has it from a file that is not in the repository."""
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}, "where ray looks for the token"


def check_no_secrets(cluster: Cluster) -> None:
    text = json.dumps(cluster)
    for what in (r"RAY_AUTH_TOKEN=", r"AKIA[0-9A-Z]{16}", r"aws_secret", r"BEGIN [A-Z ]*PRIVATE KEY", r"\b[0-9a-f]{40,}\b", r"hf_\w{20,}"):
        assert not re.search(what, text, re.IGNORECASE), f"looks like a secret: {what}"


def check_metadata_and_disks(cluster: Cluster) -> None:
    if cluster["provider"]["type"] != "aws":
        return
    for name, node in cluster["available_node_types"].items():
        config = node["node_config"]
        expected = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 2}
        assert config.get("MetadataOptions") == expected, f"{name}: IMDSv2 is not required"
        for disk in config["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"] is True and disk["Ebs"]["DeleteOnTermination"] is True, f"{name}: {disk}"


def check_drainer(cluster: Cluster) -> None:
    """Workers watch for the notice, after Ray has started, as this provider gives it."""
    commands = cluster["worker_start_ray_commands"]
    starts = [i for i, c in enumerate(commands) if "ray start --address=$RAY_HEAD_IP:6379" in c]
    drains = [i for i, c in enumerate(commands) if f"python -m cluster.spot_drain --provider {cluster['provider']['type']}" in c]
    assert len(starts) == len(drains) == 1 and starts < drains
    assert "setsid flock --nonblock" in commands[drains[0]] and commands[drains[0]].rstrip().endswith("&)"), "one, in the background"


def check_start_commands(cluster: Cluster) -> None:
    (start,) = [c for c in cluster["head_start_ray_commands"] if "ray start --head" in c]
    assert "--dashboard-host=127.0.0.1" in start, "the job server runs what it is told to: nobody but the head may reach it"
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    for options, commands in (("head_run_options", "head_start_ray_commands"), ("worker_run_options", "worker_start_ray_commands")):
        (shm,) = [o for o in cluster["docker"][options] if o.startswith("--shm-size=")]
        (store,) = re.findall(r"--object-store-memory=(\d+)", " ".join(cluster[commands]))
        assert int(store) < int(shm.removeprefix("--shm-size=").rstrip("g")) << 30, f"{options}: the object store does not fit"
    assert "--ulimit nofile=65536:65536" in cluster["docker"]["run_options"]


CHECKS = [
    *(check_ray_accepts, check_counts, check_head_runs_no_work, check_workers_are_spot, check_roles, check_image, check_token),
    *(check_no_secrets, check_metadata_and_disks, check_drainer, check_start_commands),
]


@both
@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
def test_the_cluster(cluster: Cluster, check: Callable[[Cluster], None]) -> None:
    check(cluster)


def put(path: str, value: Any, of: Cluster = AWS) -> Cluster:
    """A copy with another value at a path like `docker.image`; None removes it."""
    damaged = copy.deepcopy(of)
    *parents, last = path.split(".")
    at = damaged
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return damaged


TYPES = "available_node_types"
GPU = f"{TYPES}.gpu_spot_g6"
SPOT = {"MarketType": "spot"}
DAMAGES = [
    (check_ray_accepts, put("max_wrokers", 3)),
    (check_ray_accepts, put("head_node_type", "haed")),
    (check_ray_accepts, put("idle_timeout_minutes", "5 minutes")),
    (check_counts, put(f"{GPU}.min_workers", 9)),
    (check_counts, put("max_workers", 7)),
    (check_counts, put("max_workers", 100)),
    (check_counts, put(f"{GPU}.min_workers", 1)),
    (check_head_runs_no_work, put(f"{TYPES}.head.resources", {})),
    (check_head_runs_no_work, put(f"{TYPES}.head.node_config.InstanceMarketOptions", SPOT)),
    (check_head_runs_no_work, put(f"{TYPES}.head.node_config.scheduling", [{"preemptible": True}], GCP)),
    (check_workers_are_spot, put(f"{GPU}.node_config.InstanceMarketOptions", None)),
    (check_workers_are_spot, put(f"{TYPES}.gpu_spot_l4.node_config.scheduling", None, GCP)),
    (check_workers_are_spot, put(f"{GPU}.resources.cpu_stage", 1)),
    (check_roles, put(f"{GPU}.node_config.IamInstanceProfile", None)),
    (check_roles, put(f"{GPU}.node_config.IamInstanceProfile", {"Name": HEAD_ROLE})),
    (check_roles, put(f"{TYPES}.gpu_spot_l4.node_config.serviceAccounts", None, GCP)),
    (check_image, put("docker.image", "REGISTRY/pseudogt:latest")),
    (check_image, put("docker.image", "REGISTRY/pseudogt:0.1.0-ray-2.59.0")),
    (check_token, put("docker.run_options", ["--ulimit nofile=65536:65536"])),
    (check_token, put("file_mounts", {})),
    (check_no_secrets, put("docker.run_options", ["--env RAY_AUTH_TOKEN=abc"])),
    (check_no_secrets, put("docker.run_options", ["--env TOKEN=" + "0123456789abcdef" * 4])),
    (check_no_secrets, put("initialization_commands", ["export AWS_ACCESS_KEY_ID=" + "AKIA" + "ABCDEFGHIJKLMNOP"])),
    (check_metadata_and_disks, put(f"{GPU}.node_config.MetadataOptions", None)),
    (check_metadata_and_disks, put(f"{GPU}.node_config.MetadataOptions.HttpTokens", "optional")),
    (check_metadata_and_disks, put(f"{TYPES}.head.node_config.BlockDeviceMappings.0.Ebs.Encrypted", False)),
    (check_drainer, put("worker_start_ray_commands", AWS["worker_start_ray_commands"][:2])),
    (check_drainer, put("worker_start_ray_commands", GCP["worker_start_ray_commands"])),
    (check_drainer, put("worker_start_ray_commands", AWS["worker_start_ray_commands"][::-1])),
    (check_start_commands, put("head_start_ray_commands.1", "ray start --head --dashboard-host=0.0.0.0")),
    (check_start_commands, put("docker.worker_run_options", ["--shm-size=16g"])),
]


@pytest.mark.parametrize(("check", "damaged"), DAMAGES, ids=lambda x: getattr(x, "__name__", ""))
def test_the_checks_bite(check: Callable[[Cluster], None], damaged: Cluster) -> None:
    with pytest.raises((ValidationError, ValueError) if check is check_ray_accepts else AssertionError):
        check(damaged)


@both
def test_the_drainer_knows_the_arguments_it_is_started_with(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    command = next(c for c in cluster["worker_start_ray_commands"] if "spot_drain" in c)
    arguments = re.search(r"cluster\.spot_drain (.+?) >>", command)
    assert arguments is not None
    with pytest.raises(SystemExit):
        main([*arguments[1].split(), "--help"])
    assert "usage" in capsys.readouterr().out


def test_the_image_is_built_from_the_ray_that_is_installed() -> None:
    dockerfile = (REPO / "cluster/Dockerfile").read_text()
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {f"rayproject/ray:{ray.__version__}-py311-cu128"}
    assert f"ray[data,train,default]=={ray.__version__}" in TOML
    users = re.findall(r"^USER (\w+)", dockerfile, re.MULTILINE)
    assert users[-1] == "ray", "the image runs as root"


def test_the_builder_gets_what_the_image_copies_and_no_more() -> None:
    dockerfile = (REPO / "cluster/Dockerfile").read_text()
    lines = re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE)
    copied = {name for line in lines for name in line.split()[:-1]}
    ignore = (REPO / "cluster/Dockerfile.dockerignore").read_text().split("\n")
    assert ignore[1] == "*"
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == copied
    assert all((REPO / name).exists() for name in copied)
