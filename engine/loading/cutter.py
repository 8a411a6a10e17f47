"""The pixels of a batch: every sample's image decoded once, or the part of it that is looked at, and its persons' crops cut from it.

Worker threads share one cutter; each has its own decoder and canvas. Shapes: B instances of a batch, K usable ones of a sample.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np

from engine.errors import ConfigError, SampleRejected
from engine.loading.augmentation import AugmentConfig
from engine.loading.canvas import Canvas
from engine.loading.crops import WINDOW, looked_at, onto_stored, widest
from engine.loading.decode import Box, Decoder, Part, size_problem
from engine.loading.image_cache import ImageCache
from engine.loading.sources import Source
from schemas.crops import CropSpec

_DECODED_TOGETHER = 32
"""Images in one run of the decoder."""

Key = tuple[int, int]
"""Of a sample: number of its source, number in the source."""


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
        windows_B = self._windows(places, rows_B)
        affine_B23 = onto_stored(affine_B23, windows_B)
        looked_B4 = looked_at(affine_B23, self._crop.hw).tolist()
        boxes: dict[Key, Box] = {}
        for key, at in places.items():
            lefts, tops, rights, bottoms = zip(*(looked_B4[place] for place in at), strict=True)
            boxes[key] = (min(lefts), min(tops), max(rights), max(bottoms))
        canvas = self._canvas()
        for key, part in self._decoded(boxes):
            expected_wh = tuple(windows_B["stored_wh"][places[key][0]].tolist())
            problem = part if isinstance(part, SampleRejected) else size_problem(part.image_wh, expected_wh)
            if problem is not None:
                rejected[key] = problem
                continue
            canvas.lay(part)
            for place in places[key]:
                if rows_B["usable"][place]:
                    canvas.cut(affine_B23[place], crops_BHW3[place], None if gains_B3 is None else gains_B3[place])
        return crops_BHW3, rejected

    def _windows(self, places: dict[Key, list[int]], rows_B: np.ndarray) -> np.ndarray:
        """(B,) WINDOW records. ConfigError where a person crop may be too narrow."""
        windows_B = np.zeros(len(rows_B), dtype=WINDOW)
        windows_B["stored_wh"], windows_B["step"] = rows_B["image_wh"], 1
        crops = []
        for (source, sample), at in places.items():
            if (window := self._sources[source].window(sample)) is not None:
                windows_B[at] = window
                crops.extend((place, source, sample) for place in at)
        if not crops:
            return windows_B
        widest_B4, kept_B4 = widest(rows_B["box"], self._augment), windows_B["kept"]
        narrow_B = ((widest_B4[:, :2] < kept_B4[:, :2]) | (widest_B4[:, 2:] > kept_B4[:, 2:])).any(1) & rows_B["usable"]
        for place, source, sample in crops:
            if narrow_B[place]:
                a, name = self._augment, f"person crop {self._sources[source].key(sample)} of {self._sources[source].config.url}"
                raise ConfigError(
                    f"loading: {name} is narrower than what boxes of rule '{self._crop.box_rule}' may look at: scale {a.scale}, "
                    f"rotation_deg {a.rotation_deg} and shift {a.shift}; ingest with a larger person_crops.margin, or weaken augment"
                )
        return windows_B

    def _decoded(self, boxes: dict[Key, Box]) -> Iterator[tuple[Key, Part | SampleRejected]]:
        """Every sample with its pixels, or as many of them as are looked at, valid until the next one is asked for."""
        missing = list(boxes)
        if self._images is not None:
            kept = {key: image for key in boxes if (image := self._images.get(key)) is not None}
            missing = [key for key in boxes if key not in kept]
            for key, image in kept.items():
                yield key, Part(image, (0, 0), (image.shape[1], image.shape[0]))
        for start in range(0, len(missing), _DECODED_TOGETHER):
            chunk = missing[start : start + _DECODED_TOGETHER]
            images = [self._sources[source].image(sample) for source, sample in chunk]
            parts = self._decoder().decode_parts(images, [boxes[key] for key in chunk] if self._images is None else None, copy=False)
            for key, part in zip(chunk, parts, strict=True):
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
