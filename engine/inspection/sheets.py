"""Contact sheets of a source's own annotation: boxes and 2D joints, and beside them the 3D where there is any."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from engine.body.config import BodyConfig
from engine.body.smpl import Body, load_body
from engine.datasets.base import ImageSlice, ImageSource, VideoFrame
from engine.errors import ConfigError, LicensedFileMissing, SampleRejected
from engine.inspection.config import InspectConfig
from engine.inspection.drawing import BOX, ERROR, LEFT, MIDDLE, RIGHT, canvas, draw_flat, draw_solid
from engine.inspection.photographs import ImageBytes, Photograph
from engine.report.overlay import fitted
from engine.shards.images import ImageConfig, settle
from engine.shards.picture import Source
from engine.shards.sources import Reader
from schemas.sample import Instance

_INK, _PAPER, _QUIET = (31, 41, 55), (255, 255, 255), (229, 231, 235)
_GAP, _LINE = 6, 15
_LEGEND = (
    (BOX, "box"),
    (LEFT, "person's left (on the right of the picture, if they face the camera)"),
    (RIGHT, "person's right"),
    (MIDDLE, "middle"),
)
_SOLID_LEGEND = ((ERROR, "from a projected 3D joint to the annotated 2D joint"),)


def draw_sheets(
    photographs: Sequence[Photograph], whole: InspectConfig, persons_of: Callable[[Photograph], int], notes: list[str]
) -> Iterator[np.ndarray]:
    """Sheets of photographs in order, RGB. `persons_of`: how many persons are on one in all; what cannot be drawn is added to `notes`."""
    config, meshes = whole.sheet, _Meshes(whole.body)
    for start in range(0, len(photographs), config.images_a_sheet):
        part = photographs[start : start + config.images_a_sheet]
        solid = any(person.joints_cam or person.smpl for photograph in part for person in photograph.persons)
        cells = [_cell(photograph, whole, solid, meshes, persons_of(photograph)) for photograph in part]
        columns = min(len(cells), max(1, config.columns // 2) if solid else config.columns)
        tallest = max(len(cell) for cell in cells)
        cells = [np.pad(cell, ((0, tallest - len(cell)), (0, 0), (0, 0)), constant_values=255) for cell in cells]
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
        rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
        yield np.vstack(
            [_legend(rows[0].shape[1], (*_LEGEND, *(_SOLID_LEGEND if solid else ())), meshes.described if solid else ""), *rows]
        )
    notes.extend(meshes.notes)


class _Meshes:
    """SMPL parameters to meshes. Where the body of a gender is licensed and not there, its persons get no mesh, and a note says so."""

    def __init__(self, config: BodyConfig) -> None:
        self._config = config
        self._body: Body | None = None
        self.notes: list[str] = []

    @property
    def described(self) -> str:
        return "meshes: the open body, whose shape parameters mean something else than SMPL's" if self._config.kind == "open" else ""

    def __call__(self, person: Instance) -> tuple[np.ndarray, np.ndarray] | None:
        smpl = person.smpl
        if smpl is None:
            return None
        try:
            self._body = self._body or load_body(self._config)
            with torch.inference_mode():
                pose, betas, transl = (torch.tensor([values]) for values in (smpl.pose, smpl.betas, smpl.transl))
                vertices = self._body(pose, betas, transl, gender=smpl.gender).vertices_BV3[0].numpy()
        except (LicensedFileMissing, ConfigError) as error:
            if (note := f"gender {smpl.gender}: 3D joints are drawn in place of meshes: {error}") not in self.notes:
                self.notes.append(note)
            return None
        return (vertices, self._body.faces) if np.isfinite(vertices).all() else None


def _cell(photograph: Photograph, config: InspectConfig, solid: bool, mesh: _Meshes, persons: int) -> np.ndarray:
    side = config.sheet.cell_px
    name = photograph.image_path if photograph.window is None else f"{photograph.key} of {photograph.image_path}"
    caption = [name, _described(photograph, persons, photograph.size)]
    width = side * (1 + solid)
    try:
        image, problem = _decoded(photograph, config.images)
    except SampleRejected as rejected:
        strip = np.full((side, width, 3), _QUIET, np.uint8)
        caption.append(f"{rejected.reason}: {rejected}")
    else:
        if photograph.size is None:
            caption[1] = _described(photograph, persons, image.shape[1::-1])
        at = canvas(image, photograph.window, photograph.persons, side)
        pictures = [draw_flat(at, photograph.persons)]
        if solid:
            drawn, left_out = draw_solid(at, photograph.persons, mesh)
            pictures.append(drawn)
            problem += [f"{left_out} without 3D"] if left_out else []
        strip = np.hstack(pictures)
        caption += ["; ".join(problem)] if problem else []
    return np.pad(np.vstack([strip, _written(caption, width)]), ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=255)


def _described(photograph: Photograph, persons: int, size: tuple[int, int] | None) -> str:
    drawn = len(photograph.persons)
    skeletons = ", ".join(dict.fromkeys(person.skeleton for person in photograph.persons))
    pixels = "size not annotated" if size is None else f"{size[0]}x{size[1]} px"
    who = f"{drawn} person{'s' * (drawn != 1)}" if drawn == persons else f"{drawn} of {persons} persons"
    return f"{who}, {skeletons}, {pixels}"


def _decoded(photograph: Photograph, config: ImageConfig) -> tuple[np.ndarray, list[str]]:
    """The pixels as ingest would store them, and what ingest would reject although it can be shown. SampleRejected if it cannot."""
    image = photograph.image
    if isinstance(image, ImageBytes):
        return _pixels(image.data), []
    with Reader("/", config) as reader:
        found = reader.read(_source(image))
    if isinstance(found, np.ndarray):
        size = found.shape[1::-1]
        return found, [] if photograph.size in (None, size) else [f"size_mismatch: found {size[0]}x{size[1]} px"]
    try:
        return _pixels(settle(found, photograph.size, config).data), []
    except SampleRejected as rejected:
        if rejected.reason != "size_mismatch":
            raise
        return _pixels(settle(found, None, config).data), [f"size_mismatch: {rejected}"]


def _source(image: ImageSource) -> Source:
    path = str(image.path.absolute())
    if isinstance(image, ImageSlice):
        return Source("slice", path, image.offset, image.size)
    return Source("frame", path, image.frame) if isinstance(image, VideoFrame) else Source("file", path)


def _pixels(data: bytes) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data), formats=("JPEG", "PNG")).convert("RGB"))
    except UnidentifiedImageError:
        raise SampleRejected("image_undecodable", "no readable JPEG or PNG header") from None
    except Exception as error:  # a shard's image is not proved decodable here
        raise SampleRejected("image_undecodable", f"{type(error).__name__}: {error}") from None


def _written(lines: Sequence[str], width: int) -> np.ndarray:
    font = ImageFont.load_default(size=11)
    paper = Image.new("RGB", (width, 4 + _LINE * len(lines)), _PAPER)
    draw = ImageDraw.Draw(paper)
    for row, line in enumerate(lines):
        draw.text((2, 1 + _LINE * row), fitted(line, font, width - 4), fill=_INK, font=font)
    return np.asarray(paper)


def _legend(width: int, entries: Sequence[tuple[tuple[int, int, int], str]], remark: str) -> np.ndarray:
    """Swatches and what they mean, in as many lines as they take."""
    font = ImageFont.load_default(size=12)
    places: list[tuple[int, int]] = []
    x, y = _GAP, 4
    for _, text in (*entries, ((0, 0, 0), remark)):
        length = 22 + int(font.getlength(text)) + 14
        if x > _GAP and x + length > width:
            x, y = _GAP, y + 18
        places.append((x, y))
        x += length
    paper = Image.new("RGB", (width, y + 20), _PAPER)
    draw = ImageDraw.Draw(paper)
    for (colour, text), (left, top) in zip(entries, places, strict=False):
        draw.rectangle((left, top + 2, left + 14, top + 12), fill=colour, outline=_INK)
        draw.text((left + 20, top), fitted(text, font, width - left - 20), fill=_INK, font=font)
    draw.text(places[-1], fitted(remark, font, width - places[-1][0]), fill=_INK, font=font)
    return np.asarray(paper)
