import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import SampleRejected
from engine.loading.boxes import person_box, processed_box, spin_box
from schemas.crops import CropSpec

sizes = st.floats(2, 500)


def test_a_box_worked_out_by_hand():
    # 100x100 at (50, 20) loses a pixel: 99x99, centre (99.5, 69.5); aspect 3:4 needs height 132; both x 1.25
    box = processed_box((50, 20, 100, 100), (640, 480), (256, 192))
    assert box == pytest.approx([99.5 - 0.625 * 99, 69.5 - 0.625 * 132, 1.25 * 99, 1.25 * 132])


def test_a_box_that_leaves_the_image_is_cut_there_first():
    # clipped to x 0..99 (start moves, size stays), y 440..479
    box = processed_box((-30, 440, 100, 100), (640, 480), (256, 192))
    assert box[0] + box[2] / 2 == pytest.approx(49.5)
    assert box[1] + box[3] / 2 == pytest.approx(459.5)


@pytest.mark.parametrize("bbox", [(700, 10, 50, 50), (10, 10, 1, 50), (10, 479, 50, 50), (10, 10, 0, 5), (10, 10, -5, 50)])
def test_nothing_inside_the_image_is_rejected(bbox):
    with pytest.raises(SampleRejected) as caught:
        processed_box(bbox, (640, 480), (256, 192))
    assert caught.value.reason == "degenerate_box" and "640x480" in str(caught.value)


@settings(deadline=None)
@given(x=st.floats(-50, 600), y=st.floats(-50, 400), w=sizes, h=sizes)
def test_processed_boxes_have_the_crops_aspect_and_hold_the_visible_box(x, y, w, h):
    try:
        box = processed_box((x, y, w, h), (640, 480), (128, 96))
    except SampleRejected:
        return
    assert box[2] / box[3] == pytest.approx(96 / 128)
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(639, x1 + w - 1), min(479, y1 + h - 1)
    assert box[0] <= x1 and box[1] <= y1 and box[0] + box[2] >= x2 and box[1] + box[3] >= y2
    assert np.maximum((x2 - x1) / box[2], (y2 - y1) / box[3]) == pytest.approx(1 / 1.25)


def test_spins_box_worked_out_by_hand():
    # longer side 100 x 1.2 = 120 about the centre (70, 70); it leaves the image and is not cut
    assert spin_box((50, 20, 40, 100), (640, 480)) == pytest.approx([10, 10, 120, 120])
    assert spin_box((-20, 20, 100, 40), (640, 480)) == pytest.approx([-30, -20, 120, 120])


@pytest.mark.parametrize("bbox", [(700, 10, 50, 50), (10, 481, 50, 50), (10, 10, 0, 5), (10, 10, -5, -5), (-50, 10, 50, 50)])
def test_spins_box_of_nothing_is_rejected(bbox):
    with pytest.raises(SampleRejected) as caught:
        spin_box(bbox, (640, 480))
    assert caught.value.reason == "degenerate_box" and "640x480" in str(caught.value)


@settings(deadline=None)
@given(x=st.floats(-50, 600), y=st.floats(-50, 400), w=sizes, h=sizes)
def test_spins_boxes_are_square_and_keep_the_centre(x, y, w, h):
    try:
        box = spin_box((x, y, w, h), (640, 480))
    except SampleRejected:
        return
    assert box[2] == box[3] == pytest.approx(1.2 * max(w, h))
    assert box[:2] + box[2:] / 2 == pytest.approx([x + w / 2, y + h / 2])


def test_the_crop_says_which_rule():
    person = ((50, 20, 40, 100), (640, 480))
    assert (person_box(*person, CropSpec(256, 192)) == processed_box(*person, (256, 192))).all()
    assert (person_box(*person, CropSpec(224, 224, "spin")) == spin_box(*person)).all()
