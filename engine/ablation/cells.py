"""One cell of a study, from training to its errors. Every step finds what an interrupted run left and goes on from there."""

from __future__ import annotations

import torch
from rich.console import Console

from engine.ablation.study import Cell, StudyConfig, folder, release_name, training_config, variant_of
from engine.evaluation.results import Results
from engine.evaluation.run import EvaluateConfig, NamedNetwork, ReleaseTruth, evaluate, read_results
from engine.fanout.run import AnnotateConfig, annotate
from engine.storage import Store
from engine.training.checkpoint import open_checkpoint
from engine.training.config import TrainConfig
from engine.training.run import require_same_run, train


def run_cell(study: StudyConfig, cell: Cell) -> None:
    """Train, and for f annotate, and measure. Raises what the stages raise."""
    torch.set_num_threads(1)
    run = f"{folder(study, cell)}/run"
    config = _whole_config(study, cell)
    train(config)
    if cell.kind == "start":
        return
    release = None
    if cell.kind == "f":
        store = f"{study.out.rstrip('/')}/store"
        name = release_name(cell)
        annotate(AnnotateConfig(shard_set=study.photographs, annotator=run, out=store, name=name, pool=study.pool))
        release = ReleaseTruth(root=store, name=name, version=1, truth=study.truth)
    network = NamedNetwork(name=cell.kind, checkpoint=run)
    measuring = EvaluateConfig(
        out=f"{folder(study, cell)}/evaluation", networks=(network,), test_set=study.test_set, release=release, body=config.body
    )
    evaluate(measuring, Console(quiet=True))


def is_done(study: StudyConfig, cell: Cell) -> bool:
    """Whether nothing is left to do for the cell. CheckpointMismatch if what was done has another config than the study gives it now."""
    run = Store(f"{folder(study, cell)}/run")
    if cell.kind == "start":
        done = run.exists("LATEST") and open_checkpoint(run.url).manifest.finished
    else:
        done = Store(f"{folder(study, cell)}/evaluation").exists("results.json")
    if done:
        require_same_run(open_checkpoint(run.url), _whole_config(study, cell))
    return done


def results_of(study: StudyConfig, cell: Cell) -> Results | None:
    """The cell's errors; None while it is not done."""
    return read_results(f"{folder(study, cell)}/evaluation") if cell.kind != "start" and is_done(study, cell) else None


def _whole_config(study: StudyConfig, cell: Cell) -> TrainConfig:
    """The cell's training job with the checkpoints it starts from, which must be there."""
    variant, config = variant_of(study, cell), training_config(study, cell)
    if variant.backbone_of:
        start = f"{folder(study, Cell(kind='start', name=variant.backbone_of, seed=study.seeds[0]))}/run"
        config = config.model_copy(update={"backbone_init": f"{open_checkpoint(start).store.url}/model.pt"})
    if variant.weights_of:
        source = f"{folder(study, Cell(kind='f', name=variant.weights_of, seed=cell.seed))}/run"
        config = config.model_copy(update={"init_from": open_checkpoint(source).store.url})
    return config
