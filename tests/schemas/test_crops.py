from __future__ import annotations

import pytest

from schemas.crops import CropSpec


def test_pose2poses_rule_unless_another_is_named() -> None:
    assert CropSpec(256, 192).hw == (256, 192)
    assert CropSpec(256, 192) == CropSpec(256, 192, "pose2pose") != CropSpec(256, 256, "spin")


def test_what_is_no_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        CropSpec(256, 192, "spin")
    with pytest.raises(ValueError, match="pose2pose, spin"):
        CropSpec(256, 256, "tight")
