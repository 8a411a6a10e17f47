"""The job: plain progress lines into a log, one clear message for a wrong key."""

from pathlib import Path

import pytest

from engine.config import run_job
from engine.synthetic.config import SyntheticConfig
from jobs.make_synthetic import make_synthetic

SMALL = [
    "--workers=1",
    "--mocap_images=1",
    "--mocap_test_images=0",
    "--itw_images=2",
    "--itw3d_train_images=1",
    "--itw3d_validation_images=0",
    "--itw3d_test_images=1",
]


def test_prints_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_job(SyntheticConfig, make_synthetic, [f"--out={tmp_path / 'world'}", *SMALL])
    printed = capsys.readouterr().out
    assert "synthetic coco: 2/2 images" in printed and "synthetic human36m: 1/1 images" in printed and "3dpw" in printed
    assert (tmp_path / "world" / "coco" / "annotations" / "person_keypoints_train2017.json").is_file()


def test_unknown_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_job(SyntheticConfig, make_synthetic, [f"--out={tmp_path / 'world'}", "--persons=3"])
    assert stopped.value.code == 2 and "persons" in capsys.readouterr().err
