"""Run the benchmarks, print one table and write bench.json: `python -m benchmarks [NAME ...]`, names of modules of this package.

Each runs in a process of its own, one after the other, so that threads, pinning and clusters of one never touch the next.
bench.json is a list of {name, ours, reference, ratio, unit}; `ratio` above 1 says that ours is better.
"""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console
from rich.table import Table

BENCHMARKS = ("ingest", "body_joints", "fitting", "annotators", "baselines", "train_loop", "loading", "annotate", "fanout_costs")
BENCHMARKS += ("growth", "releases", "resubmit")
OUT = "bench.json"


def main(names: list[str]) -> None:
    """Measure these benchmarks, or all."""
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        raise SystemExit(f"benchmarks: no benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    rows: list[dict] = []
    for name in names or BENCHMARKS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rows += process.submit(measured, name).result()
        with open(OUT, "w") as file:
            json.dump(rows, file, indent=1)
    table = Table("benchmark", "ours", "reference", "times better", "unit")
    for row in rows:
        table.add_row(row["name"], f"{row['ours']:.4g}", f"{row['reference']:.4g}", f"{row['ratio']:.2f}", row["unit"])
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def measured(name: str) -> list[dict]:
    """Rows of one benchmark, measured here."""
    return importlib.import_module(f"benchmarks.{name}").measure()
