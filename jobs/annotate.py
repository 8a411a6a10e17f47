"""Annotate a shard set into a release of 3D pseudo-GT: `python jobs/annotate.py --config FILE.yaml [--a.b=value ...]`.

Submit it to a cluster with `ray job submit -- python jobs/annotate.py ...`. Submitted again it goes on where it was, and computes
nothing when it is finished. `--help` lists every key; `--dry_run=true` prints what it would do.
"""

from engine.config import run_job
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate

if __name__ == "__main__":
    run_job(AnnotateConfig, annotate)
