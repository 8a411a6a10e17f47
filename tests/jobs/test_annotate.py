"""The job as a user starts it: a process, its lines and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import run_job
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate
from engine.releases.store import open_release
from engine.releases.verify import verify_release
from tests.engine.fanout.conftest import make_shards, write_shard_set

REPO = Path(__file__).resolve().parents[2]


def _submit(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "jobs" / "annotate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=300, check=False)


def test_from_a_config_file_to_a_release_and_again(tmp_path: Path) -> None:
    """The paths are relative to the folder it is started in; the second time Ray could not be started."""
    write_shard_set(str(tmp_path / "set"), make_shards(2, 2))
    (tmp_path / "annotate.yaml").write_text(
        "shard_set: set\nannotator: mean_pose\nout: out\nname: coco\n"
        "pool: {min_size: 1, max_size: 1, cpus: 0.5}\nmean_pose: {crop_hw: [128, 96]}\n"
    )
    arguments = ("--config", "annotate.yaml", "--batch_size=3")
    first = _submit(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2/2 shards · 8/8 persons" in first.stdout and "coco v0001: 8 of 8 persons annotated" in first.stdout
    release = open_release(str(tmp_path / "out"), "coco")
    verify_release(release)
    assert release.manifest.settings["batch_size"] == 3

    again = _submit(*arguments, cwd=tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard_set=/no/such/set",), "MissingInput: /no/such/set: no shard set"),
        (("--shard_set=x", "--name=n", "--nmae=y"), "nmae"),
        (("--shard_set=x", "--name=a/b"), "'name'"),
        (("--shard_set=x", "--pool.cpus=0"), "'pool.cpus'"),
    ],
    ids=["wrong path", "unknown key", "bad name", "no cpus"],
)
def test_a_mistake_is_one_clear_message_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--annotator=mean_pose", "--out=out", *([] if "name" in str(arguments) else ["--name=n"]), *arguments]
    with pytest.raises(SystemExit) as stopped:
        run_job(AnnotateConfig, annotate, given)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
