"""Crops cut from one photograph after the other, at the least cost per person and with the pixels of `crops.warp`, bit for bit.

Three things are cheaper than they look. OpenCV warps four channels in half the time of three. Only the part of a photograph that its
crops look at need be decoded; it is laid where it belongs in a canvas of the photograph's size, so that the warp's arithmetic, and every
rounding in it, does not depend on which part that was. And colour gains as a matrix in fixed point are a seventh of the cost of a
table. One canvas a thread.

Shapes: (H, W) a crop, (h, w) a photograph.
"""

from __future__ import annotations

import cv2
import numpy as np

from engine.loading.crops import apply_gain
from engine.loading.decode import Part


class Canvas:
    """Holds one photograph at a time. Not for concurrent use."""

    def __init__(self) -> None:
        self._pixels = np.empty((0, 0, 4), np.uint8)
        self._cut = np.empty((0, 0, 4), np.uint8)
        self._photograph_hw4 = self._pixels

    def lay(self, part: Part) -> None:
        """Take the place of the photograph before. Crops must not look beyond the part."""
        (w, h), (x, y) = part.image_wh, part.corner_xy
        if self._pixels.shape[0] < h or self._pixels.shape[1] < w:
            held_h, held_w = self._pixels.shape[:2]
            self._pixels = np.empty((max(h, held_h), max(w, held_w), 4), np.uint8)
        self._photograph_hw4 = self._pixels[:h, :w]
        part_h, part_w = part.pixels.shape[:2]
        cv2.cvtColor(part.pixels, cv2.COLOR_RGB2RGBA, dst=self._photograph_hw4[y : y + part_h, x : x + part_w])

    def cut(self, affine_23: np.ndarray, out_HW3: np.ndarray, gain_3: np.ndarray | None = None) -> None:
        """Write a crop (H, W, 3) uint8: bilinear, black outside the photograph, channels multiplied by the gains."""
        H, W = out_HW3.shape[:2]
        if self._cut.shape[:2] != (H, W):
            self._cut = np.empty((H, W, 4), np.uint8)
        border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (0, 0, 0, 0)}
        cv2.warpAffine(self._photograph_hw4, affine_23, (W, H), dst=self._cut, flags=cv2.INTER_LINEAR, **border)
        cv2.cvtColor(self._cut, cv2.COLOR_RGBA2RGB, dst=out_HW3)
        if gain_3 is not None:
            apply_gain(out_HW3, gain_3)
