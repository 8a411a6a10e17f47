"""Every dataset has a name, a loader, and a place in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from engine.datasets.base import DatasetName
from engine.datasets.registry import DATASETS

REPO = Path(__file__).resolve().parents[3]


def test_every_dataset_has_a_loader_and_a_section() -> None:
    page = (REPO / "docs" / "DATASETS.md").read_text()
    sections = re.findall(r"^### `(\w+)`", page, re.MULTILINE)
    assert sorted(DATASETS) == sorted(get_args(DatasetName)) == sorted(sections)


def test_every_known_error_is_told_of() -> None:
    page = (REPO / "docs" / "DATASETS.md").read_text()
    for name, dataset in DATASETS.items():
        section = re.split(r"^##", page.split(f"### `{name}`")[1], flags=re.MULTILINE)[0]
        assert [error for error in dataset.known_errors if error not in section] == [], name
