"""A tiny study from rendering to tables, as a user starts it, and started again."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from engine.ablation.run import run_study
from engine.ablation.study import plan_cells, training_config
from engine.config import load_config, merge
from engine.errors import CheckpointMismatch, CommitConflict
from engine.synthetic.config import tiny_config
from engine.training.checkpoint import open_checkpoint
from jobs.ablate import AblateConfig, ablate
from jobs.demo import REPO

STUDIES = REPO / "jobs" / "configs" / "ablation"


def _tiny(target: Path) -> Path:
    """The small study with one table, one seed and seconds of training."""
    values = yaml.safe_load((STUDIES / "small.yaml").read_text())
    values["worlds"] = {"main": tiny_config("$OUT/worlds/main").model_dump(mode="json")}
    values["study"]["annotators"] |= yaml.safe_load((STUDIES / "annotators.yaml").read_text())["study"]["annotators"]
    values["study"]["annotators"]["eft"]["settings"] |= {"iterations": 2}
    values["sets"] = {name: values["sets"][name] for name in ("mocap", "itw", "itw3d", "test")}
    study = values["study"]
    study["base"] |= {"max_steps": 2, "log_every_steps": 1, "backbone_init": None}
    study["base"]["model"] |= {"width": 0.125, "feature_dim": 8}
    study["base"]["loading"] |= {"batch_size": 8}
    del study["base_f"]["max_steps"], study["base_g"]["max_steps"], study["starts"]["pose3d"]["change"]["max_steps"]
    rows = [
        {"label": "ours", "g": "on_ours", "paper": "47.52"},
        {"label": "from 3D pose", "f": "from_3d_pose"},
        {"label": "eft", "f": "eft"},
        {"label": "smplify", "f": "smplify"},
    ]
    study["tables"] = [{"name": "t", "title": "T", "rows": rows}]
    target.write_text(yaml.safe_dump(values))
    return target


def _submit(config: Path, out: Path) -> str:
    command = [sys.executable, str(REPO / "jobs" / "ablate.py"), "--config", str(config), f"--out={out}"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_study_is_run_and_found_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, config = tmp_path / "out", _tiny(tmp_path / "tiny.yaml")
    shown = _submit(config, out)
    assert "study: 6 networks, 0 of them done before" in shown and "[6/6]" in shown and "47.52" in shown
    study = out / "study"
    rows = list(csv.DictReader((study / "cells.csv").open()))
    assert {(r["row"], r["measure"]) for r in rows} == {
        ("ours", "pseudo_gt"), ("ours", "f_test"), ("ours", "g_test"), ("from 3D pose", "pseudo_gt"), ("from 3D pose", "f_test"),
        ("eft", "pseudo_gt"), ("smplify", "pseudo_gt"),
    }  # fmt: skip
    assert all(float(r["pa_mpjpe_mm"]) > 0 for r in rows) and (study / "t.png").read_bytes().startswith(b"\x89PNG")
    tables = (study / "tables.md").read_text()
    ablate(load_config(AblateConfig, ["--config", str(config), f"--out={out}"]))
    assert "study: 6 networks, 6 of them done before" in capsys.readouterr().out and (study / "tables.md").read_text() == tables

    g = open_checkpoint(str(study / "g" / "on_ours" / "seed0" / "run")).manifest
    assert g.config["loading"]["itw"][0]["release"].endswith("#ours-seed0@v0001") and "release/ours-seed0/v1" in g.training_sets

    done = load_config(AblateConfig, ["--config", str(config), f"--out={out}"]).study
    with pytest.raises(CheckpointMismatch, match=r"g/on_ours/seed0/run belongs to another config, which differs in optim"):
        run_study(done.model_copy(update={"base": merge(done.base, {"optim": {"lr": 0.5}})}))
    with pytest.raises(CommitConflict, match=r"results of other inputs \(these differ: test set 3dpw\)"):
        run_study(done.model_copy(update={"test_set": f"{out}/shards/itw3d"}))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_network_of_the_studies_has_a_valid_config(path: Path, tmp_path: Path) -> None:
    config = load_config(AblateConfig, ["--config", str(path), f"--out={tmp_path}"])
    cells = plan_cells(config.study)
    assert {training_config(config.study, cell).out for cell in cells} == {f"{tmp_path}/study/{cell}/run" for cell in cells}
