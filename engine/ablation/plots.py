"""A table as a picture: a dot a seed, a bar at their mean, one panel a measure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def table_plot(title: str, rows: Sequence[tuple[str, dict[str, list[float]]]]) -> bytes | None:
    """PNG of the rows (label, values in mm by measure), first row on top; None if there is nothing to draw."""
    measures = list(dict.fromkeys(name for _, values in rows for name in values))
    if not rows or not measures:
        return None
    size = (4.2 + 3.2 * len(measures), 0.9 + 0.36 * len(rows))
    figure, panels = plt.subplots(1, len(measures), figsize=size, sharey=True, squeeze=False, layout="constrained")
    places = list(range(len(rows)))
    for panel, measure in zip(panels[0], measures, strict=True):
        for place, (_, values) in zip(places, rows, strict=True):
            found = values.get(measure, [])
            if found:
                panel.plot(found, [place] * len(found), "o", color="#2563eb", alpha=0.55, markersize=5)
                panel.plot([mean(found)] * 2, [place - 0.3, place + 0.3], color="#1f2937", linewidth=2)
        panel.set_xlabel(f"{measure}: PA-MPJPE, mm", fontsize=9)
        panel.grid(axis="x", color="#e5e7eb")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0][0].set_yticks(places, [label for label, _ in rows])
    panels[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()
