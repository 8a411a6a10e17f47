"""One photograph with its annotation drawn on it, in the pixels that are stored.

The person's left is warm, their right is cold: of somebody who faces the camera, warm is on the right of the picture.
Shapes: J joints, V vertices; pictures are RGB uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from engine.report.overlay import PALETTE, cut_out, window_about
from engine.report.render import Colour, View, composite, render_mesh
from schemas.sample import Instance, Window
from schemas.skeleton import Skeleton
from schemas.skeletons import SKELETONS

LEFT, RIGHT, MIDDLE, BOX, ERROR = (255, 140, 32), (56, 152, 255), (245, 245, 245), (250, 220, 60), (236, 60, 200)
_EDGE: Colour = (20, 20, 20)
_OPACITY = 0.78
_REACH = 1e4
Mesh = Callable[[Instance], tuple[np.ndarray, np.ndarray] | None]
"""A person's vertices (V, 3) in the camera frame and its body's faces, or None where no mesh can be drawn."""


@dataclass(frozen=True)
class Canvas:
    """A square picture of the part of a photograph around its persons, and the way there from the photograph's pixels."""

    picture: np.ndarray
    region: tuple[int, int, int, int]
    """Stored pixels (left, top, right, bottom) that the picture shows."""
    window: Window | None

    @property
    def zoom(self) -> np.ndarray:
        """Picture pixels a stored pixel, in x and y."""
        left, top, right, bottom = self.region
        return np.array([self.picture.shape[1] / (right - left), self.picture.shape[0] / (bottom - top)])

    def place(self, points: np.ndarray) -> np.ndarray:
        """Picture pixels of points (..., 2) in the photograph's pixels, kept within what can be drawn."""
        stored = (np.asarray(points, np.float64) - self._origin) / self._step
        return np.clip((stored + 0.5 - self.region[:2]) * self.zoom - 0.5, -_REACH, _REACH)

    def size(self, person: Instance) -> float:
        """Larger side of a person's box in picture pixels."""
        return float((np.array(person.bbox_xywh[2:]) / self._step * self.zoom).max())

    def view(self, focal: tuple[float, float], princpt: tuple[float, float]) -> View:
        """The picture's camera from the photograph's."""
        focal_2, princpt_2 = np.asarray(focal) / self._step, (np.asarray(princpt) - self._origin) / self._step
        height, width = self.picture.shape[:2]
        return View(tuple(focal_2), tuple(princpt_2), width, height).window(*self.region, width, height)

    @property
    def _step(self) -> np.ndarray:
        return np.ones(2) if self.window is None else np.asarray(self.window.step)

    @property
    def _origin(self) -> np.ndarray:
        return np.zeros(2) if self.window is None else np.asarray(self.window.origin)


def canvas(image_HW3: np.ndarray, window: Window | None, persons: tuple[Instance, ...], side: int) -> Canvas:
    """The part of a stored image around its persons' boxes, as far as they are inside; all of it if none is."""
    height, width = image_HW3.shape[:2]
    whole = Canvas(image_HW3, (0, 0, width, height), window)
    corners = np.array([(b[:2], (b[0] + b[2], b[1] + b[3])) for b in (person.bbox_xywh for person in persons)]).reshape(-1, 2, 2)
    inside = np.clip(whole.place(corners), 0, (width, height))
    extent = inside[:, 1] - inside[:, 0]
    boxes = np.concatenate([inside[:, 0], extent], axis=1)[(extent > 1).all(1)]
    region = window_about(boxes, (width, height), 1.0) if len(boxes) else (0, 0, width, height)
    longest = max(width, height)
    if not len(boxes) or region[2] - region[0] > longest:
        left, top = (width - longest) // 2, (height - longest) // 2
        region = (left, top, left + longest, top + longest)
    return Canvas(cut_out(image_HW3, region, side, side), region, window)


def draw_flat(at: Canvas, persons: tuple[Instance, ...]) -> np.ndarray:
    """Boxes, bones between valid joints, and a dot for each of these."""
    picture = at.picture.copy()
    for person in persons:
        x, y, w, h = person.bbox_xywh
        low, high = (_pixel(p) for p in at.place(np.array([(x, y), (x + w, y + h)])))
        cv2.rectangle(picture, low, high, BOX, 1, cv2.LINE_AA)
    for person in persons:
        skeleton, size = SKELETONS[person.skeleton], at.size(person)
        _skeleton(picture, at.place(np.array(person.joints_img)), np.array(person.joints_valid), skeleton, size)
    return picture


def draw_solid(at: Canvas, persons: tuple[Instance, ...], mesh: Mesh) -> tuple[np.ndarray, int]:
    """The 3D through each person's camera, the farthest first: the mesh, else the 3D skeleton with thin lines to the 2D joints.

    Returns the picture and how many persons have nothing that can be drawn so.
    """
    picture, left_out = at.picture.copy(), 0
    found = [(person, mesh(person) if person.camera and person.smpl and person.smpl.pose_valid else None) for person in persons]
    depths = [_depth(person, made) for person, made in found]
    for i in np.argsort([-depth for depth in depths], kind="stable"):
        person, made = found[i]
        if person.camera is None or not np.isfinite(depths[i]):
            left_out += 1
            continue
        view = at.view(person.camera.focal, person.camera.princpt)
        if made is not None:
            picture = composite(picture, render_mesh(*made, view, PALETTE[i % len(PALETTE)]), _OPACITY)
        else:
            _projected(picture, at, person, view)
    return picture, left_out


def _projected(picture: np.ndarray, at: Canvas, person: Instance, view: View) -> None:
    cam_J3 = np.array(person.joints_cam)
    front_J = cam_J3[:, 2] > 1e-3
    depth_J1 = np.where(front_J, cam_J3[:, 2], 1.0)[:, None]
    pixels = np.clip(cam_J3[:, :2] / depth_J1 * view.focal + view.princpt, -_REACH, _REACH)
    flat = at.place(np.array(person.joints_img))
    _skeleton(picture, pixels, front_J, SKELETONS[person.skeleton], at.size(person), hollow=True)
    for j in np.flatnonzero(front_J & np.array(person.joints_valid)):
        if np.linalg.norm(pixels[j] - flat[j]) > 1.5:
            cv2.line(picture, _pixel(pixels[j]), _pixel(flat[j]), ERROR, 1, cv2.LINE_AA)


def _depth(person: Instance, made: tuple[np.ndarray, np.ndarray] | None) -> float:
    if made is not None:
        return float(np.median(made[0][:, 2]))
    return float("nan") if person.joints_cam is None else float(np.median(np.array(person.joints_cam)[:, 2]))


def _skeleton(
    picture: np.ndarray, pixels_J2: np.ndarray, drawn_J: np.ndarray, skeleton: Skeleton, size: float, hollow: bool = False
) -> None:
    thin = size < 90
    bones = [(a, b) for a, b in skeleton.bone_indices if drawn_J[a] and drawn_J[b]]
    for thick, edge in ((1, False),) if thin else ((4, True), (2, False)):
        for a, b in bones:
            colour = _EDGE if edge else side_colour(skeleton.joints[a], skeleton.joints[b])
            cv2.line(picture, _pixel(pixels_J2[a]), _pixel(pixels_J2[b]), colour, thick, cv2.LINE_AA)
    for j in np.flatnonzero(drawn_J):
        at = _pixel(pixels_J2[j])
        if not thin:
            cv2.circle(picture, at, 4, _EDGE, -1, cv2.LINE_AA)
        cv2.circle(picture, at, 1 if thin else 3, side_colour(skeleton.joints[j]), 1 if hollow else -1, cv2.LINE_AA)


def side_colour(*joints: str) -> Colour:
    """Of a joint, or of a bone by its two ends: LEFT, RIGHT, or MIDDLE where they are on both sides or on none."""
    sides = {joint[:2] for joint in joints} & {"L_", "R_"}
    return LEFT if sides == {"L_"} else RIGHT if sides == {"R_"} else MIDDLE


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
