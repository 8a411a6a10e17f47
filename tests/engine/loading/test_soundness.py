from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RawDataError
from engine.loading.instances import INSTANCE
from engine.loading.soundness import SourceWatch, withdraw_nonfinite, withdraw_targets

FLOATS = [name for name in INSTANCE.names if INSTANCE[name].base.kind == "f"]


@settings(deadline=None)
@given(st.sampled_from(FLOATS), st.integers(0, 3), st.integers(0, 98), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_record_with_a_number_that_is_none_is_emptied_and_named(field: str, position: int, offset: int, bad: float) -> None:
    rows = np.ones(4, dtype=INSTANCE)
    expected = rows.copy()
    cells = rows[field].reshape(4, -1)
    cells[position, offset % cells.shape[1]] = bad
    assert withdraw_nonfinite(rows, list("abcd")) == {"abcd"[position]: f"{field} has a number that is not finite"}
    others = [i for i in range(4) if i != position]
    assert (rows[others] == expected[others]).all()
    emptied = rows[position]
    assert not emptied["usable"] and emptied["box"].tolist() == [0, 0, 1, 1] and emptied["image_wh"].tolist() == [1, 1]
    assert all(not emptied[name].any() for name in INSTANCE.names if name not in ("box", "image_wh"))


def test_sound_records_stay_as_they_are() -> None:
    rows = np.ones(2, dtype=INSTANCE)
    assert withdraw_nonfinite(rows, ["a", "b"]) == {}
    assert (rows == np.ones(2, dtype=INSTANCE)).all()


def test_targets_that_overflowed_are_zeroed_with_their_masks() -> None:
    targets = {"joint_img": np.ones((3, 33, 3), np.float32), "joint_trunc": np.ones((3, 33), np.float32)}
    assert withdraw_targets(targets, list("abc")) == {}
    targets["joint_img"][1, 5, 0] = np.inf
    assert withdraw_targets(targets, list("abc")) == {"b": "joint_img has a number that is not finite"}
    for values in targets.values():
        assert not values[1].any() and (values[[0, 2]] == 1).all()
    targets["joint_img"][2, 7, 1] = -1e22  # its square would overflow
    assert withdraw_targets(targets, list("abc")) == {"c": "joint_img has a number that is beyond 1e+06"}
    assert not targets["joint_trunc"][2].any() and (targets["joint_img"][0] == 1).all()


def test_a_source_without_one_usable_person_stops_the_run() -> None:
    watch = SourceWatch("wild (file:///wild)", 3)
    for _ in range(5):
        watch.met("wild/a/1", False, "its image is broken")
    watch.met("wild/b/1", False, "x")
    with pytest.raises(RawDataError, match=r"first 3 persons of wild \(file:///wild\) none can be used; the first, wild/a/1: its image"):
        watch.met("wild/c/1", False, "y")
    kind = SourceWatch("wild", 3)
    kind.met("a", True, "")
    for name in "bcdef":
        kind.met(name, False, "x")
