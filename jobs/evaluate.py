"""Networks on test sets by their protocols, the mean-pose baseline, and a release against its truth: results.json, the paper's tables with
our rows (terminal, CSV, LaTeX), and pictures of the worst predictions. docs/EVALUATION.md defines every figure.

ray job submit --working-dir . -- python jobs/evaluate.py --config evaluate.yaml
"""

from engine.config import run_job
from engine.evaluation.run import EvaluateConfig, evaluate
from engine.report.worst import draw_worst


def evaluate_and_draw(config: EvaluateConfig) -> None:
    draw_worst(config, evaluate(config))


if __name__ == "__main__":
    run_job(EvaluateConfig, evaluate_and_draw)
