"""`ray_cluster.yaml` is valid for Ray's own validator and for the checks that it lacks."""

from __future__ import annotations

from pathlib import Path

import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

REPO = Path(__file__).resolve().parents[2]
CLUSTER = yaml.safe_load((REPO / "ray_cluster.yaml").read_text())


def test_ray_accepts_the_cluster() -> None:
    validate_config(prepare_config(CLUSTER))


def test_worker_counts_and_roles() -> None:
    for name, node in CLUSTER["available_node_types"].items():
        assert "IamInstanceProfile" in node["node_config"], f"{name}: Ray gives workers no role of their own"
        if name == CLUSTER["head_node_type"]:
            assert node["resources"]["CPU"] == 0, "the head must run no work"
            assert "InstanceMarketOptions" not in node["node_config"], "a spot head takes every job down with it"
        else:
            assert 0 <= node["min_workers"] <= node["max_workers"] <= CLUSTER["max_workers"]


def test_images_pin_the_ray_that_is_installed() -> None:
    assert ray.__version__ in CLUSTER["docker"]["image"]
    assert f"rayproject/ray:{ray.__version__}" in (REPO / "cluster/Dockerfile").read_text()
