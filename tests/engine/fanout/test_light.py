"""A finished job submitted again: the real command infers nothing, writes nothing and imports nothing that infers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import torch

from engine.annotators.registry import MEAN_POSE, NAMES, resolve_annotator
from engine.fanout.actor import ShardWorker
from engine.fanout.config import AnnotateConfig
from engine.fanout.plan import plan_annotation, torch_version
from engine.fanout.run import annotate
from engine.fanout.work import WorkerSpec
from engine.releases.store import open_release
from engine.releases.verify import verify_release
from engine.shards.reader import open_shard_set
from engine.storage import Store
from engine.training.read_checkpoint import open_checkpoint
from tests.engine.annotators.runs import write_run

HEAVY = ("torch", "ray", "cv2", "nvidia.dali", "smplx", "scipy", "pandas")
REPO = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import json, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))
"""


def commit_all(config: AnnotateConfig) -> None:
    """What workers do, in this process."""
    shard_set = open_shard_set(config.shard_set)
    identity, make = resolve_annotator(config.annotator, config, config.device)
    plan = plan_annotation(shard_set.manifest, shard_set.digest, shard_set.url, identity, config.computing)
    worker = ShardWorker(WorkerSpec(plan.digest(), plan.annotator_digest, plan.settings, config.out, make, make, "submission", 1))
    assert [worker.run(shard).failure for shard in plan.shards] == [""] * len(plan.shards)


@pytest.mark.parametrize("annotator", NAMES)
def test_a_finished_job_is_found_finished_without_torch_or_ray(
    config: AnnotateConfig, annotator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever annotates: a fit and a fine-tuning start from a network here, and are done once."""
    if annotator != MEAN_POSE:
        url = str(tmp_path / "f")
        write_run(url, "vposer")
        sections = {"smplify": {"init": url, "fit": {"tolerance": 0.1}}, "eft": {"base": url, "iterations": 3}}
        config = AnnotateConfig.model_validate(config.model_dump() | {"annotator": annotator, annotator: sections[annotator]})
    commit_all(config)
    manifest = annotate(config)
    assert manifest is not None and manifest.annotated == manifest.planned and manifest.skipped == manifest.quarantined == {}
    verify_release(open_release(config.out, config.name))
    if annotator != MEAN_POSE:
        named = manifest.lineage[f"annotator.{'init' if annotator == 'smplify' else 'base'}"]
        assert named == open_checkpoint(str(tmp_path / "f")).manifest.files["model.pt"].sha256
        assert manifest.settings[annotator] == ('{"fit":{"tolerance":0.1}}' if annotator == "smplify" else '{"iterations":3}')
    assert not ray.is_initialized()
    (tmp_path / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    before = sorted(Store(config.out).scan())
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    command = [sys.executable, "-c", PROGRAM, str(REPO / "jobs/annotate.py"), "--config", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    *_, said, imported = done.stdout.splitlines()
    assert "nothing to do" in said and json.loads(imported) == []
    assert sorted(Store(config.out).scan()) == before


def test_torchs_version_is_known_without_it() -> None:
    assert torch_version() == torch.__version__
