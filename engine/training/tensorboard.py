"""History rows as TensorBoard event files: `tensorboard --logdir RUN/tensorboard`.

An event file is appended to while a run lives, which object stores cannot do and a crash leaves with rows that were undone. So
every checkpoint writes a file of its own, whole, create-only, with the rows since the one before; TensorBoard reads a folder of
files in the order of their names.
"""

from __future__ import annotations

import io
import time
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_BESIDE_LOSS = {"epoch", "lr", "grad_norm", "samples_per_s", "wait_share"}


def event_file_name(step: int) -> str:
    """Name of the file a checkpoint at `step` writes; sorts by step."""
    return f"events.out.tfevents.{step:010d}"


def event_file(rows: list[dict[str, Any]]) -> bytes:
    """An event file of history rows: `loss/NAME` for the total and its terms, `run/NAME` for the rest."""
    buffer, now = io.BytesIO(), time.time()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for row in rows:
        values = [
            Summary.Value(tag=f"{'run' if name in _BESIDE_LOSS else 'loss'}/{name}", simple_value=value)
            for name, value in row.items()
            if name != "step"
        ]
        writer.write(Event(wall_time=now, step=row["step"], summary=Summary(value=values)).SerializeToString())
    return buffer.getvalue()
