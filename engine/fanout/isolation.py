"""Which image or person of a shard kills the process that touches it: found by letting a child process touch everything.

The child (`engine/fanout/probe.py`) does to the shard what a worker does, one image at a time, and says before each step what it is about
to touch. What it named last when it died, or when it fell silent for longer than `hang_s`, is touched alone by another child; if that
one dies too, it goes to quarantine, and a child does the shard without it, until one lives to the end. A batch that kills is done again
person by person.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle

from engine.errors import EngineError
from engine.fanout.work import WorkerSpec
from schemas.manifests import QuarantineRow, ShardPlan

KILLED_WORKER = "killed_worker"
"""Reason of an image or person that ends the process, or makes it hang."""
MOST_KILLERS = 64
"""More of them in one shard, and it is the machine or the annotator that is broken."""
MOST_UNCONFIRMED = 5
"""Deaths of children that another child does not repeat, and the search is given up."""
_START_S = 300.0
"""Time a child may take to import and to load the network."""


@dataclass(frozen=True)
class Death:
    """What the child was about to touch, None before anything, and how it ended."""

    last: dict[str, Any] | None
    how: str


def find_killers(spec: WorkerSpec, shard: ShardPlan, known: Sequence[QuarantineRow] = ()) -> tuple[QuarantineRow, ...]:
    """`known`, and a quarantine row for everything else in the shard that a process does not survive; empty for a harmless shard.

    A child's death condemns nobody: another child that touches the one thing alone has to die of it too. EngineError when the deaths cannot
    be pinned on images or persons.
    """
    known = list(known)
    suspects: list[list[str]] = []
    unconfirmed = 0
    while len(known) <= MOST_KILLERS and unconfirmed <= MOST_UNCONFIRMED:
        death = _probe(spec, shard, known, suspects)
        if death is None and suspects:
            raise EngineError(f"{shard.url}: a process dies over {len(suspects)} persons together, but over none of them alone")
        if death is None:
            return tuple(known)
        what = death.last
        if what is None:
            raise EngineError(f"{shard.url}: a process that was to look into it {death.how} before it touched an image")
        if what["step"] == "annotate" and len(what["persons"]) > 1:
            suspects = what["persons"]
            continue
        confirmed = _probe(spec, shard, known, [], only=what)
        if confirmed is None or confirmed.last is None:
            unconfirmed += 1
            continue
        suspects = []
        if what["step"] == "decode":
            row = _row(what, what["key"], None, what["instances"], f"the process that decoded it {confirmed.how}")
            known = [*(k for k in known if k.key != row.key), row]
        else:
            ((key, annotation_id),) = what["persons"]
            known.append(_row(what, key, annotation_id, 1, f"the process that annotated it {confirmed.how}"))
    if unconfirmed > MOST_UNCONFIRMED:
        raise EngineError(f"{shard.url}: {unconfirmed} processes that looked into it died, each of something else; look at the machine")
    raise EngineError(f"{shard.url}: more than {MOST_KILLERS} of its images or persons end the process that touches them")


def _row(what: dict[str, Any], key: str, annotation_id: str | None, instances: int, message: str) -> QuarantineRow:
    return QuarantineRow(
        dataset=what["dataset"], key=key, annotation_id=annotation_id, reason=KILLED_WORKER, message=message, instances=instances
    )


def _probe(
    spec: WorkerSpec, shard: ShardPlan, known: list[QuarantineRow], suspects: list[list[str]], only: dict[str, Any] | None = None
) -> Death | None:
    """None when a child lived through the whole shard, or through touching `only`."""
    receive, send = os.pipe()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        [sys.executable, "-m", "engine.fanout.probe", str(send)], stdin=subprocess.PIPE, pass_fds=(send,), env=env, start_new_session=True
    )
    os.close(send)
    try:
        assert child.stdin is not None
        with child.stdin as pipe:
            pipe.write(cloudpickle.dumps((spec, shard, known, suspects, only)))
        return _listen(child, receive, spec.hang_s)
    finally:
        os.close(receive)
        if child.poll() is None:
            child.kill()
        child.wait()


def _listen(child: subprocess.Popen, receive: int, hang_s: float) -> Death | None:
    last: dict[str, Any] | None = None
    buffered, silent_since, finished = b"", time.monotonic(), False
    poll = select.poll()
    poll.register(receive, select.POLLIN)
    while not finished:
        if poll.poll(1000):
            data = os.read(receive, 1 << 16)
            if not data:
                break
            *lines, buffered = (buffered + data).split(b"\n")
            silent_since = time.monotonic()
            for line in lines:
                said = json.loads(line)
                finished = said["step"] == "end"
                last = last if finished else said
        elif time.monotonic() - silent_since > (hang_s if last else max(hang_s, _START_S)):
            child.kill()
            child.wait()
            return Death(_touched(last), f"hung for more than {hang_s:g} s")
    return None if finished else Death(_touched(last), _ending(child.wait()))


def _touched(last: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if last is None or last["step"] == "start" else last


def _ending(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
