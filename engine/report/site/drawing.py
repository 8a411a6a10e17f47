"""Pictures of one person: the photograph around the box, a small overlay for the gallery, and a large drawing in advance.

Pictures are RGB uint8. Windows are (left, top, right, bottom) in the photograph's pixels, square. V vertices, F faces.
"""

from __future__ import annotations

import numpy as np

from engine.report.overlay import BACKGROUND, PALETTE, Figure, Person, cut_out, draw_keypoints, side_views, window_about
from engine.report.render import Colour, View, composite, render_mesh
from engine.report.site.photographs import Seen
from schemas.sample import Instance

TILE_PX = 144
A, B = PALETTE[0], PALETTE[1]
"""Colours of the release and of the one it is compared with."""
_OPACITY = 0.85
_LARGE_PX = 400
_UNSEEN_WH = (1 << 24, 1 << 24)
Window = tuple[int, int, int, int]


def window_of(bbox_xywh: np.ndarray, image_wh: tuple[int, int] | None) -> Window:
    """The square around a box, with a margin, as far as possible inside the photograph. Of a box that misses it, the whole photograph."""
    box = np.nan_to_num(np.asarray(bbox_xywh, np.float64), posinf=1e6, neginf=-1e6)
    if image_wh is not None:
        low, high = np.clip([box[:2], box[:2] + box[2:]], 0, image_wh)
        box = np.array([*low, *(high - low)]) if (high > low).all() else np.array([0, 0, *image_wh], np.float64)
    box[2:] = np.clip(box[2:], 1, 1e6)
    return window_about(box[None], image_wh or _UNSEEN_WH, 1.0)


def cut(seen: Seen, window: Window, size: int) -> np.ndarray:
    """The window of the photograph, `size` x `size`; plain ground where there is none."""
    if seen.image_HW3 is None:
        return np.full((size, size, 3), BACKGROUND, np.uint8)
    return cut_out(seen.image_HW3, window, size, size)


def overlay(
    picture: np.ndarray, window: Window, vertices_V3: np.ndarray, faces_F3: np.ndarray, focal, princpt, colour: Colour
) -> np.ndarray:
    """The mesh (camera frame, metres) over a picture of the window; the picture itself where the mesh cannot be drawn."""
    size = picture.shape[0]
    view = View(tuple(map(float, focal)), tuple(map(float, princpt)), size, size).window(*window, size, size)
    try:
        return composite(picture, render_mesh(vertices_V3, faces_F3, view, colour, samples=1), _OPACITY)
    except ValueError:
        return picture


def large(seen: Seen, window: Window, vertices_V3: np.ndarray, faces_F3: np.ndarray, focal, princpt) -> np.ndarray:
    """The photograph with the marked joints | the body over it | the body from the side."""
    photo = cut(seen, window, _LARGE_PX)
    over = overlay(photo, window, vertices_V3, faces_F3, focal, princpt, A)
    person = Person(vertices_V3, tuple(map(float, focal)), tuple(map(float, princpt)), seen.instance or _UNMARKED)
    side = side_views(Figure(photo, [person]), faces_F3, _LARGE_PX, _LARGE_PX)
    if seen.instance is not None:
        draw_keypoints(photo, seen.instance, window, A)
    return np.hstack([photo, over, side])


_UNMARKED = Instance(
    annotation_id="-", bbox_xywh=(0, 0, 1, 1), skeleton="coco17", joints_img=((0.0, 0.0),) * 17, joints_valid=(False,) * 17
)
