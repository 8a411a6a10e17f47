"""The 3D viewer in a real browser: the body it poses, the camera it looks through, and what it draws, against the Python of the engine."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page

from engine.body.cameras import camera_to_image, project
from engine.body.smpl import Body, BodyConfig, load_body
from engine.errors import ConfigError
from engine.report.render import View, render_mesh
from engine.report.site.body_data import body_values, faces_values, mesh_values
from tests.browser import DESKTOP, PHONE, chromium, opened

__all__ = ["chromium"]
ASSETS = Path("engine/report/site/assets").resolve()
WINDOW = (380.5, 140.5, 300, 400)
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="ASSETS/viewer.css">
<div id="v" style="width:300px;height:400px;max-width:100%"></div>
<script src="ASSETS/three.js"></script><script src="ASSETS/body.js"></script><script src="ASSETS/viewer.js"></script>
<script>const VALUES = VALUES_HERE; const PERSONS = PERSONS_HERE; const WINDOW = WINDOW_HERE;
const body = PSEUDOGT_BODY.decode(VALUES);
const show = (persons, more) => PSEUDOGT_VIEWER.open(document.getElementById("v"), persons, {body, window: WINDOW, ...more});
</script>"""


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def persons() -> list[dict]:
    """Extreme ones, and first one that stands with the left arm up, a little aside of the window's middle."""
    rng = np.random.default_rng(5)
    pose = rng.normal(0, 0.8, (4, 72))
    pose[0] = 0
    pose[0, 0] = np.pi
    pose[0, 3 * 16 : 3 * 16 + 3] = (0, 0, 1.2)
    betas = rng.uniform(-5, 5, (4, 10))
    betas[0] = 0
    focal, princpt = camera_to_image(np.array([[400.0, 150.0, 270.0, 360.0]] * 4), (256, 192))
    return [
        {
            "pose": pose[i].tolist(),
            "betas": betas[i].tolist(),
            "transl": [0.1, 0.2, 45.0],
            "focal": focal[i].tolist(),
            "princpt": princpt[i].tolist(),
        }
        for i in range(4)
    ]


def _vertices(body: Body, person: dict) -> np.ndarray:
    pose, betas = (torch.tensor([person[name]], dtype=torch.float32) for name in ("pose", "betas"))
    return body(pose, betas).vertices_BV3[0].double().numpy() + person["transl"]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory, body: Body, persons: list[dict]) -> Path:
    text = PAGE.replace("ASSETS", ASSETS.as_uri()).replace("VALUES_HERE", json.dumps(body_values(body)))
    path = tmp_path_factory.mktemp("viewer") / "index.html"
    path.write_text(text.replace("PERSONS_HERE", json.dumps(persons)).replace("WINDOW_HERE", json.dumps(WINDOW)))
    return path


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, chromium: Browser, page_path: Path) -> Iterator[Page]:
    with opened(chromium, page_path, request.param) as page:
        yield page


def _drawn(page: Page) -> np.ndarray:
    """Where the canvas is drawn on, (400, 300) bool."""
    data = page.evaluate("viewer.canvas.toDataURL('image/png').split(',')[1]")
    image = Image.open(io.BytesIO(base64.b64decode(data))).resize((300, 400))
    return np.asarray(image)[..., 3] > 127


def test_the_browser_poses_the_body_as_the_engine_does(page: Page, body: Body, persons: list[dict]) -> None:
    found = page.evaluate("PERSONS.map(p => Array.from(body.pose(p).vertices))")
    for person, flat in zip(persons, found, strict=True):
        assert np.abs(np.reshape(flat, (-1, 3)) - _vertices(body, person)).max() < 1e-4
    mesh = mesh_values(_vertices(body, persons[1]))
    page.evaluate("mesh => { window.MESH = Array.from(PSEUDOGT_BODY.decodeMesh(mesh)) }", mesh)
    assert np.abs(np.reshape(page.evaluate("MESH"), (-1, 3)) - _vertices(body, persons[1])).max() < 1e-4


def test_it_looks_through_the_rows_own_camera(page: Page, body: Body, persons: list[dict]) -> None:
    page.evaluate("window.viewer = show(PERSONS)")
    for i, person in enumerate(persons):
        points = _vertices(body, person)[::300]
        pixels = project(points[None], np.array(person["focal"]), np.array(person["princpt"]))[0]
        found = page.evaluate("([i, points]) => points.map(p => viewer.project(i, p))", [i, points.tolist()])
        assert np.abs(np.array(found) - pixels).max() < 0.1
    page.evaluate("viewer.dispose()")


def test_what_is_drawn_is_what_the_renderer_draws(page: Page, body: Body, persons: list[dict]) -> None:
    page.evaluate("window.viewer = show([PERSONS[0]])")
    drawn = _drawn(page)
    princpt = np.array(persons[0]["princpt"]) - (WINDOW[0] + 0.5, WINDOW[1] + 0.5)
    view = View(tuple(persons[0]["focal"]), tuple(princpt), 300, 400)
    mask = render_mesh(_vertices(body, persons[0]), body.faces, view).rgba[..., 3] > 127
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95
    top = np.flatnonzero(mask.any(1))[0]
    assert abs(np.flatnonzero(drawn.any(1))[0] - top) <= 2, "upright"
    page.evaluate("viewer.dispose()")


def test_it_turns_by_mouse_and_by_keys_and_shows_several(page: Page, persons: list[dict]) -> None:
    page.evaluate("window.viewer = show(PERSONS.slice(0, 2).map((p, i) => ({...p, label: 'release ' + i})), {view: 'free'})")
    assert page.locator(".pg-viewer-legend span").all_inner_texts() == ["release 0", "release 1"]
    before, eye = _drawn(page), page.evaluate("viewer.eye")
    box = page.locator("#v").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 220, steps=4)
    page.mouse.up()
    turned = page.evaluate("viewer.eye")
    assert np.linalg.norm(np.subtract(turned, eye)) > 0.3 and (_drawn(page) != before).mean() > 0.02
    page.locator("#v").focus()
    page.keyboard.press("ArrowLeft")
    assert np.linalg.norm(np.subtract(page.evaluate("viewer.eye"), turned)) > 0.1
    for view in ("side", "camera", "free"):
        page.evaluate("view => viewer.setView(view)", view)
        page.evaluate("viewer.setWireframe(true); viewer.setOpacity(0.5); viewer.setWireframe(false)")
        assert _drawn(page).mean() > 0.01
    page.evaluate("viewer.setPersons([PERSONS[0]]); viewer.dispose()")
    assert page.locator("#v").inner_text() == ""


def test_the_side_is_a_quarter_turn_of_the_same_size(page: Page) -> None:
    page.evaluate("window.viewer = show([PERSONS[0]])")
    front = np.flatnonzero(_drawn(page).any(1))
    page.evaluate("viewer.setView('side')")
    side = _drawn(page)
    rows = np.flatnonzero(side.any(1))
    assert abs(rows[0] - front[0]) < 8 and abs(rows[-1] - front[-1]) < 8
    assert page.evaluate("document.getElementById('v').getAttribute('aria-label')") == "Body mesh, from the side"
    page.evaluate("viewer.dispose()")


def test_many_are_opened_and_closed(chromium: Browser, page_path: Path) -> None:
    """More than the sixteen drawing contexts that a browser keeps at a time."""
    with opened(chromium, page_path) as page:
        assert page.evaluate("Array.from({length: 20}, () => { const v = show([PERSONS[0]]); v.dispose(); return v.ok }).every(Boolean)")


def test_without_webgl_a_sentence_stands_in_its_place(chromium: Browser, page_path: Path) -> None:
    with opened(chromium, page_path) as page:
        page.evaluate("THREE_WEBGL = HTMLCanvasElement.prototype.getContext = () => null; console.error = () => {}")
        assert page.evaluate("show([PERSONS[0]]).ok") is False
        assert "no WebGL" in page.locator("#v").inner_text()


def test_a_licensed_body_is_not_put_on_a_page(body: Body) -> None:
    class Licensed:
        name, has_pose_correctives = "smpl", False

    with pytest.raises(ConfigError, match="licence"):
        body_values(Licensed())
    assert len(faces_values(body)) > 1000
