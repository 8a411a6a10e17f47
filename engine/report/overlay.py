"""Contact sheets: for every image the photo with its keypoints, the meshes from the camera, and the meshes from the side.

A mesh that fits from the camera can still lean or kneel wrongly in depth, so the side view belongs to every overlay.

Shapes: V vertices, F faces, J joints; frames and pixels as in schemas/sample.py; pictures are RGB uint8.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.report.render import Colour, View, composite, render_mesh, side_view
from schemas.sample import Instance
from schemas.skeletons import SKELETONS

HOW_TO_READ = (
    "Left the photograph with its annotated 2D keypoints; in the middle the predicted meshes over it, from the camera; on the right "
    "each of the largest persons as seen from the right-hand side of the photograph, where mistakes in depth show: who faces the "
    "photographer looks to the left. Colours tell persons apart."
)
TRUTH_IS_GREY = " The grey figure beside a coloured one is the truth."
PALETTE: tuple[Colour, ...] = (
    (96, 165, 250),
    (251, 146, 60),
    (74, 222, 128),
    (244, 114, 182),
    (250, 204, 21),
    (167, 139, 250),
    (45, 212, 191),
    (248, 113, 113),
)
TRUTH_COLOUR: Colour = (190, 190, 190)
BACKGROUND, _INK = (246, 247, 249), (31, 41, 55)
_MAX_SIDE_VIEWS = 6
_SIDE_DISTANCE_M = 50.0
_OPACITY = 0.82
_FILL = 0.94


@dataclass(frozen=True)
class Shape:
    """A mesh with its own faces."""

    vertices_V3: np.ndarray
    faces_F3: np.ndarray


@dataclass(frozen=True)
class Person:
    """One mesh with the camera of the stored image, and what is annotated of that person."""

    vertices_V3: np.ndarray
    focal: tuple[float, float]
    princpt: tuple[float, float]
    instance: Instance
    truth: Shape | None = None
    """What is true of the person, drawn in grey beside the prediction's side view."""

    @property
    def depth_per_focal(self) -> float:
        """Depth as all persons of one photograph share it: virtual cameras differ a crop, depth over focal length does not."""
        return float(np.median(self.vertices_V3[:, 2])) / float(np.mean(self.focal))


@dataclass(frozen=True)
class Figure:
    """One row of a contact sheet."""

    image_HW3: np.ndarray
    persons: list[Person]
    caption: list[str] = field(default_factory=list)


def contact_sheet(figures: list[Figure], faces_F3: np.ndarray, columns: int = 2, tile: int = 260) -> np.ndarray:
    """All figures in a grid, each photo | from the camera | from the side, with its caption below. ValueError without figures."""
    if not figures:
        raise ValueError("a contact sheet needs at least one figure")
    cells = [_cell(figure, faces_F3, tile) for figure in figures]
    columns = min(columns, len(cells))
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def photo_and_overlay(figure: Figure, faces_F3: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the photo around its persons, with keypoints drawn, and the same part with all meshes, far ones first."""
    image_wh = figure.image_HW3.shape[1::-1]
    boxes = np.array([p.instance.bbox_xywh for p in figure.persons] or [(0, 0, *image_wh)])
    box = window_about(boxes, image_wh, width / height)
    photo = cut_out(figure.image_HW3, box, width, height)
    overlay = photo.copy()
    order = sorted(range(len(figure.persons)), key=lambda i: -figure.persons[i].depth_per_focal)
    for i in order:
        person = figure.persons[i]
        h, w = figure.image_HW3.shape[:2]
        view = View(person.focal, person.princpt, w, h).window(*box, width, height)
        overlay = composite(overlay, render_mesh(person.vertices_V3, faces_F3, view, PALETTE[i % len(PALETTE)]), _OPACITY)
    for i, person in enumerate(figure.persons):
        draw_keypoints(photo, person.instance, box, PALETTE[i % len(PALETTE)])
    return photo, overlay


def side_views(figure: Figure, faces_F3: np.ndarray, width: int, height: int) -> np.ndarray:
    """Persons as seen from their right in the picture, all at one scale, on plain ground; truth in grey behind its prediction.

    The six persons with the largest boxes, in as many rows as show them largest.
    """
    groups = [_turned(figure.persons[i], faces_F3, PALETTE[i % len(PALETTE)]) for i in _largest(figure.persons, _MAX_SIDE_VIEWS)]
    ground = np.full((height, width, 3), BACKGROUND, np.uint8)
    if not groups:
        return ground
    choices = []
    for row_count in range(1, len(groups) + 1):
        rows = [[shape for i in part for shape in groups[i]] for part in np.array_split(range(len(groups)), row_count)]
        tallest, widest = max(e[1] for row in rows for _, e, _ in row), max(sum(e[0] for _, e, _ in row) for row in rows)
        choices.append((min(_FILL * height / row_count / tallest, _FILL * width / widest), rows))
    pixels_per_m, rows = max(choices, key=lambda choice: choice[0])
    focal = pixels_per_m * _SIDE_DISTANCE_M
    for r, row in enumerate(rows):
        slack = (width - pixels_per_m * sum(extent[0] for _, extent, _ in row)) / len(row)
        left, middle = 0.0, (r + 0.5) * height / len(rows) - 0.5
        for shape, extent, colour in row:
            slot = pixels_per_m * extent[0] + slack
            view = View((focal, focal), (left + slot / 2 - 0.5, middle), width, height)
            ground = composite(ground, render_mesh(shape.vertices_V3, shape.faces_F3, view, colour))
            left += slot
    return ground


def encode_jpeg(image_HW3: np.ndarray, quality: int = 88) -> bytes:
    """JPEG bytes of an RGB picture."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _cell(figure: Figure, faces: np.ndarray, tile: int) -> np.ndarray:
    photo, overlay = photo_and_overlay(figure, faces, tile, tile)
    strip = np.hstack([photo, overlay, side_views(figure, faces, tile, tile)])
    font = ImageFont.load_default(size=13)
    below = Image.new("RGB", (strip.shape[1], 6 + 17 * max(len(figure.caption), 1)), (255, 255, 255))
    draw = ImageDraw.Draw(below)
    for row, line in enumerate(figure.caption):
        draw.text((4, 2 + 17 * row), fitted(line, font, strip.shape[1] - 8), fill=_INK, font=font)
    return np.pad(np.vstack([strip, np.asarray(below)]), ((6, 0), (6, 6), (0, 0)), constant_values=255)


def _largest(persons: list[Person], count: int) -> list[int]:
    area = [p.instance.bbox_xywh[2] * p.instance.bbox_xywh[3] for p in persons]
    return sorted(sorted(range(len(persons)), key=lambda i: -area[i])[:count])


def _turned(person: Person, faces: np.ndarray, colour: Colour) -> list[tuple[Shape, np.ndarray, Colour]]:
    """The person's mesh, and its truth if there is one, from the side: shape on the camera's axis, extent (m), colour."""
    shapes = []
    for shape, shade in ((Shape(person.vertices_V3, faces), colour), (person.truth, TRUTH_COLOUR)):
        if shape is not None:
            turned = side_view(shape.vertices_V3)
            low, high = turned.min(axis=0), turned.max(axis=0)
            shapes.append((Shape(turned - (low + high) / 2 + [0, 0, _SIDE_DISTANCE_M], shape.faces_F3), high - low, shade))
    return shapes


def fitted(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The line, cut to a width in pixels."""
    while font.getlength(line) > width:
        line = line[:-4] + "..."
    return line


def window_about(boxes_B4: np.ndarray, image_wh: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """Pixel range (left, top, right, bottom) around boxes with a margin, of the wanted aspect (width over height); may leave the image."""
    low, high = boxes_B4[:, :2].min(axis=0), (boxes_B4[:, :2] + boxes_B4[:, 2:]).max(axis=0)
    centre, size = (low + high) / 2, np.maximum((high - low) * 1.3, 8)
    size = np.maximum(size, (size[1] * aspect, size[0] / aspect))
    size = np.ceil(size)
    room = np.array(image_wh) - size
    corner = np.floor(centre - size / 2)
    corner = np.where(room >= 0, np.clip(corner, 0, np.maximum(room, 0)), corner)
    left, top, right, bottom = (int(c) for c in (*corner, *(corner + size)))
    return left, top, right, bottom


def cut_out(image: np.ndarray, box: tuple[int, int, int, int], width: int, height: int) -> np.ndarray:
    """The pixel range of an image resized to `width` x `height`; plain ground where it leaves the image."""
    left, top, right, bottom = box
    h, w = image.shape[:2]
    inside = image[max(top, 0) : min(bottom, h), max(left, 0) : min(right, w)]
    padding = (max(-top, 0), max(bottom - h, 0), max(-left, 0), max(right - w, 0))
    padded = cv2.copyMakeBorder(inside, *padding, cv2.BORDER_CONSTANT, value=BACKGROUND)
    return cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA if right - left > width else cv2.INTER_LINEAR)


def draw_keypoints(photo: np.ndarray, instance: Instance, box: tuple[int, int, int, int], colour: Colour) -> None:
    left, top, right, bottom = box
    scale = np.array([photo.shape[1] / (right - left), photo.shape[0] / (bottom - top)])
    pixels = (np.asarray(instance.joints_img) + 0.5 - (left, top)) * scale - 0.5
    points = [tuple(round(float(c)) for c in np.clip(p, -1e4, 1e4)) for p in pixels]
    for a, b in SKELETONS[instance.skeleton].bone_indices:
        if instance.joints_valid[a] and instance.joints_valid[b]:
            cv2.line(photo, points[a], points[b], colour, 1, cv2.LINE_AA)
    for point, valid in zip(points, instance.joints_valid, strict=True):
        if valid:
            cv2.circle(photo, point, 2, colour, -1, cv2.LINE_AA)
