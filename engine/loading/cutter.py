"""The pixels of a batch: every sample's image decoded once, or the part of it that is looked at, and its persons' crops cut from it.

Worker threads share one cutter; each has its own decoder and canvas. Shapes: B instances of a batch, K usable ones of a sample.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from engine.errors import ConfigError, SampleRejected
from engine.loading.augmentation import AugmentConfig
from engine.loading.canvas import Canvas, looked_at
from engine.loading.crops import holds, onto_stored, widest
from engine.loading.decode import Box, Decoder, Part, size_problem
from engine.loading.image_cache import ImageCache
from engine.loading.sources import Source
from schemas.crops import CropSpec

_DECODED_TOGETHER = 8
"""Images in one run of the decoder: more fall out of the processor's cache before they are cropped, fewer pay for more runs."""

Key = tuple[int, int]
"""Of a sample: number of its source, number in the source."""


class _Cut(NamedTuple):
    """What is cut from one image: places in the batch, affines stored px -> crop px, and the part of the image that they look at."""

    places: list[int]
    affine_K23: np.ndarray
    stored_wh: tuple[int, int]
    looked_at: Box


class Cutter:
    """Cuts crops of one kind from the images of these sources. Safe to use from several threads."""

    def __init__(self, sources: Sequence[Source], crop: CropSpec, augment: AugmentConfig, cache_bytes: int) -> None:
        """`augment` is the widest that affines will be drawn from; `cache_bytes` bounds the decoded images kept, 0 keeps none."""
        self._sources, self._crop, self._augment = sources, crop, augment
        self._images = ImageCache(cache_bytes) if cache_bytes else None
        self._local = threading.local()

    def crops(
        self, places: dict[Key, list[int]], rows_B: np.ndarray, affine_B23: np.ndarray, gains_B3: np.ndarray | None
    ) -> tuple[np.ndarray, dict[Key, SampleRejected]]:
        """Crops (B, H, W, 3) uint8 of INSTANCE records, and the samples whose image cannot be used; their persons stay black.

        `places` are each sample's places in the batch, `affine_B23` maps photograph px to crop px, `gains_B3` are of the colours. Records
        that are not usable stay black too. ConfigError where a person crop may be too narrow for the augmentation.
        """
        crops_BHW3 = np.zeros((len(rows_B), *self._crop.hw, 3), dtype=np.uint8)
        rejected: dict[Key, SampleRejected] = {}
        canvas = self._canvas()
        cuts = {key: self._cut(key, at, rows_B, affine_B23) for key, at in places.items()}
        for key, part in self._decoded(cuts):
            cut = cuts[key]
            problem = part if isinstance(part, SampleRejected) else size_problem(part.image_wh, cut.stored_wh)
            if problem is not None:
                rejected[key] = problem
                continue
            canvas.lay(part)
            for place, affine_23 in zip(cut.places, cut.affine_K23, strict=True):
                canvas.cut(affine_23, crops_BHW3[place], None if gains_B3 is None else gains_B3[place])
        return crops_BHW3, rejected

    def _cut(self, key: Key, places: list[int], rows_B: np.ndarray, affine_B23: np.ndarray) -> _Cut:
        source, sample = self._sources[key[0]], key[1]
        stored_wh, window = tuple(rows_B["image_wh"][places[0]].tolist()), source.window(sample)
        places = [place for place in places if rows_B["usable"][place]]
        if window is not None:
            if not holds(window, stored_wh, widest(rows_B["box"][places], self._augment)):
                a, name = self._augment, f"person crop {source.key(sample)} of {source.config.url}"
                raise ConfigError(
                    f"loading: {name} is narrower than what boxes of rule '{self._crop.box_rule}' may look at: scale {a.scale}, "
                    f"rotation_deg {a.rotation_deg} and shift {a.shift}; ingest with a larger person_crops.margin, or weaken augment"
                )
            stored_wh = window.stored_width, window.stored_height
        if not places:
            return _Cut(places, affine_B23[:0], stored_wh, (0, 0, 1, 1))
        affine_K23 = onto_stored(affine_B23[places], window)
        return _Cut(places, affine_K23, stored_wh, looked_at(affine_K23, self._crop.hw))

    def _decoded(self, cuts: dict[Key, _Cut]) -> Iterator[tuple[Key, Part | SampleRejected]]:
        """Every sample with its pixels, or as many of them as its cut looks at, valid until the next one is asked for."""
        missing = list(cuts)
        if self._images is not None:
            kept = {key: image for key in cuts if (image := self._images.get(key)) is not None}
            missing = [key for key in cuts if key not in kept]
            for key, image in kept.items():
                yield key, Part(image, (0, 0), (image.shape[1], image.shape[0]))
        for start in range(0, len(missing), _DECODED_TOGETHER):
            chunk = missing[start : start + _DECODED_TOGETHER]
            images = [self._sources[source].image(sample) for source, sample in chunk]
            boxes = None if self._images is not None else [cuts[key].looked_at for key in chunk]
            for key, part in zip(chunk, self._decoder().decode_parts(images, boxes, copy=False), strict=True):
                if self._images is not None and not isinstance(part, SampleRejected):
                    self._images.put(key, part.pixels)
                yield key, part

    def _decoder(self) -> Decoder:
        if not hasattr(self._local, "decoder"):
            self._local.decoder = Decoder(threads=1, max_batch=_DECODED_TOGETHER)
        return self._local.decoder

    def _canvas(self) -> Canvas:
        if not hasattr(self._local, "canvas"):
            self._local.canvas = Canvas()
        return self._local.canvas
