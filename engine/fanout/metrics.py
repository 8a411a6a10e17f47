"""The job's numbers as Ray metrics, which Ray exports to Prometheus with the prefix `ray_`; cluster/grafana/ draws them."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from engine.fanout.progress import Snapshot
from engine.fanout.work import ShardResult

Metrics = dict[str, tuple[str, tuple[str, ...]]]
"""Name -> what it is, and its tags besides `release`."""

COUNTERS: Metrics = {
    "pseudogt_annotated": ("persons annotated", ()),
    "pseudogt_quarantined": ("persons quarantined", ("reason",)),
    "pseudogt_shards": ("shards by outcome: committed or failed", ("outcome",)),
}
"""Ray exports a counter with `_total` behind its name."""
GAUGES: Metrics = {
    "pseudogt_shards_left": ("shards that are still to do", ()),
    "pseudogt_instances_per_second": ("persons a second since the job was submitted", ()),
    "pseudogt_eta_seconds": ("seconds to go at this rate", ()),
    "pseudogt_workers": ("workers heard of within the last minute", ()),
    "pseudogt_stage_busy_share": ("share of its time that a stage of a worker is busy", ("worker", "stage")),
    "pseudogt_queue_occupancy": ("fill of the queue before a stage of a worker", ("worker", "stage")),
}


class JobMetrics:
    """Metrics of one job, tagged with the name of its release."""

    def __init__(self, release: str) -> None:
        tags = {"release": release}
        kinds = [(Counter, COUNTERS), (Gauge, GAUGES)]
        self._metrics = {name: kind(name, text, ("release", *keys)) for kind, group in kinds for name, (text, keys) in group.items()}
        for metric in self._metrics.values():
            metric.set_default_tags(tags)

    def publish(self, snapshot: Snapshot, result: ShardResult) -> None:
        """Add a finished shard, and what it changed."""
        if result.annotated:
            self._metrics["pseudogt_annotated"].inc(result.annotated)
        for reason, persons in result.quarantined.items():
            self._metrics["pseudogt_quarantined"].inc(persons, {"reason": reason})
        self._metrics["pseudogt_shards"].inc(1, {"outcome": "failed" if result.failure else "committed"})
        self._metrics["pseudogt_shards_left"].set(snapshot.shards - snapshot.done)
        self._metrics["pseudogt_instances_per_second"].set(snapshot.persons_per_s)
        self._metrics["pseudogt_eta_seconds"].set(snapshot.left_s)
        self._metrics["pseudogt_workers"].set(snapshot.workers)
        for worker, stages in result.usage.items():
            for stage, (busy, queue) in stages.items():
                tags = {"worker": worker, "stage": stage}
                self._metrics["pseudogt_stage_busy_share"].set(busy, tags)
                self._metrics["pseudogt_queue_occupancy"].set(queue, tags)
