"""docs/YOUR_PHOTOGRAPHS.md: its commands parse, its boxes files are read, its numbers of files and names are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from engine.config import Config, load_config
from engine.datasets.boxes import BoxedPerson, read_boxes
from engine.datasets.photos import PHOTOGRAPHS, VIDEOS
from engine.datasets.ssdlite import INSTALL
from engine.fanout.config import AnnotateConfig
from engine.shards.ingest import IngestConfig
from schemas.skeletons import COCO17

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "YOUR_PHOTOGRAPHS.md").read_text()
JOBS: dict[str, type[Config]] = {"jobs/ingest.py": IngestConfig, "jobs/annotate.py": AnnotateConfig}


def _blocks(language: str) -> list[str]:
    return [block for found, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.S | re.M) if found == language]


def test_its_commands_parse() -> None:
    commands = [line for block in _blocks("") for line in block.replace("\\\n", "").splitlines() if line.startswith("python ")]
    assert len(commands) == 3
    for command in commands:
        _, job, *argv = shlex.split(command)
        assert load_config(JOBS[job], argv)


@pytest.mark.parametrize("number", range(3))
def test_its_boxes_files_are_read(tmp_path: Path, number: int) -> None:
    path = tmp_path / ("boxes.csv" if number == 2 else "boxes.json")
    path.write_text([*_blocks("json"), *_blocks("csv")][number])
    found = list(read_boxes(path, COCO17))
    assert all(isinstance(person, BoxedPerson) for person in found)
    assert found[0][:3] == ("beach/a.jpg", "1" if number == 0 else "anna", (410, 220, 180, 460))
    assert number == 0 or found[-1][0] == "clip.mp4#120"


def test_it_says_what_the_code_does() -> None:
    assert INSTALL in PAGE
    assert all(f"`{suffix}`" in PAGE for suffix in PHOTOGRAPHS | VIDEOS)
    for reason in ("unknown_image", "degenerate_box", "invalid_annotation", "no_boxes", "detector_failed", "nobody_found"):
        assert f"`{reason}`" in PAGE
