"""A local cluster that adds and removes nodes by demand, for tests: Ray's own autoscaler over its fake node provider.

The fake provider starts a raylet where a cloud's would start a machine; all that decides is the same code as on a cluster. Ray's
`AutoscalingCluster` would do, but it begins with `ray stop --force`, which ends every Ray on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cluster.local import FAST_DETECTION, LocalCluster, NodeSpec, local_cluster

HEAD_TYPE, WORKER_TYPE = "ray.head.default", "worker"
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""By which the fake provider knows the head."""
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
)
"""What Ray wants in every config, and a machine that is already there needs nothing of."""


def autoscaling_config(worker: NodeSpec, max_nodes: int, idle_timeout_s: float) -> dict[str, object]:
    """What `ray start --autoscaling-config` reads: a head without CPUs, and 0 to `max_nodes` nodes like `worker`."""
    offered = {"CPU": worker.cpus, "GPU": worker.gpus, **worker.resources}
    if worker.object_store_mib is not None:
        offered["object_store_memory"] = worker.object_store_mib << 20
    return {
        "cluster_name": "local",
        "max_workers": max_nodes,
        "upscaling_speed": 10,
        "idle_timeout_minutes": idle_timeout_s / 60,
        "docker": {},
        "provider": {
            # As "external", because the wheel lacks the file of defaults that "fake_multinode" asks for.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": "$GCS_ADDRESS",
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            WORKER_TYPE: {
                "resources": {name: amount for name, amount in offered.items() if amount},
                "node_config": {},
                "min_workers": 0,
                "max_workers": max_nodes,
            },
        },
        "head_node_type": HEAD_TYPE,
        "auth": {},
        "file_mounts": {},
        **{key: [] for key in COMMANDS},
    }


@contextmanager
def autoscaling_cluster(
    worker: NodeSpec,
    max_nodes: int = 3,
    idle_timeout_s: float = 3,
    env: Mapping[str, str] | None = None,
) -> Iterator[LocalCluster]:
    """A cluster whose head runs no work and which starts with no other node; `worker.env` is not used, `env` reaches every node.

    Nodes come when tasks or actors wait for what they offer, and go when they were idle for `idle_timeout_s`.
    """
    settings = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    config = autoscaling_config(worker, max_nodes, idle_timeout_s)
    with local_cluster(
        cpus=0, object_store_mib=150, env={**FAST_DETECTION, **settings, **(env or {})}, autoscaling_config=config
    ) as cluster:
        yield cluster
