"""Results as a table: the same rows for the terminal, for a job's plain log and for the report."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from engine.evaluation.results import Errors, Results

COLUMNS = ("what", "persons", "MPJPE", "PA-MPJPE", "x", "y", "z", "MPVPE", "PA-MPVPE", "PA to baseline")
_PLAIN_WIDTH = 140


def result_rows(results: Results) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`, mm: the baseline (the better of its two forms, named), the networks, the release against its truth."""
    best = results.baseline.best if results.baseline else None
    rows = []
    if best:
        rows.append(_row(f"{best[0]} of the training sets", best[1], None))
    rows += [_row(network.name, network.errors, best[1] if best else None) for network in results.networks]
    if results.pseudo_gt:
        release = results.pseudo_gt
        rows.append(_row(f"release {release.release} v{release.version} against its truth", release.errors, None))
    return rows


def sequence_rows(results: Results) -> list[tuple[str, ...]]:
    """Rows (network, sequence, persons, MPJPE, PA-MPJPE), worst sequence of each network first."""
    return [
        (network.name, name, str(errors.persons), _mm(errors.mpjpe_mm), _mm(errors.pa_mpjpe_mm))
        for network in results.networks
        for name, errors in sorted(network.sequences.items(), key=lambda item: -item[1].pa_mpjpe_mm)
    ]


def notes(results: Results) -> list[str]:
    """What a reader of the table has to know, one sentence a line."""
    lines = [
        f"Test set {results.test_set}, body {results.body!r}. Millimetres, means over persons.",
        "The last column is the difference of PA-MPJPE to the baseline's.",
        "x, y and z are mean absolute errors along each axis after the alignment of PA-MPJPE.",
    ]
    for network in results.networks:
        if network.left_out:
            reasons = ", ".join(f"{n} ({reason})" for reason, n in sorted(network.left_out.items()))
            lines.append(f"{network.name}: persons not scored: {reasons}.")
    if results.baseline:
        b = results.baseline
        lines.append(
            f"The same answer for everybody, from {b.averaged_persons} training persons: PA-MPJPE {b.mean_pose.pa_mpjpe_mm:.1f} as "
            f"mean pose, {b.mean_skeleton.pa_mpjpe_mm:.1f} as mean skeleton; the lower is the baseline."
        )
    if results.pseudo_gt:
        p = results.pseudo_gt
        rho = "undefined" if p.score_rank_correlation is None else f"{p.score_rank_correlation:+.2f}"
        lines.append(
            f"Pseudo-GT: {p.joined} persons joined with their truth, {p.missing} with truth but no row, {p.unknown} rows without truth; "
            f"rank correlation of score with error {rho}."
        )
    return lines


def print_results(results: Results, console: Console | None = None) -> None:
    """The table and its notes on the terminal; in a log file at a fixed width."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    table = Table(*COLUMNS, title="Evaluation (mm)")
    for column in table.columns[1:]:
        column.justify = "right"
    table.columns[0].no_wrap = True
    for row in result_rows(results):
        table.add_row(*row)
    console.print(table)
    for line in notes(results):
        console.print(line, highlight=False, markup=False)


def _row(name: str, errors: Errors, baseline: Errors | None) -> tuple[str, ...]:
    against = "" if baseline is None else f"{100 * (errors.pa_mpjpe_mm / baseline.pa_mpjpe_mm - 1):+.1f} %"
    values = (errors.mpjpe_mm, errors.pa_mpjpe_mm, errors.x_mm, errors.y_mm, errors.z_mm, errors.mpvpe_mm, errors.pa_mpvpe_mm)
    return (name, str(errors.persons), *(_mm(v) for v in values), against)


def _mm(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
