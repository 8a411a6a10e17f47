"""One annotation job as a process, watched from outside."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
PATIENCE_S = 900
"""No job here takes that long; one that does is dead."""


class Submission:
    """One annotation job as a process: `pid`, what it printed, which fault points it met."""

    def __init__(self, process: Any, log: Path, fired: Path) -> None:
        self.process, self.log, self._fired = process, log, fired
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code. AssertionError, and the job is killed, when it does not end."""
        if not wait_until(lambda: self.poll() is not None, timeout_s):
            self.kill()
            raise AssertionError(f"the job did not end within {timeout_s} s:\n{self.output[-2000:]}")
        return self.poll()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            wait_until(lambda: self.poll() is not None, 30)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def message(self) -> str:
        """The job's last words: the line of its error."""
        lines = [line for line in self.output.splitlines() if line.startswith("annotate.py:")]
        return lines[-1] if lines else (self.output.strip().splitlines() or [""])[-1]

    def fired(self, point: str = "") -> list[dict[str, Any]]:
        """Firings of a fault point over all processes of the job: detail, pid, time."""
        found = []
        for path in sorted(self._fired.glob(f"{point}*")):
            try:
                found.append(json.loads(path.read_text()))
            except ValueError:  # being written
                continue
        return found


def drive(arguments: list[str], variables: dict[str, str], log: str, driver: dict[str, Any]) -> None:
    """A job in a forked process: the same entry point, with the environment of this submission."""
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [str(REPO / "jobs/annotate.py"), *arguments]
    importlib.reload(importlib.import_module("engine.faults"))
    differ(**driver)
    run = importlib.import_module("engine.fanout.run")
    importlib.import_module("engine.config").run_job(run.AnnotateConfig, run.annotate, arguments)


def differ(clock_s: float = 0, constants: dict[str, Any] | None = None) -> None:
    """Make this driver one whose clock is so many seconds off, or one of another version of the code ('module:constant' -> value)."""
    if clock_s:

        class Skewed(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.now(tz) + timedelta(seconds=clock_s)

        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("engine.") and getattr(module, "datetime", None) is datetime:
                module.datetime = Skewed
    for name, value in (constants or {}).items():
        module, constant = name.split(":")
        setattr(importlib.import_module(module), constant, value)


def wait_until(reached: Callable[[], bool], timeout_s: float, every_s: float = 0.02) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
