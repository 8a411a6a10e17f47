"""Runs a study's cells on Ray, a few at a time, and writes its tables. Submitted again, it runs what is missing.

A cell is one Ray task that holds no resources itself; its training and annotation ask Ray for theirs. A cell that fails is
reported and its followers are left out; everything else goes on.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field

import ray

from engine.ablation.cells import annotation_config, is_done, results_of, run_cell
from engine.ablation.study import Cell, StudyConfig, plan_cells, training_config
from engine.ablation.tables import StudyResult, collect, write_tables
from engine.errors import EngineError


@dataclass
class Progress:
    """What has been done of a plan, and what became of it."""

    plan: dict[Cell, tuple[Cell, ...]]
    done: set[Cell] = field(default_factory=set)
    failed: dict[Cell, str] = field(default_factory=dict)
    running: set[Cell] = field(default_factory=set)

    def ready(self) -> list[Cell]:
        """Cells that could start now, first planned first."""
        settled = self.done | set(self.failed) | self.running
        return [cell for cell, needs in self.plan.items() if cell not in settled and all(n in self.done for n in needs)]

    def left_out(self) -> list[Cell]:
        """Cells that never could start, because one they need failed."""
        return [cell for cell in self.plan if cell not in self.done and cell not in self.failed and cell not in self.running]


def run_study(study: StudyConfig) -> StudyResult:
    """Run every missing cell and write the tables (`tables.md`, `cells.csv`, plots) into the study's folder.

    Raises EngineError at the end if cells failed; the tables are written all the same.
    """
    plan = plan_cells(study)
    for cell in plan:
        training_config(study, cell)  # a wrong key is told before the first hour of training
        if cell.kind == "f":
            annotation_config(study, cell)
    progress = Progress(plan, {cell for cell in plan if is_done(study, cell)})
    print(f"study: {len(plan)} networks, {len(progress.done)} of them done before, {study.parallel} at a time", flush=True)
    if len(progress.done) < len(plan):
        _run_missing(study, progress)
    result = collect(study)
    write_tables(study, result)
    if progress.failed:
        told = "; ".join(f"{cell}: {message}" for cell, message in progress.failed.items())
        raise EngineError(f"study {study.out}: {len(progress.failed)} networks failed, {len(progress.left_out())} wait for them: {told}")
    return result


def _run_missing(study: StudyConfig, progress: Progress) -> None:
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS", "local"), log_to_driver=False, logging_level=logging.WARNING)
    task = ray.remote(num_cpus=0, max_retries=0)(run_cell)
    waiting: dict[ray.ObjectRef, tuple[Cell, float]] = {}
    began, first = time.monotonic(), len(progress.done)
    while True:
        for cell in progress.ready()[: study.parallel - len(waiting)]:
            progress.running.add(cell)
            waiting[task.remote(study, cell)] = (cell, time.monotonic())
        if not waiting:
            return
        finished, _ = ray.wait(list(waiting), num_returns=1)
        cell, since = waiting.pop(finished[0])
        progress.running.discard(cell)
        try:
            ray.get(finished[0])
            progress.done.add(cell)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            progress.failed[cell] = str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__
        _tell(study, progress, cell, time.monotonic() - since, (time.monotonic() - began) / max(1, len(progress.done) - first))


def _tell(study: StudyConfig, progress: Progress, cell: Cell, seconds: float, seconds_each: float) -> None:
    outcome = f"FAILED: {progress.failed[cell]}" if cell in progress.failed else "done"
    results = results_of(study, cell) if cell in progress.done else None
    if results is not None:
        found = [f"pseudo-GT {results.pseudo_gt.errors.pa_mpjpe_mm:.1f} mm"] if results.pseudo_gt else []
        found += [f"test {network.errors.pa_mpjpe_mm:.1f} mm" for network in results.test_sets[0].networks]
        outcome = f"{', '.join(found)} (PA-MPJPE)"
    left = len(progress.plan) - len(progress.done) - len(progress.failed)
    done, minutes = f"[{len(progress.done)}/{len(progress.plan)}]", left * seconds_each / 60
    print(f"{done} {cell}: {outcome}; {seconds:.0f} s; about {minutes:.0f} min left", flush=True)
