"""A run's backbone as a file that `backbone_init` takes: `python jobs/export_backbone.py --run RUN --out DIR --name FILE.pt`."""

from __future__ import annotations

from engine.config import run_job
from engine.training.export import ExportConfig, export_backbone

if __name__ == "__main__":
    run_job(ExportConfig, export_backbone)
