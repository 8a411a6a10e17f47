"""Person crops: a sample for each person, holding only the part of the photograph that training can ever look at.

A small person costs a loader the decoding of the whole photograph; a crop costs its own pixels. The square kept about a person is wide
enough for every augmentation, and ends where the photograph ends, so that a training crop finds black exactly where it found black
before. Persons far larger than any network's crop are made smaller. Boxes, joints and cameras stay in the photograph's pixels (the
sample's `Window` says which of them are stored), so targets, releases and their cameras are those of the whole photograph.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import Field

from engine.config import Config
from engine.errors import SampleRejected
from engine.shards.images import loaded
from schemas.manifests import QuarantineRow
from schemas.sample import Sample, Window

_TALL = 4 / 3
"""Height over width of the crops that networks of the whole body see."""
_BORDER_PX = 2
"""Beyond the square: bilinear sampling reads one pixel more, and boxes lose one by Pose2Pose's rule."""

Crop = tuple[Sample, bytes, str]
"""A sample, the bytes of its image, and the file name's extension."""


class PersonCropConfig(Config):
    """What is kept of a photograph for each of its persons."""

    margin: float = Field(
        2.0,
        ge=1.8,
        le=8,
        description="side of the kept square over the person's size, which is the box's height or 4/3 of its width. The default scale and "
        "rotation need 1.96 with 4:3 boxes x 1.25, and 2.13 with SPIN's square boxes x 1.2; loading checks it. A ratio",
    )
    max_person_px: int | None = Field(
        205,
        ge=64,
        description="a larger person (size as above) is made this large. 205 is its size in a 256x192 crop (a box x 1.25 fills 256), so "
        "that such a crop is magnified by augmentation alone; 274 rules that out too; null keeps every pixel. Pixels",
    )
    quality: int = Field(85, ge=50, le=100, description="JPEG quality of the crops; colours at half resolution")


@dataclass(frozen=True)
class PersonCrops:
    """The crops of one photograph, and its persons that have none."""

    crops: tuple[Crop, ...]
    quarantine: tuple[QuarantineRow, ...]


def person_crops(sample: Sample, image: bytes, config: PersonCropConfig) -> PersonCrops:
    """A sample and JPEG bytes for every person of a whole photograph, in order. Same input, same bytes.

    The crop of person n of photograph K has the key `K-n`; dataset, image path and annotation id stay. SampleRejected 'image_undecodable'
    where the photograph cannot be decoded.
    """
    photograph = loaded(Image.open(io.BytesIO(image))).convert("RGB")
    crops, quarantine = [], []
    for number, person in enumerate(sample.instances):
        try:
            window = person_window(person.bbox_xywh, photograph.size, config)
        except SampleRejected as rejected:
            who = {"dataset": sample.dataset, "key": sample.key, "annotation_id": person.annotation_id}
            quarantine.append(QuarantineRow(**who, reason=rejected.reason, message=f"{sample.image_path}: {rejected}"))
            continue
        crop = sample.model_copy(update={"key": f"{sample.key}-{number}", "instances": (person,), "window": window})
        crops.append((crop, _encoded(photograph, window, config.quality), "jpg"))
    return PersonCrops(tuple(crops), tuple(quarantine))


def person_window(bbox_xywh: tuple[float, ...], photograph_wh: tuple[int, int], config: PersonCropConfig) -> Window:
    """The part of a photograph to keep for a box. SampleRejected 'degenerate_box' where the box misses the photograph.

    A box that leaves the photograph is cropped about its own centre or about that of its part inside, depending on the network; both
    squares are kept.
    """
    (width, height), (x, y, w, h) = photograph_wh, bbox_xywh
    left, top, right, bottom = max(0.0, x), max(0.0, y), min(x + w, width), min(y + h, height)
    if right <= left or bottom <= top:
        raise SampleRejected("degenerate_box", f"box x={x:g} y={y:g} w={w:g} h={h:g} misses the photograph of {width}x{height} px")
    size = max(h, w * _TALL)
    reach = 0.5 * config.margin * size + _BORDER_PX
    centres_x, centres_y = (x + w / 2, (left + right) / 2), (y + h / 2, (top + bottom) / 2)
    x0, y0 = max(0, math.floor(min(centres_x) - reach)), max(0, math.floor(min(centres_y) - reach))
    x1, y1 = min(width, math.ceil(max(centres_x) + reach) + 1), min(height, math.ceil(max(centres_y) + reach) + 1)
    zoom = 1.0 if config.max_person_px is None else min(1.0, config.max_person_px / size)
    stored = (max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom)))
    return Window(left=x0, top=y0, width=x1 - x0, height=y1 - y0, stored_width=stored[0], stored_height=stored[1])


def in_photograph(stored_hw3: np.ndarray, sample: Sample) -> np.ndarray:
    """The photograph (height, width, 3) uint8 as far as its sample stores it, black elsewhere: for pictures drawn in its pixels."""
    if sample.window is None:
        return stored_hw3
    w = sample.window
    part = Image.fromarray(stored_hw3).resize((w.width, w.height), Image.Resampling.BICUBIC)
    whole = np.zeros((sample.height, sample.width, 3), np.uint8)
    whole[w.top : w.top + w.height, w.left : w.left + w.width] = np.asarray(part)
    return whole


def _encoded(photograph: Image.Image, window: Window, quality: int) -> bytes:
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    part, stored_wh = photograph.crop(box), (window.stored_width, window.stored_height)
    if part.size != stored_wh:
        part = part.resize(stored_wh, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    part.save(out, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    return out.getvalue()
