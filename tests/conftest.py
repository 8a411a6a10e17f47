"""Fixtures shared by the tests: real photographs where they are, the open body, and a tiny synthetic world."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("pseudogt", deadline=None)  # a slow machine is no failure
settings.load_profile("pseudogt")

REPO = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: where several processes share the tests, nobody waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real samples (COCO photographs and the like); the test skips where it is absent."""
    root = Path(os.environ.get("PSEUDOGT_REAL_DATA", REPO.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data absent: {root}")
    return root
