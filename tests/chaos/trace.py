"""Watches a training run from inside its workers, and kills them: who was trained on at which step, written down as it happens.

`traced_worker` is what Ray Train runs in place of `run_worker`: it puts a loader in the loop's hands that hands on the real loader's
batches, and then runs it. What the loader writes goes to the folder `trace` beside the run's `cache_dir`:
`rank-R.jsonl` (a line a batch, as the loop takes it), `plan.json` (who is to be killed when) and `kill-N.json` (who was).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine.training.loop as loop
import engine.training.run as run
from engine.loading.batches import Batch, BatchStream
from engine.storage import Store
from engine.training.checkpoint import latest

RUNTIME_ENV = {"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}}


class TracedStream(BatchStream):
    """The loader, with a log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = Path(self.config.cache_dir).parent / "trace"
        self.plan: dict[str, Any] = json.loads((self.folder / "plan.json").read_text())

    def run(self, start: int, stop: int) -> Iterator[Batch]:
        for step, batch in enumerate(super().run(start, stop), start):
            line = {"step": step, "rank": self.rank, "world_size": self.world_size, "pid": os.getpid(), "ids": batch["ids"]}
            with open(self.folder / f"rank-{self.rank}.jsonl", "a") as f:
                f.write(json.dumps(line) + "\n")
            self._obey(step)
            time.sleep(self.plan.get("pause_s", 0))
            yield batch

    def _obey(self, step: int) -> None:
        """Start the clock of the first kill that is still to come, if it is meant for this rank and this step is reached."""
        for number, kill in enumerate(self.plan["kills"]):
            if not (self.folder / f"kill-{number}.json").exists():
                if kill["rank"] == self.rank and step >= kill["step"]:
                    threading.Timer(kill["delay_s"], self._die, (number, step)).start()
                return

    def _die(self, number: int, step: int) -> None:
        found = latest(Store(self.plan["run"]))
        committed = found.manifest.step if found else 0
        (self.folder / f"kill-{number}.json").write_text(json.dumps({"rank": self.rank, "step": step, "committed": committed}))
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Put the traced loader in the loop's hands."""
    loop.BatchStream = TracedStream


def traced_worker(settings: dict[str, Any]) -> str | None:
    """`run_worker`, watched."""
    install()
    return run.run_worker(settings)


def trace_workers() -> None:
    """Have trainings that this process starts use `traced_worker`. Workers must find this module: `RUNTIME_ENV` for `ray.init`."""
    run.run_worker = traced_worker


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Every batch taken by every rank, in the order each rank took them."""
    return [json.loads(line) for path in sorted(folder.glob("rank-*.jsonl")) for line in path.read_text().splitlines()]
