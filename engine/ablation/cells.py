"""One cell of a study, from training to its errors. Every step finds what an interrupted run left and goes on from there."""

from __future__ import annotations

import torch
from rich.console import Console

from engine.ablation.study import Cell, StudyConfig, folder, release_name, release_store, training_config, variant_of
from engine.annotators.registry import resolve_annotator
from engine.config import merge, validate
from engine.errors import CheckpointMismatch, CommitConflict
from engine.evaluation.results import Results
from engine.evaluation.run import RESULTS_KEY, EvaluateConfig, NamedNetwork, NamedTestSet, ReleaseTruth, evaluate, read_results
from engine.fanout.config import AnnotateConfig
from engine.fanout.run import annotate
from engine.releases.store import Release, open_release
from engine.shards.reader import open_shard_set
from engine.storage import Store
from engine.training.checkpoint import latest, open_checkpoint
from engine.training.config import TrainConfig
from engine.training.run import require_same_run, train


def run_cell(study: StudyConfig, cell: Cell) -> None:
    """Train, and for f annotate, and measure. Raises what the stages raise."""
    torch.set_num_threads(1)
    if is_network(study, cell):
        train(_whole_config(study, cell))
    if cell.kind == "start":
        return
    if cell.kind == "f":
        annotate(annotation_config(study, cell))
    _measure(study, cell)


def is_network(study: StudyConfig, cell: Cell) -> bool:
    """Whether the cell is trained: all but the baselines among the annotators."""
    return variant_of(study, cell).annotator == "network"


def annotation_config(study: StudyConfig, cell: Cell) -> AnnotateConfig:
    """The annotation job of an f, or of a baseline in its place. ConfigError on a wrong setting."""
    variant, annotator = variant_of(study, cell), f"{folder(study, cell)}/run"
    values = {"shard_set": study.photographs, "out": release_store(study), "name": release_name(cell), "pool": study.pool.model_dump()}
    if variant.annotator == "network":
        return validate(AnnotateConfig, values | {"annotator": annotator}, f"the study's cell {cell}")
    source = Cell(kind="f", name=variant.weights_of, seed=cell.seed) if variant.weights_of else None
    start = {} if source is None else {{"smplify": "init", "eft": "base"}[variant.annotator]: f"{folder(study, source)}/run"}
    settings = {variant.annotator: merge(start, variant.settings)}
    return validate(AnnotateConfig, values | {"annotator": variant.annotator} | settings, f"the study's cell {cell}")


def is_done(study: StudyConfig, cell: Cell) -> bool:
    """Whether nothing is left to do for the cell.

    CheckpointMismatch or CommitConflict if what was done is of another config, release, test set or truth than the study names now.
    """
    if not is_network(study, cell):
        if not results_of(study, cell):
            return False
        config, release = annotation_config(study, cell), open_release(release_store(study), release_name(cell))
        identity, _ = resolve_annotator(config.annotator, config, config.device)
        if release.manifest.lineage["annotator"] != identity.digest:
            raise CommitConflict(f"{release.where}: was made by other settings, or from another network; give the study another out")
        _require_photographs(study, release)
        _measure(study, cell)
        return True
    checkpoint = latest(Store(f"{folder(study, cell)}/run"))
    if checkpoint is None or not checkpoint.manifest.finished or not (cell.kind == "start" or results_of(study, cell)):
        return False
    require_same_run(checkpoint, _whole_config(study, cell))
    if name := variant_of(study, cell).f:
        teacher = open_release(release_store(study), release_name(Cell(kind="f", name=name, seed=cell.seed)))
        if teacher.digest not in checkpoint.manifest.training_sets.values():
            raise CheckpointMismatch(f"{folder(study, cell)}: was not trained on {teacher.where}, which is newer; remove the folder")
    if cell.kind == "f":
        _require_photographs(study, open_release(release_store(study), release_name(cell)))
    if cell.kind != "start":
        _measure(study, cell)
    return True


def _require_photographs(study: StudyConfig, release: Release) -> None:
    if release.manifest.lineage["shard_set"] != open_shard_set(study.photographs).digest:
        raise CommitConflict(f"{release.where}: is of other photographs than {study.photographs}; give the study another out")


def results_of(study: StudyConfig, cell: Cell) -> Results | None:
    """The cell's errors; None while there are none, and for what others start from."""
    url = f"{folder(study, cell)}/evaluation"
    return read_results(url) if cell.kind != "start" and Store(url).exists(RESULTS_KEY) else None


def _measure(study: StudyConfig, cell: Cell) -> None:
    """Write the cell's errors; if they are there, CommitConflict unless they are of these inputs."""
    run, name = f"{folder(study, cell)}/run", release_name(cell)
    release = None
    if cell.kind == "f":
        version = open_release(release_store(study), name).manifest.version
        release = ReleaseTruth(root=release_store(study), name=name, version=version, truth=study.truth)
    networks = (NamedNetwork(name=cell.kind, checkpoint=run),) if is_network(study, cell) else ()
    out, body = f"{folder(study, cell)}/evaluation", training_config(study, cell).body
    test_set = NamedTestSet(url=study.test_set)
    evaluate(EvaluateConfig(out=out, networks=networks, test_sets=(test_set,), release=release, body=body, tables=()), Console(quiet=True))


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
