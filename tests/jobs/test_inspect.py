"""The inspection job as it is run: a plain log of 140 columns, a report, and one line where the config is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.engine.inspection.builders import annotation, encoded, write_coco

REPO = Path(__file__).resolve().parents[2]


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "60"}
    command = [sys.executable, "jobs/inspect.py", *argv]
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    images = {n: (f"{n}.jpg", encoded(seed=n), (96, 64)) for n in (1, 2)} | {3: ("3.jpg", None, (96, 64))}
    return write_coco(tmp_path / "coco", images, [annotation(10 + n, n) for n in images])


def test_a_plain_log_and_a_report(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = _run("--dataset.name=coco", f"--dataset.root={root}", "--dataset.split=val", f"--out={out}", "--sheet.cell_px=96")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("coco/val (raw dataset, itw2d): ") and lines[-1] == f"report: {out}/report.html"
    assert "3 persons on 3 images; 1 kind of errors." in lines
    assert max(map(len, (line for line in lines if str(tmp_path) not in line))) <= 140
    assert any("image_missing" in line and "1 image (33.3 %)" in line for line in lines)
    report = json.loads((out / "report.json").read_bytes())
    assert (report["images"]["images"], report["persons"]["persons"], report["findings"][0]["name"]) == (3, 3, "image_missing")
    with Image.open(out / "sheets" / "even-1.jpg") as sheet:
        assert sheet.width == 2 * (96 + 6)


def test_a_wrong_source_is_one_clear_line(root: Path) -> None:
    failed = _run("--dataset.name=coco", f"--dataset.root={root}", "--dataset.split=val", f"--shards={root}")
    assert failed.returncode == 2 and not failed.stdout
    (line,) = failed.stderr.splitlines()
    assert line.startswith("inspect.py: ConfigError: expected a raw dataset") and line.endswith("found both")
