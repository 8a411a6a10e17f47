"""Render the synthetic world: studio MoCap, in-the-wild 2D and in-the-wild 3D sets with known truth, in their raw layouts.

    python jobs/make_synthetic.py --out=WORLD [--seed=0] [--workers=2]

Submitted again, it finds the world complete and does nothing.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.config import run_job
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.world import write_world


def make_synthetic(config: SyntheticConfig) -> None:
    console = Console()
    began = time.monotonic()
    if console.is_terminal:
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
        with Progress(*columns, console=console) as bars:
            paths = write_world(config, _Bars(bars).update)
    else:
        paths = write_world(config, _Lines().update)
    print(f"synthetic world in {config.out} after {time.monotonic() - began:.0f} s: {', '.join(sorted(paths))}", flush=True)


class _Bars:
    """One bar a set on a terminal."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, int] = {}

    def update(self, name: str, done: int, total: int) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total)
        self.bars.update(self.tasks[name], completed=done)


class _Lines:
    """A plain line every fifth of a set, for logs."""

    def __init__(self) -> None:
        self.printed: dict[str, int] = {}

    def update(self, name: str, done: int, total: int) -> None:
        fifth = 5 * done // total
        if fifth > self.printed.get(name, 0):
            self.printed[name] = fifth
            print(f"synthetic {name}: {done}/{total} images", flush=True)


if __name__ == "__main__":
    run_job(SyntheticConfig, make_synthetic)
