"""A sample's window: whole numbers that lose nothing, and no trace of one where the photograph is whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.sample import Sample, Window

WINDOW = Window(left=10, top=4, width=60, height=30, stored_width=20, stored_height=15)


def sample(**changes) -> Sample:
    values = {"key": "a", "dataset": "d", "image_path": "a.jpg", "width": 100, "height": 50, "instances": ()}
    return Sample(**values | changes)


def test_a_whole_photograph_says_nothing_of_windows() -> None:
    whole = sample()
    assert "window" not in json.loads(whole.to_bytes()) and whole.stored_wh == (100, 50)
    assert Sample.from_bytes(whole.to_bytes()) == whole


def test_a_window_survives_the_shard_and_stays_inside_the_photograph() -> None:
    part = sample(window=WINDOW)
    assert Sample.from_bytes(part.to_bytes()) == part and part.stored_wh == (20, 15)
    for outside in ({"left": 41}, {"top": 21}):
        with pytest.raises(ValidationError, match="leaves the photograph of 100x50"):
            sample(window=WINDOW.model_copy(update=outside))


@given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 500))
def test_stored_pixels_share_the_window_s_edges(left: int, width: int, stored: int) -> None:
    """A pixel reaches half a pixel to either side of its centre: the outer edges of both images are one."""
    window = Window(left=left, top=0, width=width, height=1, stored_width=stored, stored_height=1)
    (step, _), (origin, _) = window.step, window.origin
    assert origin - 0.5 * step == pytest.approx(left - 0.5)
    assert origin + step * (stored - 0.5) == pytest.approx(left + width - 0.5)
