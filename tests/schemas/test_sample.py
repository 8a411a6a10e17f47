"""What a sample says only where there is something to say: its window, and joints of a universal skeleton."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.sample import Instance, Sample, Window
from schemas.skeletons import H36M17, MI17

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


def person(**changes) -> Instance:
    values = {"annotation_id": "1", "bbox_xywh": (0, 0, 9, 9), "skeleton": "mi17", "joints_img": [(1, 2)] * 17, "joints_valid": [True] * 17}
    return Instance(**values | changes)


def test_joints_of_a_universal_skeleton_survive_the_shard_and_leave_no_trace_where_there_are_none() -> None:
    known = sample(instances=[person(joints_univ=[(0.0, 1.0, 2.0)] * 17), person()])
    first, second = json.loads(known.to_bytes())["instances"]
    assert first["joints_univ"] == [[0, 1, 2]] * 17 and "joints_univ" not in second
    assert Sample.from_bytes(known.to_bytes()) == known
    with pytest.raises(ValidationError, match="joints_univ has 16 rows, skeleton mi17 has 17 joints"):
        person(joints_univ=[(0.0, 1.0, 2.0)] * 16)


def test_mi17_is_mpi_infs_order_and_shares_every_joint_with_h36m17() -> None:
    names = (
        "Head_top Neck R_Shoulder R_Elbow R_Wrist L_Shoulder L_Elbow L_Wrist R_Hip R_Knee R_Ankle L_Hip L_Knee L_Ankle Pelvis Torso Head"
    )
    assert list(MI17.joints) == names.split() and set(MI17.joints) == set(H36M17.joints) and MI17.root == "Pelvis"
