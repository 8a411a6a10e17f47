"""All faults of annotation: `python -m tests.chaos.annotation [R1 R2 ...] [--small]`, a part of `make chaos`.

Prints one line a fault and writes `chaos.json` into the current folder. Exit code 1 when something was lost or duplicated, or a fault was
not survived. The whole suite takes about an hour on two cores; `--small` is what the tests run, in some minutes for all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.chaos.annotation.arena import Arena
from tests.chaos.annotation.faults_driver import r2_driver_killed, r10_asked_to_go, r15_not_alone
from tests.chaos.annotation.faults_input import r5_damaged_shards, r6_bad_images
from tests.chaos.annotation.faults_publishers import r3_publishers
from tests.chaos.annotation.faults_resubmission import r13_finished, r14_changed
from tests.chaos.annotation.faults_store import r4_bad_store, r8_cut_short, r9_full_or_read_only
from tests.chaos.annotation.faults_workers import r1_workers_killed, r7_deadly_images
from tests.chaos.annotation.row import Row

Scenario = Callable[[Arena], Iterable[Row]]
SCENARIOS: dict[str, Scenario] = {
    "R1": r1_workers_killed,
    "R2": r2_driver_killed,
    "R3": r3_publishers,
    "R4": r4_bad_store,
    "R5": r5_damaged_shards,
    "R6": r6_bad_images,
    "R7": r7_deadly_images,
    "R8": r8_cut_short,
    "R9": r9_full_or_read_only,
    "R10": r10_asked_to_go,
    "R13": r13_finished,
    "R14": r14_changed,
    "R15": r15_not_alone,
}
"""R11 and R12 are those of training: tests/chaos/kills.py."""


def run_scenario(name: str, arena: Arena) -> Iterator[Row]:
    """Its rows as they come; a bad one at the end where it broke down."""
    try:
        yield from SCENARIOS[name](arena)
    except Exception as error:
        traceback.print_exc()
        yield Row(name, 1, 0, note=f"broke down: {type(error).__name__}: {error}"[-1000:])


def show(row: Row) -> str:
    """One line of the table."""
    outcome = "survived" if row.good else "NOT SURVIVED"
    counts = f"{row.survived}/{row.injected} {outcome}, lost {row.lost}, duplicated {row.duplicated}"
    return f"{row.fault:<46} {counts:<52} {row.seconds:>6.0f} s  {row.note}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", metavar="R1", help=f"of {', '.join(SCENARIOS)}; all without")
    parser.add_argument("--small", action="store_true", help="small worlds and few faults")
    args = parser.parse_args()
    if unknown := set(args.faults) - SCENARIOS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    os.environ["PSEUDOGT_FAULTS"] = "[]"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        arena = Arena(Path(scratch), args.small)
        try:
            for name in args.faults or SCENARIOS:
                for row in run_scenario(name, arena):
                    rows.append(row)
                    print(show(row), flush=True)
        finally:
            arena.close()
    Path("chaos.json").write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    bad = [row.fault for row in rows if not row.good]
    print(f"{sum(row.injected for row in rows)} faults: " + (f"NOT SURVIVED: {', '.join(bad)}" if bad else "all survived"), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
