"""Curves and histograms as PNG bytes, drawn by matplotlib without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

_NOT_LOSSES = {"step", "epoch", "lr", "samples_per_s", "wait_share", "grad_norm"}
_INK, _GRID = "#1f2937", "#e5e7eb"
_STYLE = {
    "font.size": 9,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GRID,
    "axes.axisbelow": True,
}


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes | None:
    """One panel a loss term over training steps, one line a run; the total first. None if no run has logged anything."""
    rows = [row for history in histories.values() for row in history]
    found = {key for row in rows for key, value in row.items() if key not in _NOT_LOSSES and _is_number(value)}
    terms = sorted(found, key=lambda term: (term != "loss", term))
    if not terms:
        return None
    return _panels(terms, lambda axes, term: _draw_term(axes, term, histories))


def histograms(columns: Mapping[str, np.ndarray], ranges: Mapping[str, tuple[float, float]] | None = None) -> bytes | None:
    """One panel a column: finite values in 40 bins, with the median as a line, and its count. None if nothing is finite.

    A column without a range goes from its least value to its 99.5th percentile.
    """
    finite = {name: values[np.isfinite(values)] for name, values in ((n, np.asarray(v, np.float64)) for n, v in columns.items())}
    finite = {name: values for name, values in finite.items() if len(values)}
    if not finite:
        return None

    def draw(axes: plt.Axes, name: str) -> None:
        values = finite[name]
        low, high = (ranges or {}).get(name, (values.min(), np.percentile(values, 99.5)))
        axes.hist(values, bins=40, range=(low, high if high > low else low + 1), color="#60a5fa")
        axes.axvline(np.median(values), color="#ea580c", linewidth=1.2)
        axes.set_title(f"{name.replace('_', ' ')}: median {np.median(values):.3g}, {len(values)} persons", fontsize=9)

    return _panels(list(finite), draw)


def _draw_term(axes: plt.Axes, term: str, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for i, (run, rows) in enumerate(histories.items()):
        points = [(row["step"], row[term]) for row in rows if _is_number(row.get(term))]
        if any(value for _, value in points):  # a term that is 0 throughout does not exist in this run
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, label=run, color=f"C{i % 10}", linewidth=1.3, marker="." if len(points) < 3 else None)
    axes.set_title("total loss" if term == "loss" else term.replace("_", " "), fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step", fontsize=8)
    if axes.lines and (term == "loss" or len(histories) > 1):
        axes.legend(fontsize=8, frameon=False)


def _panels(names: Sequence[str], draw: Any) -> bytes:
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(4.0 * columns, 2.6 * rows), squeeze=False, layout="constrained")
        for panel, name in zip(axes.flat, names, strict=False):
            draw(panel, name)
        for panel in axes.flat[len(names) :]:
            panel.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        plt.close(figure)
    return buffer.getvalue()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
