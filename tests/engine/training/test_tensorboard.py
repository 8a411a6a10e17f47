from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.training.tensorboard import event_file, event_file_name


def test_tensorboard_reads_what_checkpoints_wrote(tmp_path: Path) -> None:
    rows = [{"step": s, "epoch": s // 4, "lr": 0.1 / s, "loss": 1.0 / s, "smpl_pose": 0.5, "samples_per_s": 10.0} for s in (1, 2, 3, 4)]
    for part in (rows[:3], rows[3:]):
        (tmp_path / event_file_name(part[-1]["step"])).write_bytes(event_file(part))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss/loss", "loss/smpl_pose", "run/epoch", "run/lr", "run/samples_per_s"}
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("loss/loss")] == [(s, round(1 / s, 6)) for s in (1, 2, 3, 4)]
