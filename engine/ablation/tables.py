"""A study's tables: errors over seeds, as Markdown beside the paper's numbers, as CSV, and as plots.

Errors are PA-MPJPE in millimetres, with the x, y and z parts after alignment. A difference is taken seed by seed against the table's
first row, so what a seed does to both rows alike drops out.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from statistics import mean, stdev

from engine.ablation.cells import results_of
from engine.ablation.plots import table_plot
from engine.ablation.study import Cell, RowConfig, StudyConfig, TableConfig
from engine.evaluation.results import Errors
from engine.storage import Store

AXES = ("x_mm", "y_mm", "z_mm")


@dataclass(frozen=True)
class RowResult:
    """A row's errors by seed; a seed that is not done is absent."""

    row: RowConfig
    pseudo_gt: dict[int, Errors]
    """Of f's release against the photographs' truth."""
    f_test: dict[int, Errors]
    """Of f on the test set; empty for a baseline, which is no network."""
    g_test: dict[int, Errors]
    """Of g on the test set; empty without a g."""


@dataclass(frozen=True)
class TableResult:
    table: TableConfig
    rows: tuple[RowResult, ...]


StudyResult = tuple[TableResult, ...]


def collect(study: StudyConfig) -> StudyResult:
    """What is done so far, table by table."""
    return tuple(TableResult(table, tuple(_row(study, table, row) for row in table.rows)) for table in study.tables)


def write_tables(study: StudyConfig, result: StudyResult) -> None:
    """`tables.md`, `cells.csv` and `<table>.png` in the study's folder; what lay there before is replaced."""
    store = Store(study.out)
    files = {"tables.md": markdown(result).encode(), "cells.csv": cells_csv(result).encode()}
    for table in result:
        if (png := table_plot(table.table.title, plotted(table))) is not None:
            files[f"{table.table.name}.png"] = png
    for name, data in files.items():
        if store.exists(name):
            store.delete(name)
        if data:
            store.create(name, data)


def markdown(result: StudyResult) -> str:
    """Every table with a done row, one after the other."""
    return "\n".join(_markdown_table(table) for table in result if any(row.pseudo_gt for row in table.rows))


def cells_csv(result: StudyResult) -> str:
    """One line a row, seed and measure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", "row", "seed", "measure", "persons", "pa_mpjpe_mm", *AXES, "mpjpe_mm"))
    for table in result:
        for row in table.rows:
            for measure in ("pseudo_gt", "f_test", "g_test"):
                for seed, errors in sorted(getattr(row, measure).items()):
                    values = (getattr(errors, name) for name in ("persons", "pa_mpjpe_mm", *AXES, "mpjpe_mm"))
                    writer.writerow((table.table.name, row.row.label, seed, measure, *values))
    return out.getvalue()


def plotted(table: TableResult) -> list[tuple[str, dict[str, list[float]]]]:
    """Label and PA-MPJPE by measure, one value a seed, of the rows that have any."""
    names = {"pseudo_gt": "pseudo-GT of f", "g_test": "g on the test set"}
    rows = []
    for row in table.rows:
        values = {title: [e.pa_mpjpe_mm for _, e in sorted(getattr(row, m).items())] for m, title in names.items() if getattr(row, m)}
        if values:
            rows.append((row.row.label, values))
    return rows


def spread(values: list[float], digits: int = 1) -> str:
    """Mean, with the sample standard deviation where there is more than one value."""
    if not values:
        return "-"
    middle = f"{mean(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ± {stdev(values):.{digits}f}"


def difference(mine: dict[int, Errors], reference: dict[int, Errors], name: str = "pa_mpjpe_mm") -> list[float]:
    """Mine less the reference, of the seeds both have."""
    return [getattr(mine[seed], name) - getattr(reference[seed], name) for seed in sorted(mine.keys() & reference.keys())]


def _row(study: StudyConfig, table: TableConfig, row: RowConfig) -> RowResult:
    f_name, seeds = study.annotator_of(row), study.seeds_of(table)
    of_f = {seed: r for seed in seeds if (r := results_of(study, Cell(kind="f", name=f_name, seed=seed))) is not None}
    of_g = {seed: r for seed in seeds if row.g and (r := results_of(study, Cell(kind="g", name=row.g, seed=seed))) is not None}
    return RowResult(
        row,
        {seed: r.pseudo_gt.errors for seed, r in of_f.items() if r.pseudo_gt is not None},
        {seed: r.test_sets[0].networks[0].errors for seed, r in of_f.items() if r.test_sets[0].networks},
        {seed: r.test_sets[0].networks[0].errors for seed, r in of_g.items()},
    )


def _markdown_table(result: TableResult) -> str:
    table, reference = result.table, result.rows[0]
    with_g = any(row.g_test for row in result.rows)
    head = ["", "pseudo-GT", "(x / y / z)", "Δ", "f on test"] + (["g on test", "(x / y / z)", "Δ"] if with_g else []) + ["paper"]
    lines = [f"### {table.title}", "", _line(head), _line(["---"] * len(head))]
    for row in result.rows:
        cells = [row.row.label, _errors(row.pseudo_gt), _axes(row.pseudo_gt), _delta(row.pseudo_gt, reference.pseudo_gt, row is reference)]
        cells.append(_errors(row.f_test))
        if with_g:
            cells += [_errors(row.g_test), _axes(row.g_test), _delta(row.g_test, reference.g_test, row is reference)]
        lines.append(_line([*cells, row.row.paper or "-"]))
    seeds = max(len(row.pseudo_gt) for row in result.rows)
    note = f"{seeds} seed{'s' if seeds > 1 else ''}. " + (f"Paper: {table.paper}." if table.paper else "")
    return "\n".join([*lines, "", note.strip(), ""])


def _errors(errors: dict[int, Errors]) -> str:
    return spread([e.pa_mpjpe_mm for e in errors.values()])


def _axes(errors: dict[int, Errors]) -> str:
    return " / ".join(f"{mean(getattr(e, axis) for e in errors.values()):.1f}" for axis in AXES) if errors else "-"


def _delta(mine: dict[int, Errors], reference: dict[int, Errors], is_reference: bool) -> str:
    values = [] if is_reference else difference(mine, reference)
    return "-" if not values else (f"{mean(values):+.1f}" if len(values) == 1 else f"{mean(values):+.1f} ± {stdev(values):.1f}")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
