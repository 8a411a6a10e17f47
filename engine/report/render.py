"""Pictures of a mesh through a pinhole camera, without a display or a GPU: Embree casts one ray a sample, here it is shaded.

Rays start on a plane just before the mesh, because the virtual cameras of pseudo-GT stand 30 to 60 m away and Embree counts
in float32. Only pixels inside the mesh's projected box are cast.

Shapes: V vertices, F faces, R rays; frames and pixels as in schemas/sample.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

Colour = tuple[int, int, int]

_LIGHTS = ((np.array([-0.45, -0.65, -0.61]), 0.62), (np.array([0.75, 0.05, -0.66]), 0.26))
"""Directions towards the lights (camera frame) and their strengths: a key light from above left, a fill from the right."""
_AMBIENT = 0.24
_NEAR_M = 1e-3


@dataclass(frozen=True)
class View:
    """A pinhole camera and its picture's size in pixels."""

    focal: tuple[float, float]
    princpt: tuple[float, float]
    width: int
    height: int

    def window(self, left: int, top: int, right: int, bottom: int, width: int, height: int) -> View:
        """The camera of the picture's pixels [left, right) x [top, bottom), resized to `width` x `height`."""
        sx, sy = width / (right - left), height / (bottom - top)
        princpt = ((self.princpt[0] + 0.5 - left) * sx - 0.5, (self.princpt[1] + 0.5 - top) * sy - 0.5)
        return View((self.focal[0] * sx, self.focal[1] * sy), princpt, width, height)


@dataclass(frozen=True)
class Rendering:
    """A mesh's picture: straight (not premultiplied) RGBA, and depth along z in metres, inf where the mesh is not."""

    rgba: np.ndarray
    depth: np.ndarray


def project(points_V3: np.ndarray, view: View) -> np.ndarray:
    """Pixels of camera-frame points, (V, 2)."""
    points_V3 = np.asarray(points_V3, np.float64)
    return points_V3[:, :2] / points_V3[:, 2:] * np.asarray(view.focal) + np.asarray(view.princpt)


def render_mesh(vertices_V3: np.ndarray, faces_F3: np.ndarray, view: View, colour: Colour = (140, 180, 230), samples: int = 2) -> Rendering:
    """Smoothly shaded picture of one mesh in camera frame (metres); `samples` x `samples` rays a pixel.

    A mesh outside the picture or behind the camera gives an empty picture. ValueError if a vertex is not finite.
    """
    vertices = np.asarray(vertices_V3, np.float64)
    if not np.isfinite(vertices).all():
        raise ValueError("cannot render a mesh with vertices that are not finite")
    rgba, depth = np.zeros((view.height, view.width, 4), np.uint8), np.full((view.height, view.width), np.inf, np.float32)
    box = _covered_pixels(vertices, view)
    if box is None:
        return Rendering(rgba, depth)
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    u = (np.arange(left, right)[:, None] + offsets).ravel()
    v = (np.arange(top, bottom)[:, None] + offsets).ravel()
    hit_R, face_R, weights_R3, depth_R = _cast(vertices, np.asarray(faces_F3), u, v, view)
    colours = np.zeros((len(hit_R), 4))
    if len(face_R):
        colours[hit_R, :3] = _shade(vertices, np.asarray(faces_F3), face_R, weights_R3) * np.asarray(colour, np.float64)
        colours[hit_R, 3] = 255
    cells = (height, samples, width, samples)
    hits = hit_R.reshape(cells).sum(axis=(1, 3))
    some = np.maximum(hits, 1)
    sums = colours.reshape(*cells, 4).sum(axis=(1, 3))
    patch = np.concatenate([sums[..., :3] / some[..., None], sums[..., 3:] / samples**2], axis=2)
    rgba[top:bottom, left:right] = np.clip(np.rint(patch), 0, 255)
    depths = np.zeros(len(hit_R))
    depths[hit_R] = depth_R
    depth[top:bottom, left:right] = np.where(hits > 0, depths.reshape(cells).sum(axis=(1, 3)) / some, np.inf)
    return Rendering(rgba, depth)


def side_view(vertices_V3: np.ndarray, centre_3: np.ndarray | None = None) -> np.ndarray:
    """The mesh turned 90 degrees about the vertical through `centre_3` (default: its middle), as a camera to its right would see it.

    What is near the first camera comes to lie on the left of the picture, what is far on the right.
    """
    vertices = np.asarray(vertices_V3, np.float64)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2 if centre_3 is None else np.asarray(centre_3, np.float64)
    x, y, z = (vertices - centre).T
    return np.stack([z, y, -x], axis=1) + centre


def composite(image_HW3: np.ndarray, rendering: Rendering, opacity: float = 1.0) -> np.ndarray:
    """The rendering over an RGB uint8 picture of the same size."""
    alpha = rendering.rgba[..., 3:].astype(np.float32) / 255 * opacity
    return np.rint(image_HW3 * (1 - alpha) + rendering.rgba[..., :3] * alpha).astype(np.uint8)


def _covered_pixels(vertices: np.ndarray, view: View) -> tuple[int, int, int, int] | None:
    """Pixel range (left, top, right, bottom; ends excluded) the mesh can touch, or None."""
    if vertices[:, 2].max() <= _NEAR_M:
        return None
    if vertices[:, 2].min() <= _NEAR_M:
        return 0, 0, view.width, view.height
    pixels = project(vertices, view)
    left, top = np.clip(np.floor(pixels.min(axis=0)), 0, (view.width, view.height)).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, (view.width, view.height)).astype(int)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _cast(vertices: np.ndarray, faces: np.ndarray, u: np.ndarray, v: np.ndarray, view: View):
    """Which rays hit, and for those the face, the weights of its three corners and the depth (m)."""
    direction = np.empty((len(v), len(u), 3))
    direction[..., 0] = (u - view.princpt[0]) / view.focal[0]
    direction[..., 1] = ((v - view.princpt[1]) / view.focal[1])[:, None]
    direction[..., 2] = 1
    direction = direction.reshape(-1, 3)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    near = max(vertices[:, 2].min() - 0.1, _NEAR_M)
    scene = EmbreeScene()
    TriangleMesh(scene=scene, vertices=(vertices - centre).astype(np.float32), indices=faces.astype(np.int32))
    found = scene.run((direction * near - centre).astype(np.float32), direction.astype(np.float32), output=1)
    hit = found["primID"] >= 0
    a, b = found["u"][hit], found["v"][hit]
    return hit, found["primID"][hit], np.stack([1 - a - b, a, b], axis=1), near + found["tfar"][hit]


def _shade(vertices: np.ndarray, faces: np.ndarray, face_R: np.ndarray, weights_R3: np.ndarray) -> np.ndarray:
    """Brightness (R, 1) from interpolated vertex normals, turned to the camera so that open seams are not black."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], face_normals[:, axis], len(vertices))
    normal = (normals[faces[face_R]] * weights_R3[..., None]).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    towards_camera = -vertices[faces[face_R, 0]]
    normal *= np.where((normal * towards_camera).sum(axis=1, keepdims=True) < 0, -1, 1)
    light = sum(np.maximum(normal @ direction, 0) * strength for direction, strength in _LIGHTS)
    return np.minimum(_AMBIENT + light, 1.1)[:, None]
