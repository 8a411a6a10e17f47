from __future__ import annotations

import hashlib
from pathlib import Path

SITE = Path(__file__).parents[4] / "engine" / "report" / "site"


def test_three_is_the_file_that_was_made() -> None:
    data = (SITE / "assets" / "three.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "8fab5640f5ba3ccd3b0f10a293acecc7634183ab19c96eb3732722730d0921f6"
    assert b"Three.js Authors" in data and b"MIT" in data
