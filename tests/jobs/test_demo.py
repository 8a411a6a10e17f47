"""The whole path on a tiny world, each stage submitted to a real local Ray cluster: photographs to a release to a trained g to a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from engine.errors import ConfigError
from engine.evaluation.run import read_results
from engine.releases.store import open_release
from engine.releases.verify import verify_release
from engine.shards.reader import open_shard_set
from engine.synthetic.config import tiny_config
from jobs.demo import REPO, DemoConfig, demo

DEMO = REPO / "jobs" / "configs" / "demo"
TRAINING = {"max_steps": 2, "checkpoint_every_steps": 2, "log_every_steps": 1, "backbone_init": None}
NETWORK = {"width": 0.125, "feature_dim": 16}


def _tiny_configs(target: Path) -> Path:
    """The demo's own configs, with sizes that take seconds."""
    target.mkdir()
    for source in DEMO.glob("*.yaml"):
        values = yaml.safe_load(source.read_text())
        if source.stem == "world":
            values = tiny_config("$OUT/world").model_dump(mode="json")
        if source.stem.startswith("train_"):
            values |= TRAINING
            values["model"] |= NETWORK
            values["loading"] |= {"batch_size": 8}
        (target / source.name).write_text(yaml.safe_dump(values))
    return target


def test_from_photographs_to_a_trained_estimator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    demo(DemoConfig(out=str(out), configs=str(_tiny_configs(tmp_path / "configs")), cpus=2))

    shown = capfd.readouterr().out
    assert "PA-MPJPE" in shown and str(out / "report" / "index.html") in shown
    shards = open_shard_set(str(out / "shards" / "itw"))
    release = open_release(str(out / "store"), "itw-pseudo-gt")
    verify_release(release)
    assert release.manifest.planned == shards.manifest.instances == release.manifest.annotated
    assert release.manifest.lineage["shard_set"] == shards.digest and release.manifest.body == "open"
    g = json.loads(next((out / "runs" / "g" / "checkpoints").glob("*/manifest.json")).read_text())
    assert release.digest in g["training_sets"].values(), "g's checkpoint names the release it learnt from"
    assert read_results(str(out / "evaluation")).pseudo_gt is not None
    assert (out / "report" / "index.html").stat().st_size > 5_000


def test_a_directory_that_is_not_coco_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="annotations/"):
        demo(DemoConfig(out=str(tmp_path / "out"), coco=str(tmp_path)))
