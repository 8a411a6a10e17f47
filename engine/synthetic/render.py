"""Scene -> picture, and what of each person can be seen in it.

Every person is rasterised at twice the resolution, painted by place on the rest pose, lit by one sun and the sky, darkened in
creases and behind limbs, and laid over the background from far to near.

Shapes: H, W image; P persons; V vertices; Q covered pixels at twice the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.synthetic.atlas import Atlas
from engine.synthetic.outfits import paint, thickness
from engine.synthetic.rasterizer import Fragments, rasterize
from engine.synthetic.scene import Cover, Light, Scene
from engine.synthetic.seats import seat_under

_FINE = 2
"""Samples a pixel in each direction."""


@dataclass(frozen=True)
class Picture:
    """A rendered scene. `owner_HW`: index of the person seen at a pixel, -1 the background, -2 a thing in front.

    `depth_HW`: depth of the nearest person's surface (m), inf where there is none. `covered_P`: pixels each person would have
    without the others; `seen_P`: pixels each really has.
    """

    image_HW3: np.ndarray
    owner_HW: np.ndarray
    depth_HW: np.ndarray
    covered_P: np.ndarray
    seen_P: np.ndarray

    def sees(self, person: int, pixels_J2: np.ndarray, depth_J: np.ndarray, tolerance_m: float = 0.16) -> np.ndarray:
        """Which points inside the body of a person lie in the picture right behind that person's visible surface, (J,) bool."""
        height, width = self.owner_HW.shape
        column, row = np.rint(pixels_J2).astype(int).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
        return inside & (self.owner_HW[row, column] == person) & (depth_J - self.depth_HW[row, column] < tolerance_m)


def render(scene: Scene, atlas: Atlas, rng: np.random.Generator) -> Picture:
    """The picture of a scene; `rng` only makes the sensor's noise."""
    height, width = scene.hw
    image = scene.place.picture(scene.camera, scene.hw)
    world_PV3 = scene.cast.bodies.vertices_PV3 + scene.transl_P3[:, None]
    for vertices in world_PV3:
        image *= _shadow(vertices, scene)[..., None]
    owner, depth = np.full(scene.hw, -1, np.int16), np.full(scene.hw, np.inf, np.float32)
    covered = np.zeros(len(world_PV3), np.int64)
    order = np.argsort(-scene.camera.to_camera(world_PV3.mean(1))[:, 2], kind="stable")
    for p in order:
        layer = _person(scene, atlas, int(p), world_PV3[p])
        if layer is None:
            continue
        image[layer.box] = image[layer.box] * (1 - layer.alpha[..., None]) + layer.colour
        solid, seat = layer.body > 0.5, layer.alpha - layer.body > 0.5
        owner[layer.box][solid], owner[layer.box][seat] = p, -2
        depth[layer.box][solid] = layer.depth[solid]
        covered[p] = int(solid.sum())
    for cover in scene.covers:
        _lay_cover(image, owner, cover)
    if scene.blur_px > 0:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur_px)
    image = image * (255 * scene.exposure) + rng.standard_normal((height, width, 1), dtype=np.float32) * scene.noise
    seen = np.array([(owner == p).sum() for p in range(len(world_PV3))])
    return Picture(np.clip(np.rint(image), 0, 255).astype(np.uint8), owner, depth, covered, seen)


@dataclass(frozen=True)
class _Layer:
    """A person (and seat) over a part of the picture: premultiplied colour, coverage by both and by the body alone, the body's depth."""

    box: tuple[slice, slice]
    colour: np.ndarray
    alpha: np.ndarray
    body: np.ndarray
    depth: np.ndarray


def _person(scene: Scene, atlas: Atlas, p: int, vertices_V3: np.ndarray) -> _Layer | None:
    """One dressed person; None outside the picture or too near."""
    outfit, camera = scene.cast.actors[p].outfit, scene.camera
    normals_V3, faces_F3 = atlas.normals(vertices_V3), atlas.faces_F3
    shown_V3, rest_V3 = vertices_V3 + normals_V3 * thickness(outfit, atlas)[:, None], atlas.rest_V3
    if (seat := seat_under(atlas, vertices_V3)) is not None:
        faces_F3 = np.concatenate([faces_F3, seat.faces_F3 + len(shown_V3)])
        shown_V3, rest_V3 = np.concatenate([shown_V3, seat.vertices_V3]), np.concatenate([rest_V3, np.zeros_like(seat.vertices_V3)])
        normals_V3 = np.concatenate([normals_V3, seat.normals_V3])
    shown_V3 = camera.to_camera(shown_V3)
    if shown_V3[:, 2].min() < 0.3:
        return None
    pixels_V2 = camera.to_pixels(shown_V3)
    left, top = np.clip(np.floor(pixels_V2.min(0)).astype(int) - 1, 0, (scene.hw[1], scene.hw[0]))
    right, bottom = np.clip(np.ceil(pixels_V2.max(0)).astype(int) + 2, 0, (scene.hw[1], scene.hw[0]))
    if right <= left or bottom <= top:
        return None
    hw = (bottom - top, right - left)
    fine_hw = (hw[0] * _FINE, hw[1] * _FINE)
    seen = rasterize((pixels_V2 - (left, top) + 0.5) * _FINE - 0.5, shown_V3[:, 2], faces_F3, fine_hw)
    if len(seen.face_P) == 0:
        return None
    values_Q6 = seen.interpolate(np.concatenate([rest_V3, normals_V3], 1).astype(np.float32), faces_F3)
    is_body = seen.face_P < len(atlas.faces_F3)
    albedo_Q3 = np.where(is_body[:, None], paint(outfit, atlas, values_Q6[:, :3]), scene.seat_colour)
    person_px = camera.focal[1] * 1.7 / np.median(shown_V3[:, 2]) * _FINE
    lit_Q3 = albedo_Q3 * _shade(scene.light, values_Q6[:, 3:]) * _crease(seen, fine_hw, person_px)[:, None]
    fine, depth = np.zeros((*fine_hw, 4), np.float32), np.full(fine_hw, np.inf, np.float32)
    fine[seen.row_P, seen.column_P, :3], fine[seen.row_P, seen.column_P, 3] = lit_Q3, 1
    coarse = cv2.resize(fine, hw[::-1], interpolation=cv2.INTER_AREA)
    body = np.zeros(fine_hw, np.float32)
    body[seen.row_P[is_body], seen.column_P[is_body]] = 1
    depth[seen.row_P[is_body], seen.column_P[is_body]] = seen.depth_P[is_body]
    nearest = np.minimum.reduce([depth[i::_FINE, j::_FINE] for i in range(_FINE) for j in range(_FINE)])
    box = (slice(top, bottom), slice(left, right))
    return _Layer(box, coarse[..., :3], coarse[..., 3], cv2.resize(body, hw[::-1], interpolation=cv2.INTER_AREA), nearest)


def _shade(light: Light, normals_Q3: np.ndarray) -> np.ndarray:
    normals = normals_Q3 / np.maximum(np.linalg.norm(normals_Q3, axis=1, keepdims=True), 1e-6)
    sun = np.clip((normals @ light.direction.astype(np.float32) + 0.15) / 1.15, 0, 1)[:, None]
    sky = 0.5 + 0.5 * normals[:, 1:2]
    return (sun * light.colour + sky * light.above + (1 - sky) * light.below).astype(np.float32)


def _crease(seen: Fragments, hw: tuple[int, int], person_px: float) -> np.ndarray:
    """Darkening of what lies behind its surroundings: (Q,) factor. It parts an arm from the shirt of the same colour behind it."""
    depth, mask = np.zeros(hw, np.float32), np.zeros(hw, np.float32)
    depth[seen.row_P, seen.column_P], mask[seen.row_P, seen.column_P] = seen.depth_P, 1
    size = max(3, int(person_px * 0.045) | 1)
    around = cv2.blur(depth, (size, size)) / np.maximum(cv2.blur(mask, (size, size)), 1e-6)
    behind = seen.depth_P - around[seen.row_P, seen.column_P]
    return 1 - 0.55 * np.clip(behind / 0.07 - 0.1, 0, 1)


def _shadow(vertices_V3: np.ndarray, scene: Scene) -> np.ndarray:
    """Soft shadow on the ground: (H, W) factor."""
    height, width = scene.hw
    shrink = 4
    sun = scene.light.direction
    on_ground = vertices_V3[::2] - sun * (vertices_V3[::2, 1] / max(sun[1], 0.3))[:, None]
    seen = scene.camera.to_camera(on_ground)
    seen = seen[seen[:, 2] > 0.3]
    column, row = np.rint(scene.camera.to_pixels(seen) / shrink).astype(int).T
    small = np.zeros((height // shrink + 1, width // shrink + 1), np.float32)
    inside = (column >= 0) & (column < small.shape[1]) & (row >= 0) & (row < small.shape[0])
    small[row[inside], column[inside]] = 1
    small = cv2.GaussianBlur(cv2.dilate(small, np.ones((2, 2), np.uint8)), (0, 0), 0.8)
    strength = 0.25 + 0.35 * min(1.0, float(scene.light.colour.mean()))
    return 1 - strength * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _lay_cover(image: np.ndarray, owner: np.ndarray, cover: Cover) -> None:
    height, width = owner.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns - cover.centre[0], rows - cover.centre[1]
    c, s = np.cos(cover.turn), np.sin(cover.turn)
    u, v = np.abs(c * x + s * y) / cover.half_size[0], np.abs(-s * x + c * y) / cover.half_size[1]
    radius = (u**cover.power + v**cover.power) ** (1 / cover.power)
    alpha = np.clip((1 - radius) * cover.half_size.min() + 0.5, 0, 1)[..., None].astype(np.float32)
    mix = np.clip((-s * x + c * y) / cover.half_size[1] * 0.5 + 0.5, 0, 1)[..., None]
    colour = cover.colours[0] + (cover.colours[1] - cover.colours[0]) * mix
    image *= 1 - alpha
    image += (colour * alpha).astype(np.float32)
    owner[alpha[..., 0] > 0.5] = -2
