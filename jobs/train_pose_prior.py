"""Train a pose prior in VPoser's architecture: `python jobs/train_pose_prior.py --out=DIR [--pose_files=["amass/**/*.npz"]]`.

Needs no data: poses are drawn from joint limits and postures. npz files of SMPL or AMASS poses are trained on too, where
given. The directory it writes is in VPoser v1's layout; use it with `prior.kind=vposer, prior.vposer_dir=DIR`. `--help` lists every key.
"""

from engine.body.train_prior import PriorTrainingConfig, train_prior
from engine.config import run_job

if __name__ == "__main__":
    run_job(PriorTrainingConfig, train_prior)
