"""Which cells a study may start, and what a failure costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ablation.run import Progress, run_study
from engine.ablation.study import Cell, plan_cells
from engine.errors import ConfigError, EngineError
from tests.engine.ablation.test_study import make_study


def _cell(kind: str, name: str, seed: int = 3) -> Cell:
    return Cell(kind=kind, name=name, seed=seed)


def test_a_failure_costs_its_followers_and_nothing_else() -> None:
    progress = Progress(plan_cells(make_study()))
    assert [str(c) for c in progress.ready()] == ["f/full/seed3", "f/bare/seed3", "f/full/seed4", "f/bare/seed4", "start/big/seed3"]
    progress.running.add(_cell("f", "bare"))
    progress.failed[_cell("f", "full")] = "it broke"
    progress.done.add(_cell("start", "big"))
    assert [str(c) for c in progress.ready()] == ["f/full/seed4", "f/bare/seed4", "f/from_big/seed3"]
    progress.running.clear()
    progress.done |= {c for c in progress.plan if c not in progress.failed and progress.plan[c] != (_cell("f", "full"),)}
    assert progress.left_out() == [_cell("g", "g")] and progress.ready() == []


def test_failed_networks_are_named_with_their_reason(tmp_path: Path, ray_cluster: None) -> None:
    study = make_study(out=str(tmp_path / "s"))
    with pytest.raises(EngineError, match=r"5 networks failed, 3 wait for them: .*f/full/seed3: .*/m: no shard set"):
        run_study(study)


def test_a_wrong_key_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    study = make_study(out=str(tmp_path / "s"), estimators={"g": {"f": "full", "change": {"lr": 1}}})
    with pytest.raises(ConfigError, match=r"g/g/seed3.*unknown key 'lr'"):
        run_study(study)
