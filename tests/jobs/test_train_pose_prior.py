"""The job as a person starts it."""

import subprocess
import sys
from pathlib import Path

JOB = Path(__file__).resolve().parents[2] / "jobs" / "train_pose_prior.py"


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(JOB), *arguments], capture_output=True, text=True, cwd=JOB.parents[1], timeout=120)


def test_it_trains_writes_and_then_refuses_in_one_line(tmp_path):
    arguments = (f"--out={tmp_path / 'prior'}", "--steps=2", "--sampled_poses=60", "--batch_size=8", "--num_neurons=16")
    first = _run(*arguments)
    assert first.returncode == 0, first.stderr
    assert "rotation_error_deg" in first.stdout and (tmp_path / "prior" / "TR00_open_prior.ini").is_file()
    again = _run(*arguments)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "never overwritten" in again.stderr
