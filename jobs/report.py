"""Training curves, releases, results and overlays of meshes on photographs -> index.html.

ray job submit --working-dir . -- python jobs/report.py --config report.yaml
"""

from engine.config import run_job
from engine.report.build import ReportConfig, build_report

if __name__ == "__main__":
    run_job(ReportConfig, build_report)
