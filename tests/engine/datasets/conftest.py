"""One mannequin for the round trips of all layouts."""

from __future__ import annotations

import pytest

from engine.synthetic.atlas import Mannequin


@pytest.fixture(scope="session")
def mannequin() -> Mannequin:
    return Mannequin()
