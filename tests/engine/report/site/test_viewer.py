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
from engine.report.render import View, render_mesh, side_view
from engine.report.site.body_data import body_values, faces_values, mesh_values
from schemas.skeletons import SMPL24
from tests.browser import PHONE, chromium, opened

__all__ = ["chromium"]
ASSETS = Path("engine/report/site/assets").resolve()
WINDOW = (380.5, 140.5, 300, 400)
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="ASSETS/viewer.css">
<div id="v" style="width:300px;height:400px;max-width:100%"></div>
<script src="ASSETS/three.js"></script><script src="ASSETS/body.js"></script>
<script src="ASSETS/cameras.js"></script><script src="ASSETS/viewer.js"></script>
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


@pytest.fixture(scope="module")
def page(chromium: Browser, page_path: Path) -> Iterator[Page]:
    """One page for most tests: each opens a viewer of its own on it."""
    with opened(chromium, page_path) as page:
        yield page


def _floats(page: Page, expression: str) -> np.ndarray:
    """A Float32Array of the page, (V, 3)."""
    text = page.evaluate(f"btoa(Array.from(new Uint8Array(({expression}).buffer), b => String.fromCharCode(b)).join(''))")
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, 3)


def _drawn(page: Page, more_than: int = 127) -> np.ndarray:
    """Where the canvas is drawn on, (400, 300) bool. Bodies are solid; floor and shadow are half transparent."""
    data = page.evaluate("viewer.picture().split(',')[1]")
    image = Image.open(io.BytesIO(base64.b64decode(data))).resize((300, 400))
    return np.asarray(image)[..., 3] > more_than


def test_the_browser_poses_the_body_as_the_engine_does(page: Page, body: Body, persons: list[dict]) -> None:
    for i, person in enumerate(persons):
        assert np.abs(_floats(page, f"body.pose(PERSONS[{i}]).vertices") - _vertices(body, person)).max() < 1e-4
    mesh = mesh_values(_vertices(body, persons[1]))
    found = _floats(page, f"PSEUDOGT_BODY.decodeMesh({json.dumps(mesh)})")
    assert np.abs(found - _vertices(body, persons[1])).max() < 1e-4


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


def test_the_side_is_the_one_of_the_reports(page: Page, body: Body, persons: list[dict]) -> None:
    """Somebody who sits with bent neck: front and back, above and below differ."""
    pose = np.zeros((24, 3))
    pose[0, 0] = np.pi
    for name, angle in (("L_Hip", -1.3), ("R_Hip", -1.3), ("Neck", 0.6)):
        pose[SMPL24.index(name), 0] = angle
    sitting = persons[0] | {"pose": pose.ravel().tolist()}
    page.evaluate("sitting => { window.viewer = show([sitting], {view: 'side'}) }", sitting)
    turned = side_view(_vertices(body, sitting))
    turned += (0, 0, 20) - turned.mean(0)
    mask = render_mesh(turned, body.faces, View((4000.0, 4000.0), (149.5, 199.5), 300, 400)).rgba[..., 3] > 127
    drawn, expected = _cut(_drawn(page, 240)), _cut(mask)
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.9
    assert (drawn[:, ::-1] & expected).sum() / (drawn[:, ::-1] | expected).sum() < 0.7, "the test could not tell left from right"
    assert page.evaluate("document.getElementById('v').getAttribute('aria-label')") == "Body mesh, from the side"
    page.evaluate("viewer.dispose()")


def _cut(mask: np.ndarray) -> np.ndarray:
    """What a mask has inside its smallest box, (64, 64)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(Image.fromarray(inside).resize((64, 64), Image.Resampling.NEAREST))


def test_a_photograph_keeps_its_shape_in_a_stage_of_another_shape(page: Page, persons: list[dict]) -> None:
    """Photograph and mesh stand in the middle of a stage that is flatter than the window, at one scale."""
    page.evaluate("window.viewer = show([PERSONS[0]], {image: 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='})")
    tall = _drawn(page)
    page.evaluate("document.getElementById('v').style.height = '200px'; viewer.resize()")
    box = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('.pg-viewer-photo').getBoundingClientRect())"
    )
    left, top = page.evaluate("(({x, y}) => [x, y])(document.getElementById('v').getBoundingClientRect())")
    np.testing.assert_allclose(box, (left + 75, top, 150, 200), atol=0.1)
    flat = np.asarray(Image.fromarray(_drawn(page)).resize((300, 200)))[:, 75:225]
    expected = np.asarray(Image.fromarray(tall).resize((150, 200)))
    assert (flat & expected).sum() / (flat | expected).sum() > 0.9
    page.evaluate("viewer.dispose(); document.getElementById('v').style.height = '400px'")


def test_bodies_of_one_camera_hide_each_other_by_depth(page: Page, persons: list[dict]) -> None:
    behind = persons[0] | {"transl": [0.2, 0.2, 46.0]}
    page.evaluate("two => { window.viewer = show(two) }", [persons[0], behind])
    first = page.evaluate("viewer.picture()")
    page.evaluate("two => viewer.setPersons(two)", [{**behind, "colour": "#fb923c"}, {**persons[0], "colour": "#60a5fa"}])
    assert page.evaluate("viewer.picture()") == first
    page.evaluate("viewer.setPersons([PERSONS[0]])")
    alone = _drawn(page)
    page.evaluate("viewer.setPersons([{...PERSONS[0], transl: [0, NaN, 40]}, PERSONS[0]])")
    assert "not finite" in page.locator(".pg-viewer-none").inner_text() and (_drawn(page) == alone).all()
    page.evaluate("viewer.setPersons([])")
    assert not _drawn(page).any()
    page.evaluate("viewer.dispose()")


def test_a_mesh_that_was_posed_before_is_drawn_without_a_body(page: Page, body: Body, persons: list[dict]) -> None:
    page.evaluate("window.viewer = show([PERSONS[0]])")
    posed = _drawn(page)
    page.evaluate("viewer.dispose()")
    values = json.dumps([mesh_values(_vertices(body, persons[0])), faces_values(body)])
    page.evaluate(f"""() => {{
        const [mesh, faces] = {values};
        const person = {{...PERSONS[0], pose: null, vertices: PSEUDOGT_BODY.decodeMesh(mesh)}};
        window.viewer = show([person], {{body: null, faces: PSEUDOGT_BODY.unpack(faces, "u2")}});
    }}""")
    assert (posed != _drawn(page)).mean() < 1e-3
    page.evaluate("viewer.setView('free'); viewer.dispose()")


def test_a_finger_turns_and_the_wheel_scrolls_the_page_until_the_body_is_clicked(chromium: Browser, page_path: Path) -> None:
    with opened(chromium, page_path, PHONE) as page:
        page.evaluate("document.body.style.height = '3000px'; window.viewer = show([PERSONS[0]], {view: 'free'})")
        eye = page.evaluate("viewer.eye")
        touch = page.context.new_cdp_session(page)
        for kind, points in (("touchStart", [90]), ("touchMove", [120]), ("touchMove", [170]), ("touchEnd", [])):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": 200} for x in points]})
        assert np.linalg.norm(np.subtract(page.evaluate("viewer.eye"), eye)) > 0.3
    with opened(chromium, page_path) as page:
        page.evaluate("document.body.style.height = '3000px'; window.viewer = show([PERSONS[0]], {view: 'free'})")
        eye = page.evaluate("viewer.eye")
        page.mouse.move(150, 200)
        page.mouse.wheel(0, 120)
        page.wait_for_function("scrollY > 0")
        assert page.evaluate("viewer.eye") == eye
        page.evaluate("scrollTo(0, 0)")
        page.mouse.click(150, 200)
        page.mouse.wheel(0, -120)
        page.wait_for_function("eye => Math.hypot(...viewer.eye) < Math.hypot(...eye) * 0.99", arg=eye)
        before = page.evaluate("viewer.eye")
        page.evaluate("viewer.setPersons(PERSONS.slice(0, 2))")
        assert page.evaluate("viewer.eye") == before, "the view stays where it was turned"


def test_many_are_opened_and_closed(chromium: Browser, page_path: Path) -> None:
    """More than the sixteen drawing contexts that a browser keeps at a time."""
    with opened(chromium, page_path) as page:
        assert page.evaluate("Array.from({length: 18}, () => { const v = show([PERSONS[0]]); v.dispose(); return v.ok }).every(Boolean)")


def test_without_webgl_a_sentence_stands_in_its_place(chromium: Browser, page_path: Path) -> None:
    with opened(chromium, page_path) as page:
        page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
        assert page.evaluate("show([PERSONS[0]]).ok") is False
        assert "no WebGL" in page.locator("#v").inner_text()


def test_a_licensed_body_is_not_put_on_a_page(body: Body) -> None:
    class Licensed:
        name, has_pose_correctives = "smpl", False

    with pytest.raises(ConfigError, match="licence"):
        body_values(Licensed())
    assert len(faces_values(body)) > 1000
