"""What a raw dataset or a shard set holds, what in it is missing or contradictory, and contact sheets of its annotation.

    python jobs/inspect.py --dataset.name=coco --dataset.root=/data/coco --dataset.split=train2017 --out=inspection/coco
    python jobs/inspect.py --shards=s3://bucket/shards/coco_train --out=s3://bucket/inspection/coco_train

Nothing of it is changed. Submitted again, it looks again.
"""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location


def _hand_over() -> None:
    """Python's own `inspect` to who asks for it: a script's folder is first on the path, so jobs that import `inspect` find this file."""
    spec = spec_from_file_location("inspect", os.path.join(os.path.dirname(os.__file__), "inspect.py"))
    sys.modules["inspect"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["inspect"])


if __name__ == "inspect":
    _hand_over()

if __name__ == "__main__":
    from engine.config import run_job
    from engine.inspection.config import InspectConfig
    from engine.inspection.run import inspect

    run_job(InspectConfig, inspect)
