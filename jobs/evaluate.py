"""Networks on a 3DPW-protocol test set, the mean-pose baseline, and a release against its truth -> results.json and a table.

ray job submit --working-dir . -- python jobs/evaluate.py --config evaluate.yaml
"""

from engine.config import run_job
from engine.evaluation.run import EvaluateConfig, evaluate

if __name__ == "__main__":
    run_job(EvaluateConfig, evaluate)
