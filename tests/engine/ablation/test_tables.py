"""Tables of a study: means, spreads, paired differences."""

from __future__ import annotations

import csv
import io

import numpy as np

from engine.ablation.plots import table_plot
from engine.ablation.study import RowConfig, TableConfig
from engine.ablation.tables import RowResult, TableResult, cells_csv, difference, markdown, plotted, spread
from engine.evaluation.results import Errors

LABELS = ("ours", "without")


def errors(value: float) -> Errors:
    return Errors(persons=5, mpjpe_mm=2 * value, pa_mpjpe_mm=value, x_mm=value / 4, y_mm=value / 3, z_mm=value / 2)


def make_table() -> TableResult:
    pseudo = ({0: 100.0, 1: 110.0, 2: 90.0}, {0: 103.0, 1: 114.0, 2: 95.0})
    rows = tuple(RowConfig(label=label, f=label, g="g", paper=paper) for label, paper in zip(LABELS, ("47.5", "48.8"), strict=True))
    results = [
        RowResult(row, {k: errors(v) for k, v in of.items()}, {k: errors(v + 1) for k, v in of.items()}, {0: errors(80.0)})
        for row, of in zip(rows, pseudo, strict=True)
    ]
    return TableResult(TableConfig(name="t", title="Title", paper="mm", seeds=3, rows=rows), tuple(results))


def test_spread_is_mean_and_sample_deviation() -> None:
    values = [100.0, 110.0, 90.0]
    assert spread(values) == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" and spread([3.0]) == "3.0" and spread([]) == "-"


def test_differences_are_paired_by_seed() -> None:
    table = make_table()
    assert difference(table.rows[1].pseudo_gt, table.rows[0].pseudo_gt) == [3.0, 4.0, 5.0]
    assert difference({7: errors(1.0)}, table.rows[0].pseudo_gt) == []


def test_markdown_says_every_number_beside_the_papers() -> None:
    lines = markdown((make_table(),)).splitlines()
    ours, without = (next(line for line in lines if line.startswith(f"| {label} ")) for label in LABELS)
    assert "| 100.0 ± 10.0 |" in ours and ours.endswith("| 47.5 |")
    assert "| +4.0 ± 1.0 |" in without and "| 104.0 ± 9.5 |" in without and without.endswith("| 48.8 |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_csv_holds_one_line_a_seed_and_measure() -> None:
    rows = list(csv.DictReader(io.StringIO(cells_csv((make_table(),)))))
    assert len(rows) == 2 * (3 + 3 + 1)
    found = [r for r in rows if (r["row"], r["measure"], r["seed"]) == ("without", "pseudo_gt", "1")]
    assert [float(found[0][k]) for k in ("pa_mpjpe_mm", "z_mm")] == [114.0, 57.0]


def test_plot_is_a_png_and_nothing_without_values() -> None:
    assert table_plot("Title", plotted(make_table())).startswith(b"\x89PNG")
    assert table_plot("Title", []) is None
