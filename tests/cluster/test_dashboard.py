"""The Grafana dashboard asks for metrics that exist, and its panels can be placed."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from engine.fanout.metrics import COUNTERS, GAUGES

REPO = Path(__file__).resolve().parents[2]
BOARD = json.loads((REPO / "cluster/grafana/annotation.json").read_text())
OURS = {f"{name}_total": {"release", *tags} for name, (_, tags) in COUNTERS.items()} | {
    name: {"release", *tags} for name, (_, tags) in GAUGES.items()
}
"""Metrics, with their tags, by the names under which Ray exports them less the `ray_` in front (test_annotate_on_nodes.py looks)."""
RAYS = set(
    re.findall(r"ray_\w+", (Path(ray.__file__).parent / "dashboard/modules/metrics/dashboards/default_dashboard_panels.py").read_text())
)
"""What Ray's own dashboards of this version ask for."""

Board = dict[str, Any]


def expressions(board: Board) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def check_metrics(board: Board) -> None:
    for expr in [*expressions(board), *(v["definition"] for v in board["templating"]["list"] if "definition" in v)]:
        names = re.findall(r"\bray_\w+", expr)
        assert names, f"{expr}: no metric"
        for name in names:
            assert name.removeprefix("ray_") in OURS or name in RAYS, f"{expr}: nobody exports {name}"


def check_tags(board: Board) -> None:
    """Our metrics are of the chosen release, and are grouped by tags that they have."""
    for expr in expressions(board):
        for name in re.findall(r"\bray_(pseudogt_\w+)", expr):
            assert f'ray_{name}{{release=~"$release"}}' in expr, f"{expr}: {name} of all releases"
            for group in re.findall(r"by \(([\w, ]+)\)", expr):
                assert set(group.split(", ")) <= OURS[name], f"{expr}: {name} has no tag {group}"


def check_panels(board: Board) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)), "two panels of one id"
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24, f"{panel['title']}: the grid has 24 columns"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)), f"{panel['title']}: two targets of one name"
    for a, b in itertools.combinations(board["panels"], 2):
        p, q = a["gridPos"], b["gridPos"]
        apart = p["x"] + p["w"] <= q["x"] or q["x"] + q["w"] <= p["x"] or p["y"] + p["h"] <= q["y"] or q["y"] + q["h"] <= p["y"]
        assert apart, f"{a['title']} and {b['title']} overlap"


def check_datasource(board: Board) -> None:
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for panel in board["panels"]:
        for thing in (panel, *panel["targets"]):
            assert thing["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, f"{panel['title']}: a data source of its own"


CHECKS = [check_metrics, check_tags, check_panels, check_datasource]


@pytest.mark.parametrize("check", CHECKS)
def test_the_dashboard(check: Callable[[Board], None]) -> None:
    check(BOARD)


def test_every_metric_of_ours_is_shown() -> None:
    shown = {name for expr in expressions(BOARD) for name in re.findall(r"\bray_(pseudogt_\w+)", expr)}
    assert shown == set(OURS)


def rename(board: Board) -> None:
    board["panels"][6]["targets"][0]["expr"] = "sum(ray_pseudogt_speed)"


def forget_release(board: Board) -> None:
    board["panels"][0]["targets"][0]["expr"] = "sum(ray_pseudogt_instances_per_second)"


def group_by_nothing(board: Board) -> None:
    board["panels"][0]["targets"][0]["expr"] = 'sum by (stage) (ray_pseudogt_workers{release=~"$release"})'


def repeat_id(board: Board) -> None:
    board["panels"][1]["id"] = board["panels"][0]["id"]


def overlap(board: Board) -> None:
    board["panels"][1]["gridPos"]["x"] -= 1


def hard_code(board: Board) -> None:
    board["panels"][3]["datasource"] = {"type": "prometheus", "uid": "abc"}


DAMAGES = [
    (check_metrics, rename),
    (check_tags, forget_release),
    (check_tags, group_by_nothing),
    (check_panels, repeat_id),
    (check_panels, overlap),
    (check_datasource, hard_code),
]


@pytest.mark.parametrize(("check", "damage"), DAMAGES, ids=lambda f: f.__name__)
def test_the_checks_bite(check: Callable[[Board], None], damage: Callable[[Board], None]) -> None:
    board = copy.deepcopy(BOARD)
    damage(board)
    with pytest.raises(AssertionError):
        check(board)
