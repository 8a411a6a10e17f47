"""Train g, an estimator on pseudo-GT: `python jobs/train_estimator.py --config g.yaml`, alone or under `ray job submit`."""

from __future__ import annotations

from engine.config import run_job
from engine.training.config import TrainEstimatorConfig
from engine.training.run import train

if __name__ == "__main__":
    run_job(TrainEstimatorConfig, train)
