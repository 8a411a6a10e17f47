"""From an annotated person box to the box that is cropped: put inside the image, given the crop's aspect, enlarged.

Boxes are (x, y, w, h) in pixels of the stored image. Pose2Pose's rules, its loss of one pixel included, because f's camera
is expressed in this box and pseudo-GT of others was made with the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.errors import SampleRejected

ENLARGEMENT = 1.25


def processed_box(bbox_xywh: Sequence[float], image_wh: tuple[int, int], crop_hw: tuple[int, int]) -> np.ndarray:
    """Box (4,) float64 xywh px to crop: clipped to the image, expanded about its centre to the crop's aspect, x 1.25.

    Raises SampleRejected 'degenerate_box' when nothing of the box is left inside the image.
    """
    x, y, w, h = (float(v) for v in bbox_xywh)
    image_w, image_h = image_wh
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(image_w - 1.0, x1 + max(0.0, w - 1.0)), min(image_h - 1.0, y1 + max(0.0, h - 1.0))
    if not (w * h > 0 and x2 > x1 and y2 > y1):
        found = f"box x={x:g} y={y:g} w={w:g} h={h:g}"
        raise SampleRejected("degenerate_box", f"{found} leaves nothing inside an image of {image_w}x{image_h} px")
    width, height = x2 - x1, y2 - y1
    centre_x, centre_y = x1 + 0.5 * width, y1 + 0.5 * height
    aspect = crop_hw[1] / crop_hw[0]
    width, height = max(width, height * aspect) * ENLARGEMENT, max(height, width / aspect) * ENLARGEMENT
    return np.array([centre_x - 0.5 * width, centre_y - 0.5 * height, width, height])
