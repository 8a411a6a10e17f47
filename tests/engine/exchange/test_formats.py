"""Every format both ways against the second implementation, on few persons; `make formats` does it on thousands."""

from __future__ import annotations

from pathlib import Path

from benchmarks.formats import measure
from engine.exchange.registry import FORMATS

LIMIT_PX = LIMIT_MM = 0.1


def test_what_can_be_carried_is_carried(tmp_path: Path) -> None:
    rows = measure(30)
    both = {name for name in FORMATS if {"in", "out"} <= {row["direction"] for row in rows if row["format"] == name}}
    assert both == set(FORMATS)
    for row in rows:
        assert row["instances"] == 30, row
        assert row["worst_mm"] <= LIMIT_MM, row
        if "not carried" in row["note"]:
            assert row["worst_px"] > LIMIT_PX, row  # or the note is wrong
        elif "no camera" in row["note"]:
            assert row["worst_px"] is None, row
        else:
            assert row["worst_px"] <= LIMIT_PX, row
