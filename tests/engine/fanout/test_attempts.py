"""The ledger counts deaths: records that nobody came back to delete."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from engine.fanout.attempts import CAREFUL_ATTEMPTS, AttemptLedger
from engine.storage import Store


def _ledger(tmp_path: Path, submission: str = "a") -> AttemptLedger:
    return AttemptLedger(Store(str(tmp_path)), "0" * 64, submission, max_attempts=2)


def test_an_attempt_that_ends_leaves_nothing(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    for _ in range(5):
        ledger.end(ledger.begin(7))
    assert ledger.store.list() == []


def test_deaths_use_up_the_attempts_of_their_shard_and_submission_only(tmp_path: Path) -> None:
    for _ in range(2):
        code = f"""
import os, signal
from engine.fanout.attempts import AttemptLedger
from engine.storage import Store
AttemptLedger(Store({str(tmp_path)!r}), "0" * 64, "a", 2).begin(7)
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    careful = [_ledger(tmp_path).begin(7) for _ in range(CAREFUL_ATTEMPTS)]
    assert all(attempt is not None and attempt.careful for attempt in careful), "the third time on, what kills is searched for"
    assert _ledger(tmp_path).begin(7) is None
    assert _ledger(tmp_path).begin(8) is not None
    assert _ledger(tmp_path, "b").begin(7) is not None
    assert b'"pid":' in Store(str(tmp_path)).get(f"runs/{'0' * 64}/attempts/a/000007-1.json")
