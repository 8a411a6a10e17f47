"""Results as a table: the same rows for the terminal, for a job's plain log and for the report."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from engine.evaluation.results import Errors, ProtocolResult, Results

MEASURES = (
    ("mpjpe_mm", "MPJPE"),
    ("pa_mpjpe_mm", "PA-MPJPE"),
    ("x_mm", "x"),
    ("y_mm", "y"),
    ("z_mm", "z"),
    ("mpvpe_mm", "MPVPE"),
    ("pa_mpvpe_mm", "PA-MPVPE"),
    ("pck_percent", "3DPCK"),
    ("auc_percent", "AUC"),
    ("pck_matched_percent", "3DPCK matched"),
    ("auc_matched_percent", "AUC matched"),
)
"""Fields of `Errors` and what tables call them, in the order of columns."""
_PLAIN_WIDTH = 140


def result_table(results: Results, test_set: ProtocolResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a test set: the baseline (the better of its two forms, named), the networks, and, with the first test set, the
    release against its truth. A measure that no row has is no column."""
    best = test_set.baseline.best if test_set.baseline else None
    found = [(f"{best[0]} of the training sets", best[1], None)] if best else []
    found += [(network.name, network.errors, best[1] if best else None) for network in test_set.networks]
    if (release := results.pseudo_gt) and test_set == results.test_sets[0]:
        found.append((f"release {release.release} v{release.version} against its truth", release.errors, None))
    shown = [(field, title) for field, title in MEASURES if any(getattr(errors, field) is not None for _, errors, _ in found)]
    columns = ("what", "persons", *(title for _, title in shown), "PA to baseline")
    rows = [
        (name, str(errors.persons), *(figure(getattr(errors, field)) for field, _ in shown), _against(errors, baseline))
        for name, errors, baseline in found
    ]
    return columns, rows


def sequence_rows(test_set: ProtocolResult) -> list[tuple[str, ...]]:
    """Rows (network, sequence, persons, MPJPE, PA-MPJPE), worst sequence of each network first."""
    return [
        (network.name, name, str(errors.persons), figure(errors.mpjpe_mm), figure(errors.pa_mpjpe_mm))
        for network in test_set.networks
        for name, errors in sorted(network.sequences.items(), key=lambda item: -item[1].pa_mpjpe_mm)
    ]


def figure(value: float | None, digits: int = 1) -> str:
    """A number as tables print it; a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def notes(results: Results, test_set: ProtocolResult) -> list[str]:
    """What a reader of a test set's table has to know, one sentence a line."""
    lines = [
        f"Test set {test_set.title}, body {results.body!r}. Millimetres, means over persons.",
        f"Protocol {test_set.protocol}: {test_set.details}.",
        "The last column is the difference of PA-MPJPE to the baseline's.",
        "x, y and z are mean absolute errors along each axis after the alignment of PA-MPJPE.",
    ]
    for network in test_set.networks:
        if network.left_out:
            reasons = ", ".join(f"{n} ({reason})" for reason, n in sorted(network.left_out.items()))
            lines.append(f"{network.name}: persons not scored: {reasons}.")
    if b := test_set.baseline:
        skeleton = f", {b.mean_skeleton.pa_mpjpe_mm:.1f} as mean skeleton; the lower is the baseline" if b.mean_skeleton else ""
        lines.append(
            f"The same answer for everybody, from {b.averaged_persons} training persons: PA-MPJPE {b.mean_pose.pa_mpjpe_mm:.1f} as "
            f"mean pose{skeleton}."
        )
    if (p := results.pseudo_gt) and test_set == results.test_sets[0]:
        rho = "undefined" if p.score_rank_correlation is None else f"{p.score_rank_correlation:+.2f}"
        lines.append(
            f"Pseudo-GT: {p.joined} persons joined with their truth, {p.missing} with truth but no row, {p.unknown} rows without truth; "
            f"rank correlation of score with error {rho}."
        )
    return lines


def print_results(results: Results, console: Console | None = None) -> None:
    """Each test set's table and its notes on the terminal; in a log file at a fixed width."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    for test_set in results.test_sets:
        columns, rows = result_table(results, test_set)
        title = "Evaluation (mm)" if len(results.test_sets) == 1 else f"Evaluation on {test_set.title} by {test_set.protocol} (mm, %)"
        table = Table(*columns, title=title)
        for column in table.columns[1:]:
            column.justify = "right"
        table.columns[0].no_wrap = True
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for line in notes(results, test_set):
            console.print(line, highlight=False, markup=False)


def _against(errors: Errors, baseline: Errors | None) -> str:
    return "" if baseline is None else f"{100 * (errors.pa_mpjpe_mm / baseline.pa_mpjpe_mm - 1):+.1f} %"
