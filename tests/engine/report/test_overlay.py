"""Contact sheets: what is drawn where, in which order, and as valid pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from engine.body.smpl import BodyConfig, load_body
from engine.report.overlay import PALETTE, Figure, Person, Shape, contact_sheet, encode_jpeg, photo_and_overlay, side_views
from tests.engine.evaluation.builders import FOCAL, HEIGHT, WIDTH, instance_of, person, posed

PRINCPT = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


def _figure(body, places, truth=False):
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    persons = []
    for k, (x, z, focal) in enumerate(places):
        smpl = person(np.random.default_rng(0), k, x)
        vertices = posed(body, smpl) + np.array([0, 0, z - 4], np.float32)
        instance = instance_of(str(k), smpl, (60.0, 10.0, 80.0, 140.0), truth=False)
        persons.append(Person(vertices, (focal, focal), PRINCPT, instance, Shape(vertices, body.faces) if truth else None))
    return Figure(image, persons, ["a photograph", "with people"])


def _is(colour, image):
    """Where a picture has a shade of a palette colour."""
    shade = image.astype(float) / np.maximum(np.linalg.norm(image, axis=2, keepdims=True), 1)
    return (np.abs(shade - np.array(colour) / np.linalg.norm(colour)).max(axis=2) < 0.06) & (image.max(axis=2) > 60)


def test_the_mesh_is_drawn_on_the_overlay_and_keypoints_on_the_photo(body):
    photo, overlay = photo_and_overlay(_figure(body, [(0.0, 4.0, FOCAL)]), body.faces, 240, 240)
    assert photo.shape == overlay.shape == (240, 240, 3)
    assert _is(PALETTE[0], overlay).sum() > 2000 and 20 < _is(PALETTE[0], photo).sum() < 1500


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_the_nearer_person_covers_the_farther_whatever_their_virtual_cameras(body, scale):
    near, far = (0.0, 3.0 * scale, FOCAL * scale), (0.0, 5.0, FOCAL)
    for places in ((near, far), (far, near)):
        _, overlay = photo_and_overlay(_figure(body, places), body.faces, 240, 240)
        counts = [_is(PALETTE[i], overlay).sum() for i in range(2)]
        assert counts[places.index(near)] > 3 * counts[places.index(far)]


def test_side_views_hold_every_person_and_its_truth_at_one_scale(body):
    figure = _figure(body, [(-0.5, 4.0, FOCAL), (0.5, 40.0, 10 * FOCAL)], truth=True)
    picture = side_views(figure, body.faces, 300, 200)
    heights = [np.ptp(np.flatnonzero(_is(PALETTE[i], picture).any(axis=1))) for i in range(2)]
    assert min(heights) > 60 and abs(heights[0] - heights[1]) < 0.15 * heights[0]
    columns = [np.flatnonzero(_is(PALETTE[i], picture).any(axis=0)).mean() for i in range(2)]
    assert columns[0] < 150 < columns[1]


def test_a_sheet_is_a_grid_and_a_valid_jpeg(body):
    figures = [_figure(body, [(0.0, 4.0, FOCAL)]) for _ in range(3)] + [_figure(body, [])]
    sheet = contact_sheet(figures, body.faces, columns=2, tile=100)
    image = Image.open(io.BytesIO(encode_jpeg(sheet)))
    image.load()
    assert image.format == "JPEG" and image.size == (2 * (3 * 100 + 12), sheet.shape[0]) and sheet.shape[0] % 2 == 0
    with pytest.raises(ValueError, match="at least one figure"):
        contact_sheet([], body.faces)


def test_boxes_at_the_border_and_tiny_ones_are_drawn(body):
    figure = _figure(body, [(0.0, 4.0, FOCAL)])
    smpl = person(np.random.default_rng(0), 0, 0.0)
    for box in ((-30.0, -30.0, 40.0, 60.0), (WIDTH - 2.0, HEIGHT - 2.0, 1.0, 1.0), (0.0, 0.0, float(WIDTH), float(HEIGHT))):
        persons = [Person(figure.persons[0].vertices_V3, (FOCAL, FOCAL), PRINCPT, instance_of("a", smpl, box, truth=False))]
        photo, overlay = photo_and_overlay(Figure(figure.image_HW3, persons), body.faces, 120, 90)
        assert photo.shape == overlay.shape == (90, 120, 3)
