"""Train f, the annotator: `python jobs/train_annotator.py --config f.yaml`, alone or under `ray job submit`."""

from __future__ import annotations

from engine.config import run_job
from engine.training.config import TrainAnnotatorConfig
from engine.training.run import train

if __name__ == "__main__":
    run_job(TrainAnnotatorConfig, train)
