"""What a raw dataset or a shard set holds, what in it is missing or contradictory, and contact sheets of its annotation.

    python jobs/inspect_data.py --dataset.name=coco --dataset.root=/data/coco --dataset.split=train2017 --out=inspection/coco
    python jobs/inspect_data.py --shards=s3://bucket/shards/coco_train --out=s3://bucket/inspection/coco_train

Nothing of it is changed. Submitted again, it looks again.
"""

from engine.config import run_job
from engine.inspection.config import InspectConfig
from engine.inspection.run import inspect

if __name__ == "__main__":
    run_job(InspectConfig, inspect)
