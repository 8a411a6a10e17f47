"""Ingest one split of a raw dataset into a shard set: `ray job submit -- python jobs/ingest.py --config FILE.yaml`.

Submitted again, it completes what an interrupted run left, or finds the shard set finished and does nothing. `--dry_run=true` counts.
"""

from __future__ import annotations

from collections import Counter

from engine.config import run_job
from engine.shards.dry_run import count_ingest
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import MANIFEST
from engine.storage import join
from schemas.manifests import ShardSetManifest


def main(config: IngestConfig) -> None:
    if config.dry_run:
        print("\n".join(count_ingest(config, say).lines()))
        return
    manifest = ingest(config, say)
    for line in summary(manifest):
        print(line)
    print(f"shard set: {join(config.out, MANIFEST)}  digest {manifest.digest()[:16]}")


def say(line: str) -> None:
    print(line, flush=True)


def summary(manifest: ShardSetManifest) -> list[str]:
    """What became of every person found."""
    files = Counter(row.reason for row in manifest.quarantine)
    return [
        f"{manifest.dataset}/{manifest.split}: {manifest.found_instances} persons found",
        f"  kept         {manifest.instances:8d}  on {manifest.samples} images in {len(manifest.shards)} shards",
        *(f"  skipped      {count:8d}  {reason}" for reason, count in sorted(manifest.skipped.items())),
        *(f"  quarantined  {count:8d}  {reason} ({files[reason]} images)" for reason, count in sorted(manifest.quarantined.items())),
    ]


if __name__ == "__main__":
    run_job(IngestConfig, main)
