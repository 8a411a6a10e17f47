"""Named points at which a test makes a process die, hang or fail; they cost a dictionary lookup and do nothing unless armed.

Armed by the environment, so that workers started by Ray are reached too:
    PSEUDOGT_FAULTS='[{"point": "after_object", "match": "000003", "action": "kill", "times": 1}]'
    PSEUDOGT_FAULTS_DIR=/some/folder     (counts firings over all processes; one file a firing)

`match` must be contained in the detail of the point (empty: any), `times` limits firings (absent: every time). Actions: kill (SIGKILL to
itself), abort (SIGABRT), hang, memory (allocate until something gives), full (OSError, no space left on the device), error (RuntimeError).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

_ARMED: dict[str, list[dict[str, Any]]] = {}
for _fault in json.loads(os.environ.get("PSEUDOGT_FAULTS", "[]")):
    _ARMED.setdefault(_fault["point"], []).append(_fault)


def armed(point: str) -> bool:
    """Whether anything can happen at this point; for callers to whom the detail costs something."""
    return point in _ARMED


def hit(point: str, detail: str = "") -> None:
    """The process is at this point, with this thing in hand."""
    for fault in _ARMED.get(point, ()):
        if fault.get("match", "") in detail and _left(fault, detail):
            _do(fault["action"], f"{point} {detail}")


def _left(fault: dict[str, Any], detail: str) -> bool:
    """Whether the fault may fire once more; notes the firing before it happens."""
    folder = Path(os.environ["PSEUDOGT_FAULTS_DIR"])
    number = 0
    while fault.get("times") is None or number < fault["times"]:
        try:
            with open(folder / f"{fault['point']}-{fault['action']}-{fault.get('match', '')}-{number}", "x") as file:
                file.write(json.dumps({"detail": detail, "pid": os.getpid(), "time": time.time()}))
            return True
        except FileExistsError:
            number += 1
    return False


def _do(action: str, where: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "abort":
        os.abort()
    elif action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)
    elif action == "error":
        raise RuntimeError(f"injected at {where}")
    elif action == "memory":
        held = []
        while True:
            held.append(bytearray(64 << 20))
    while action in ("kill", "hang"):
        time.sleep(1)
