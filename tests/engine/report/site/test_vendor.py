from __future__ import annotations

import hashlib
from pathlib import Path

SITE = Path(__file__).parents[4] / "engine" / "report" / "site"


def test_three_is_the_file_that_was_made() -> None:
    data = (SITE / "assets" / "three.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "a69a2fa24bb6423240cffd35dafca356aa19198697120759589cbf4ed596caf8"
    assert data.startswith(b"/*! three.js 0.187.0\nThe MIT License") and b"three.js authors" in data[:200]
