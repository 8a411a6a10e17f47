"""The browser of the tests: it draws WebGL without a GPU, and what is wrong with a page fails the test."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.browser import PHONE, chromium, opened

__all__ = ["chromium"]
SOUND = """<!doctype html><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><body style="margin:0">
<canvas width="64" height="64"></canvas><script>
const gl = document.querySelector("canvas").getContext("webgl2", { preserveDrawingBuffer: true });
gl.clearColor(1, 0.5, 0, 1); gl.clear(gl.COLOR_BUFFER_BIT);
</script></body>"""
WRONG = {
    "console.error('wrong')": "console: wrong",
    "undefined.x": "TypeError",
    "Promise.reject(new Error('late'))": "Error: late",
    "fetch('http://127.0.0.1:9/x').catch(() => 0)": "request: http://127.0.0.1:9/x",
    "const i = new Image(); i.src = 'absent.png'": "failed: file:",
}


def test_a_page_of_files_draws_webgl_on_a_phone(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(SOUND)
    with opened(chromium, tmp_path / "page.html", PHONE) as page:
        assert page.evaluate("[innerWidth, navigator.maxTouchPoints > 0]") == [390, True]
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    np.testing.assert_allclose(picture[32, 32], (255, 128, 0), atol=2)


def test_everything_wrong_with_a_page_is_told(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html>" + "".join(f"<script>{script}</script>" for script in WRONG))
    with pytest.raises(AssertionError) as told, opened(chromium, tmp_path / "page.html"):
        pass
    assert all(fault in str(told.value) for fault in WRONG.values()), told.value
