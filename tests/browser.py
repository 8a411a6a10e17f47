"""A real browser for pages that open from disk: headless Chromium, in which every error of the page fails the test.

The browser is $PSEUDOGT_CHROMIUM, else chromium, chromium-browser or google-chrome of the machine, else the one that
`python -m playwright install chromium` brought. Without one, tests that want it are skipped, and a warning in the run's summary says so.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 800), (390, 844)


def find_chromium(playwright: Playwright) -> str | None:
    """Path of a browser on this machine, None where there is none. Fails if PSEUDOGT_CHROMIUM names a file that is not there."""
    named = os.environ.get("PSEUDOGT_CHROMIUM")
    if named and not Path(named).is_file():
        pytest.fail(f"PSEUDOGT_CHROMIUM={named}: no such file; name a Chromium's program or unset it")
    own = playwright.chromium.executable_path
    return named or next(filter(None, map(shutil.which, NAMES)), own if Path(own).is_file() else None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module: while one is there an event loop runs, which the tests of other modules must not meet."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            why = "no browser, so pages are NOT tested: install Chromium or run `python -m playwright install chromium`"
            warnings.warn(why, stacklevel=1)
            pytest.skip(why)
        with playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS)) as browser:
            yield browser


@contextmanager
def opened(chromium: Browser, page_path: Path, size: tuple[int, int] = DESKTOP, fragment: str = "") -> Iterator[Page]:
    """A page of a file on disk. AssertionError at the end for console errors, uncaught errors, and requests but for local files."""
    phone = size[0] < 600
    context: BrowserContext = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, device_scale_factor=1, is_mobile=phone, has_touch=phone
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"error: {error.stack or error.message}"))
    page.on("crash", lambda _: problems.append("the page crashed"))
    page.on("request", lambda request: problems.append(f"request: {request.url}") if _remote(request.url) else None)
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on("websocket", lambda socket: problems.append(f"request: {socket.url}"))
    try:
        page.goto(page_path.resolve().as_uri() + fragment)
        yield page
        page.wait_for_timeout(50)
    finally:
        context.close()
    assert not problems, problems


def _remote(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:", "about:"))
