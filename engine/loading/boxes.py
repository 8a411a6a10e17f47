"""From an annotated person box to the box that is cropped, by the rule that a network was made for.

Boxes are (x, y, w, h) in pixels of the stored image. Pose2Pose's rule includes its loss of one pixel, because f's camera
is expressed in this box and pseudo-GT of others was made with the same. SPIN's rule is that of HMR, SPIN, PARE, PyMAF and METRO.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.errors import SampleRejected
from schemas.crops import CropSpec

ENLARGEMENT = 1.25
SPIN_ENLARGEMENT = 1.2
_ABSURD_PX = 1e6


def person_box(bbox_xywh: Sequence[float], image_wh: tuple[int, int], crop: CropSpec) -> np.ndarray:
    """Box (4,) float64 xywh px to crop, by the crop's rule. Raises SampleRejected 'degenerate_box' when nothing of it is in the image."""
    if not all(abs(v) < _ABSURD_PX for v in bbox_xywh):
        raise _degenerate(bbox_xywh, image_wh)
    if crop.box_rule == "spin":
        return spin_box(bbox_xywh, image_wh)
    return processed_box(bbox_xywh, image_wh, crop.hw)


def processed_box(bbox_xywh: Sequence[float], image_wh: tuple[int, int], crop_hw: tuple[int, int]) -> np.ndarray:
    """Box (4,) float64 xywh px to crop: clipped to the image, expanded about its centre to the crop's aspect, x 1.25.

    Raises SampleRejected 'degenerate_box' when nothing of the box is left inside the image.
    """
    x, y, w, h = (float(v) for v in bbox_xywh)
    image_w, image_h = image_wh
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(image_w - 1.0, x1 + max(0.0, w - 1.0)), min(image_h - 1.0, y1 + max(0.0, h - 1.0))
    if not (w * h > 0 and x2 > x1 and y2 > y1):
        raise _degenerate(bbox_xywh, image_wh)
    width, height = x2 - x1, y2 - y1
    centre_x, centre_y = x1 + 0.5 * width, y1 + 0.5 * height
    aspect = crop_hw[1] / crop_hw[0]
    width, height = max(width, height * aspect) * ENLARGEMENT, max(height, width / aspect) * ENLARGEMENT
    return np.array([centre_x - 0.5 * width, centre_y - 0.5 * height, width, height])


def spin_box(bbox_xywh: Sequence[float], image_wh: tuple[int, int]) -> np.ndarray:
    """Square box (4,) float64 xywh px about the annotated one's centre, 1.2 times its longer side; it may leave the image.

    Raises SampleRejected 'degenerate_box' when the annotated box has no area or does not touch the image.
    """
    x, y, w, h = (float(v) for v in bbox_xywh)
    image_w, image_h = image_wh
    if not (w > 0 and h > 0 and min(x + w, image_w) > max(x, 0) and min(y + h, image_h) > max(y, 0)):
        raise _degenerate(bbox_xywh, image_wh)
    side = SPIN_ENLARGEMENT * max(w, h)
    return np.array([x + 0.5 * (w - side), y + 0.5 * (h - side), side, side])


def _degenerate(bbox_xywh: Sequence[float], image_wh: tuple[int, int]) -> SampleRejected:
    x, y, w, h = bbox_xywh
    found = f"box x={x:g} y={y:g} w={w:g} h={h:g}"
    return SampleRejected("degenerate_box", f"{found} leaves nothing inside an image of {image_wh[0]}x{image_wh[1]} px")
