"""Train a 2D-pose network (recipe 2's start): `python jobs/pretrain_pose2d.py --config p.yaml`, alone or under `ray job submit`."""

from __future__ import annotations

from engine.config import run_job
from engine.training.config import TrainPose2dConfig
from engine.training.run import train

if __name__ == "__main__":
    run_job(TrainPose2dConfig, train)
