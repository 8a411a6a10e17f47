"""What crop of a person a network wants: how the loading path and every user of it are told, without knowing the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

BoxRule = Literal["pose2pose", "spin"]
"""How an annotated box becomes the cropped one. 'pose2pose': cut to the image, given the crop's aspect, x 1.25. 'spin': the square
about its centre with 1.2 times its longer side, wherever the image ends."""


@dataclass(frozen=True)
class CropSpec:
    """Size of a crop in pixels, and the rule that makes its box. ValueError for an unknown rule, or 'spin' with an oblong crop."""

    height: int
    width: int
    box_rule: BoxRule = "pose2pose"

    def __post_init__(self) -> None:
        if self.box_rule not in get_args(BoxRule):
            raise ValueError(f"box_rule {self.box_rule!r}: expected one of {', '.join(get_args(BoxRule))}")
        if self.box_rule == "spin" and self.height != self.width:
            raise ValueError(f"box_rule 'spin' makes square boxes, found a crop of {self.height}x{self.width} pixels; make it square")

    @property
    def hw(self) -> tuple[int, int]:
        return self.height, self.width
