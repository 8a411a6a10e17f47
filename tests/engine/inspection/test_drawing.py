"""Drawings: joints and boxes where they belong in stored pixels, sides in their colours, 3D through the camera."""

from __future__ import annotations

import numpy as np
import pytest

from engine.body.config import BodyConfig
from engine.inspection.config import InspectConfig, SheetConfig
from engine.inspection.drawing import BOX, ERROR, LEFT, MIDDLE, RIGHT, canvas, draw_flat, draw_solid, side_colour
from engine.inspection.photographs import ImageBytes, Photograph
from engine.inspection.sheets import draw_sheets
from schemas.sample import Instance, SmplParams, Window
from schemas.skeletons import H36M17
from tests.engine.inspection.builders import encoded, projected, solid_person, standing

GREY = np.full((1000, 1000, 3), 90, np.uint8)


def _no_mesh(person: Instance) -> None:
    return None


def _count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of about this colour."""
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 40).sum())


def _is(picture: np.ndarray, pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    x, y = np.rint(pixel).astype(int)
    return _count(picture[y - 1 : y + 2, x - 1 : x + 2], colour) > 0


@pytest.mark.parametrize("window", [None, Window(left=200, top=100, width=500, height=800, stored_width=250, stored_height=400)])
def test_joints_have_the_colours_of_their_sides_where_they_are(window: Window | None) -> None:
    person = solid_person(standing())
    image = GREY if window is None else GREY[: window.stored_height, : window.stored_width]
    at = canvas(image, window, (person,), 400)
    picture = draw_flat(at, (person,))
    assert picture.shape == (400, 400, 3)
    left, top, right, bottom = at.region
    for joint, (x, y) in zip(H36M17.joints, person.joints_img, strict=True):
        stored = (x, y) if window is None else ((x - 200 + 0.5) / 2 - 0.5, (y - 100 + 0.5) / 2 - 0.5)
        expected = np.array([(stored[0] + 0.5 - left) * 400 / (right - left), (stored[1] + 0.5 - top) * 400 / (bottom - top)]) - 0.5
        np.testing.assert_allclose(at.place(np.array([x, y])), expected)
        if joint in ("L_Ankle", "R_Ankle", "L_Wrist", "R_Wrist", "Head_top"):
            assert _is(picture, expected, {"L": LEFT, "R": RIGHT, "H": MIDDLE}[joint[0]]), joint
    x, y, w, h = person.bbox_xywh
    for corner in ((x, y), (x + w, y + h)):
        assert _is(picture, at.place(np.array(corner)), BOX)


def test_invalid_joints_are_not_drawn() -> None:
    person = solid_person(standing(), joints_valid=(False,) * 17)
    picture = draw_flat(canvas(GREY, None, (person,), 300), (person,))
    assert not any(_count(picture, colour) for colour in (LEFT, RIGHT, MIDDLE)) and _count(picture, BOX) > 100


def test_projected_joints_and_how_far_they_are_off() -> None:
    cam = standing()
    right, off = solid_person(cam), solid_person(cam + np.array([0.2, 0, 0]), projected(cam))
    pictures = [draw_solid(canvas(GREY, None, (person,), 300), (person,), _no_mesh)[0] for person in (right, off)]
    errors = [_count(picture, ERROR) for picture in pictures]
    assert errors[0] == 0 and errors[1] > 100


def test_the_nearer_mesh_covers_the_farther() -> None:
    square = np.array([(-0.5, -0.5, 0.0), (0.5, -0.5, 0.0), (0.5, 0.5, 0.0), (-0.5, 0.5, 0.0)])
    smpl = SmplParams(pose=(0.0,) * 72, betas=(0.0,) * 10, transl=(0, 0, 0))
    near, far = (solid_person(standing(depth=z), annotation_id=str(z), smpl=smpl) for z in (3.0, 6.0))

    def mesh(person: Instance) -> tuple[np.ndarray, np.ndarray]:
        return square + np.array([0, 0, float(person.annotation_id)]), np.array([(0, 1, 2), (0, 2, 3), (2, 1, 0), (3, 2, 0)])

    centres = [draw_solid(canvas(GREY, None, persons, 300), persons, mesh)[0] for persons in ((near, far), (far, near))]
    at = canvas(GREY, None, (near, far), 300).place(np.array([500.0, 500.0])).astype(int)
    assert centres[0][at[1], at[0]].argmax() == 2 and centres[1][at[1], at[0]].argmax() == 0  # the palette's blue and orange


def test_who_has_no_3d_is_counted() -> None:
    flat = solid_person(standing(), joints_cam=None, camera=None)
    _, left_out = draw_solid(canvas(GREY, None, (flat,), 100), (flat, solid_person(standing())), _no_mesh)
    assert left_out == 1


@pytest.mark.parametrize("bbox", [(-1e9, -1e9, 2e9, 2e9), (5e8, 5e8, 10, 10), (-50, -50, 10, 10), (0, 0, 1e-6, 1e-6), (999.5, 0, 1e308, 3)])
def test_hostile_numbers_draw_something_small(bbox: tuple[float, ...]) -> None:
    joints = tuple((1e300, -1e300) if i % 2 else (3.0, 4.0) for i in range(17))
    cam = tuple((1e200, 1e-200, 1e-3) for _ in range(17))
    person = solid_person(standing(), bbox_xywh=bbox, joints_img=joints, joints_cam=cam)
    at = canvas(GREY, None, (person,), 120)
    assert draw_flat(at, (person,)).shape == draw_solid(at, (person,), _no_mesh)[0].shape == (120, 120, 3)
    assert max(np.abs(at.region)) < 3000


def test_sides_of_bones() -> None:
    assert side_colour("L_Hip", "L_Knee") == side_colour("L_Hip", "Pelvis") == LEFT
    assert side_colour("R_Hip") == RIGHT and side_colour("L_Hip", "R_Hip") == side_colour("Neck") == MIDDLE


def test_a_sheet_shows_a_broken_image_as_broken_and_says_what_limits_it(tmp_path) -> None:
    smpl = SmplParams(pose=(0.0,) * 72, betas=(0.0,) * 10, transl=(0, 0, 4), gender="male")
    person = solid_person(standing(), smpl=smpl)
    good, bad = (
        Photograph(k, f"{k}.jpg", ImageBytes(d), (1000, 1000), (person,)) for k, d in (("good", encoded((1000, 1000))), ("bad", b"x"))
    )
    notes: list[str] = []
    sheet = SheetConfig(columns=4, cell_px=128, images_a_sheet=4)
    config = InspectConfig(sheet=sheet, body=BodyConfig(kind="smpl", smpl_dir=str(tmp_path)))
    sheets = list(draw_sheets([good, bad] * 3, config, lambda photograph: 1, notes))
    assert len(sheets) == 2 and sheets[0].shape[1] == 2 * (2 * 128 + 6)
    assert len(notes) == 1 and "gender male" in notes[0] and "SMPL_" in notes[0]
