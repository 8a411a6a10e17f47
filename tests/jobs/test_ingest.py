"""The ingest job as it is run: a process with a config file, its words and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engine.shards.reader import open_shard_set

REPO = Path(__file__).resolve().parents[2]


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "jobs/ingest.py", *argv], cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    Image.new("RGB", (64, 48)).save(root / "val/1.jpg")
    person = {"image_id": 1, "iscrowd": 0, "bbox": [2, 2, 40, 40], "keypoints": [5, 5, 2] * 17, "num_keypoints": 17}
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2)],
        "annotations": [person | {"id": 1}, person | {"id": 2, "iscrowd": 1}, person | {"id": 3, "image_id": 2}],
    }
    (root / "annotations/person_keypoints_val.json").write_text(json.dumps(content))
    path = tmp_path / "ingest.yaml"
    path.write_text(f"dataset: {{name: coco, root: {root}, split: val}}\nout: {tmp_path / 'shards'}\n")
    return path


def test_it_tells_what_became_of_everybody(config_file: Path, tmp_path: Path) -> None:
    done = _run("--config", str(config_file))
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[2:6] == [
        "coco/val: 3 persons found",
        "kept 1 on 1 images in 1 shards",
        "skipped 1 crowd",
        "quarantined 1 image_missing (1 images)",
    ]
    shard_set = open_shard_set(str(tmp_path / "shards"))
    assert shard_set.digest[:16] in lines[6]
    assert "shards/manifest.json" in lines[6]


def test_a_dry_run_counts_and_writes_nothing(config_file: Path, tmp_path: Path) -> None:
    done = _run("--config", str(config_file), "--dry_run", "true")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[1] == "coco/val: dry run: 3 persons found"
    assert lines[2].startswith("to keep 1 on 1 images that are there")
    assert lines[3:] == ["skipped 1 crowd", "quarantined 1 image_missing (1 images)", "shards 1 of which 0 are made"]
    assert not (tmp_path / "shards").exists()


def test_a_wrong_path_is_one_clear_line(config_file: Path) -> None:
    failed = _run("--config", str(config_file), "--dataset.root", "/nowhere/coco")
    assert failed.returncode == 2
    assert (
        failed.stderr == "ingest.py: MissingInput: dataset coco: root /nowhere/coco is not a folder; set dataset.root to the raw dataset\n"
    )
