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
from engine.training.run import train


def run_cell(study: StudyConfig, cell: Cell) -> None:
    """Train, and for f annotate, and measure. Raises what the stages raise."""
    torch.set_num_threads(1)
    run = f"{folder(study, cell)}/run"
    variant, config = variant_of(study, cell), training_config(study, cell)
    if variant.backbone_of:
        start = f"{folder(study, Cell(kind='start', name=variant.backbone_of, seed=study.seeds[0]))}/run"
        config = config.model_copy(update={"backbone_init": f"{open_checkpoint(start).store.url}/model.pt"})
    if variant.weights_of:
        source = f"{folder(study, Cell(kind='f', name=variant.weights_of, seed=cell.seed))}/run"
        config = config.model_copy(update={"init_from": open_checkpoint(source).store.url})
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
    """Whether nothing is left to do for the cell."""
    if cell.kind == "start":
        run = Store(f"{folder(study, cell)}/run")
        return run.exists("LATEST") and open_checkpoint(run.url).manifest.finished
    return Store(f"{folder(study, cell)}/evaluation").exists("results.json")


def results_of(study: StudyConfig, cell: Cell) -> Results | None:
    """The cell's errors; None while it is not done."""
    return read_results(f"{folder(study, cell)}/evaluation") if cell.kind != "start" and is_done(study, cell) else None
