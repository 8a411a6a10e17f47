"""A notice to a node of a Ray cluster that it will be gone soon, as a spot instance gets it."""

from __future__ import annotations

import time

from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2


def drain(address: str, node_id: str, notice_s: float) -> bool:
    """Whether the cluster accepted that the node takes no more work and is gone in `notice_s` seconds."""
    deadline_ms = int((time.time() + notice_s) * 1000)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, _ = GcsClient(address=address).drain_node(node_id, reason, "notice of preemption", deadline_ms)
    return accepted
