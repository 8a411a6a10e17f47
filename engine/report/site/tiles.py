"""What the gallery and the view of a person show, drawn for a thousand persons at a time and written as it comes.

    thumbs/NNNN.jpg      sheets of 5 x 4 tiles, the persons of the site in its order; thumbs/b-NNNN.jpg those of the other release
    photos/NNN/NNN.jpg   the photograph around each person

Shapes: C persons of a chunk, V vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.body.smpl import Body
from engine.evaluation.meshes import mesh
from engine.report.overlay import encode_jpeg
from engine.report.render import Colour
from engine.report.site.drawing import TILE_PX, A, B, Window, cut, large, overlay, window_of
from engine.report.site.persons import vectors
from engine.report.site.photographs import Seen
from schemas.sample import Instance

CHUNK = 1000
COLUMNS, ROWS = 5, 4
A_SHEET = COLUMNS * ROWS
assert CHUNK % A_SHEET == 0, "a sheet must not lie in two chunks"
_BATCH = 64
File = tuple[str, bytes]


@dataclass(frozen=True)
class Bodies:
    """Meshes (C, V, 3) of a chunk in camera frame, metres, and their cameras."""

    vertices_CV3: np.ndarray
    focal_C2: np.ndarray
    princpt_C2: np.ndarray
    faces: np.ndarray


def pose(rows: pa.Table, body: Body) -> Bodies:
    """The bodies of some rows."""
    parameters = vectors(rows, "pose"), vectors(rows, "betas")
    parts = [mesh(body, *(p[i : i + _BATCH] for p in parameters)) for i in range(0, len(rows), _BATCH)]
    vertices = np.concatenate([np.empty((0, body.num_vertices, 3), np.float32), *parts])
    return Bodies(vertices + vectors(rows, "transl")[:, None], vectors(rows, "focal"), vectors(rows, "princpt"), body.faces)


class ChunkPictures:
    """Pictures of one chunk: hand it the persons one by one, in any order, then take its sheets."""

    def __init__(self, number: int, rows: pa.Table, body: Body, other: pa.Table | None, places: np.ndarray | None, crop_px: int) -> None:
        count = len(rows)
        self._number, self._crop_px = number, crop_px
        self._boxes = vectors(rows, "bbox_xywh")
        self._bodies = pose(rows, body)
        self._tiles = np.full((count, TILE_PX, TILE_PX, 3), 255, np.uint8)
        self._places = places
        self._other = None if other is None else pose(other, body)
        self._other_tiles = None if other is None else np.zeros_like(self._tiles)
        self.windows = np.zeros((count, 4), np.int32)
        self.photo_px = np.zeros(count, np.int32)
        """Side of each person's photograph on the site; 0 where there is none."""
        self.instances: list[Instance | None] = [None] * count

    def add(self, place: int, seen: Seen) -> Iterator[File]:
        """Draw one person; the files that are ready."""
        window = window_of(self._boxes[place], seen.image_wh)
        self.windows[place], self.instances[place] = window, seen.instance
        tile = cut(seen, window, TILE_PX)
        self._tiles[place] = self._over(tile, window, self._bodies, place, A)
        if self._other_tiles is not None:
            at = int(self._places[place])
            self._other_tiles[place] = tile if at < 0 else self._over(tile, window, self._other, at, B)
        if seen.image_HW3 is not None:
            self.photo_px[place] = size = min(self._crop_px, window[2] - window[0])
            yield photo_key(self._number * CHUNK + place), encode_jpeg(cut(seen, window, size), quality=82)

    def sheets(self) -> Iterator[File]:
        """The chunk's sheets of tiles."""
        for prefix, tiles in (("", self._tiles), ("b-", self._other_tiles)):
            for start in range(0, 0 if tiles is None else len(tiles), A_SHEET):
                number = (self._number * CHUNK + start) // A_SHEET
                yield f"thumbs/{prefix}{number:04d}.jpg", encode_jpeg(_sheet(tiles[start : start + A_SHEET]), quality=78)

    def drawn_large(self, place: int, seen: Seen) -> bytes:
        """The large drawing of a person."""
        b = self._bodies
        window: Window = window_of(self._boxes[place], seen.image_wh)
        return encode_jpeg(large(seen, window, b.vertices_CV3[place], b.faces, b.focal_C2[place], b.princpt_C2[place]), quality=85)

    def vertices(self, place: int) -> np.ndarray:
        """The mesh (V, 3) of a person in camera frame, metres."""
        return self._bodies.vertices_CV3[place]

    @staticmethod
    def _over(tile: np.ndarray, window: Window, bodies: Bodies, at: int, colour: Colour) -> np.ndarray:
        return overlay(tile, window, bodies.vertices_CV3[at], bodies.faces, bodies.focal_C2[at], bodies.princpt_C2[at], colour)


def photo_key(index: int) -> str:
    return f"photos/{index // CHUNK:03d}/{index % CHUNK:03d}.jpg"


def _sheet(tiles: np.ndarray) -> np.ndarray:
    blank = np.full((A_SHEET - len(tiles), TILE_PX, TILE_PX, 3), 255, np.uint8)
    grid = np.concatenate([tiles, blank]).reshape(ROWS, COLUMNS, TILE_PX, TILE_PX, 3)
    return grid.swapaxes(1, 2).reshape(ROWS * TILE_PX, COLUMNS * TILE_PX, 3)
