"""JPEG and PNG bytes to RGB pixels with DALI, on the CPU or (device 'mixed') on the GPU; a bad image costs only itself.

DALI fails a whole batch for one bad image and its pipeline is dead afterwards. So headers are looked at first, and when a
batch still fails, the culprit is found (DALI often names its place in the batch; otherwise by halving), set aside, the
pipeline is built anew (1 ms) and the others are decoded again. Bytes are taken as stored: shards have EXIF orientation
settled, so DALI must not turn anything.

Where only a part of an image is wanted, only that part is decoded, with the pixels it has in the whole image, bit for bit. Rows below
it are not even read, which would hide that a file is cut short: an image without its end mark is therefore decoded whole.

The pipeline runs synchronously with one output buffer: measured, that is as fast as a bare libjpeg-turbo loop, while
the executors that hand out fresh memory lose 15 to 40 % to page faults.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from nvidia.dali import Pipeline, fn, pipeline_def, types
from PIL import Image

from engine.errors import SampleRejected
from engine.loading.image_header import MAX_PIXELS, ImageHeader, read_header

Decoded = np.ndarray | SampleRejected
Box = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels, the last two excluded."""

_CULPRIT = re.compile(r"Failed to decode sample #(\d+)")
_END_MARK = {"jpeg": b"\xff\xd9", "png": b"IEND"}


class Part(NamedTuple):
    """Pixels (h, w, 3) uint8 RGB of an image from a corner on, and the whole image's size, px."""

    pixels: np.ndarray
    corner_xy: tuple[int, int]
    image_wh: tuple[int, int]


@pipeline_def
def _whole_pipeline(device: str):
    encoded = fn.external_source(name="encoded", no_copy=True, batch=True, dtype=types.UINT8, ndim=1)
    return fn.decoders.image(encoded, device=device, output_type=types.RGB, dtype=types.UINT8, adjust_orientation=False)


@pipeline_def
def _part_pipeline(device: str):
    encoded = fn.external_source(name="encoded", no_copy=True, batch=True, dtype=types.UINT8, ndim=1)
    box = fn.external_source(name="box", batch=True, dtype=types.INT32, ndim=1)
    kind = {"device": device, "output_type": types.RGB, "dtype": types.UINT8, "adjust_orientation": False}
    return fn.decoders.image_slice(encoded, start=box[0:2], end=box[2:4], axes=(1, 0), **kind)


class _Failed(Exception):
    """A run of a pipeline failed."""


class _Wanted(NamedTuple):
    """An image to decode: all of it (box None) or a part."""

    data: bytes
    header: ImageHeader
    box: Box | None


class Decoder:
    """Decodes lists of images of any length. Not for concurrent use: one decoder a thread."""

    def __init__(
        self, threads: int = 1, max_batch: int = 32, device: Literal["cpu", "mixed"] = "cpu", max_pixels: int = MAX_PIXELS
    ) -> None:
        self.threads, self.max_batch, self.device, self.max_pixels = threads, max_batch, device, max_pixels
        self._pipelines: dict[bool, Pipeline] = {}

    def decode(self, images: list[bytes], copy: bool = True) -> list[Decoded]:
        """Pixels (H, W, 3) uint8 RGB of every image, in order, or the SampleRejected ('undecodable', 'too_large') in its place.

        With `copy=False`, and at most `max_batch` images, the arrays are views into DALI's buffer and die with the next call.
        """
        return [found if isinstance(found, SampleRejected) else found.pixels for found in self.decode_parts(images, None, copy)]

    def decode_parts(self, images: list[bytes], boxes: Sequence[Box] | None, copy: bool = True) -> list[Part | SampleRejected]:
        """The part of every image inside its box (None: all whole images), or the SampleRejected in its place; `copy` as in `decode`.

        A box is cut to its image; where nothing of it is left, the image's first pixel is returned.
        """
        if not copy and len(images) > self.max_batch:
            raise ValueError(f"{len(images)} images lent without a copy: at most max_batch={self.max_batch} at a time")
        results: list[Part | SampleRejected | None] = [None] * len(images)
        wanted: dict[int, _Wanted] = {}
        for i, data in enumerate(images):
            try:
                header = read_header(data, self.max_pixels)
            except SampleRejected as rejected:
                results[i] = rejected
                continue
            wanted[i] = _Wanted(data, header, None if boxes is None or _cut_short(data, header) else _inside(boxes[i], header))
        for parts in (False, True):
            good = [i for i, want in wanted.items() if (want.box is not None) is parts]
            for start in range(0, len(good), self.max_batch):
                self._decode_batch(wanted, good[start : start + self.max_batch], results, copy)
        return results

    def _decode_batch(self, wanted: dict[int, _Wanted], batch: list[int], results: list[Part | SampleRejected | None], copy: bool) -> None:
        while batch:
            try:
                pixels = self._run([wanted[i] for i in batch])
            except _Failed as error:
                self._require_health(wanted[batch[0]].box is not None, error)
                at = self._culprit([wanted[i] for i in batch], str(error))
                results[batch[at]] = _rejection(wanted[batch[at]])
                batch = batch[:at] + batch[at + 1 :]
                continue
            for i, array in zip(batch, pixels, strict=True):
                header, box = wanted[i].header, wanted[i].box
                corner_xy = (0, 0) if box is None else box[:2]
                results[i] = Part(array.copy() if copy else array, corner_xy, (header.width, header.height))
            return

    def _run(self, batch: list[_Wanted]) -> list[np.ndarray]:
        """Either all of a batch are parts, or none is. _Failed when one cannot be decoded; its pipeline is then dead and gone."""
        parts = batch[0].box is not None
        pipeline = self._pipeline(parts)
        pipeline.feed_input("encoded", [np.frombuffer(want.data, dtype=np.uint8) for want in batch])
        if parts:
            pipeline.feed_input("box", np.array([want.box for want in batch], dtype=np.int32))
        try:
            (output,) = pipeline.run()
        except RuntimeError as error:
            del self._pipelines[parts]
            raise _Failed(str(error)) from error
        if self.device != "cpu":
            output = output.as_cpu()
        return [np.asarray(output[i]) for i in range(len(batch))]

    def _pipeline(self, parts: bool) -> Pipeline:
        if parts not in self._pipelines:
            make = _part_pipeline if parts else _whole_pipeline
            built = make(
                self.device,
                batch_size=self.max_batch,
                num_threads=self.threads,
                device_id=None if self.device == "cpu" else 0,
                prefetch_queue_depth=1,
                exec_async=False,
                exec_pipelined=False,
            )
            built.build()
            self._pipelines[parts] = built
        return self._pipelines[parts]

    def _culprit(self, batch: list[_Wanted], message: str) -> int:
        """Position in a batch of an image that fails. `message` is of a failed run over the whole batch."""
        if (named := _CULPRIT.search(message)) and int(named.group(1)) < len(batch):
            return int(named.group(1))
        low, high = 0, len(batch)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails(batch[low:middle]):
                high = middle
            else:
                low = middle
        return low

    def _fails(self, batch: list[_Wanted]) -> bool:
        try:
            self._run(batch)
        except _Failed:
            return True
        return False

    def _require_health(self, parts: bool, error: Exception) -> None:
        """Nothing when a sound image can be decoded, so that the failure is an image's; else raises what is the machine's."""
        data = _sound_image()
        header = read_header(data)
        if self._fails([_Wanted(data, header, (0, 0, header.width, header.height) if parts else None)]):
            raise RuntimeError(f"DALI on device {self.device!r} cannot decode a sound image; the machine is at fault: {error}") from error


def size_problem(found_wh: tuple[int, int], expected_wh: tuple[int, int]) -> SampleRejected | None:
    """The rejection of an image that is not of the size its annotation was made on: its boxes and joints would lie."""
    if found_wh == expected_wh:
        return None
    (w, h), (found_w, found_h) = expected_wh, found_wh
    return SampleRejected("size_mismatch", f"annotated on {w}x{h} px, but the stored image has {found_w}x{found_h} px")


def _inside(box: Box, header: ImageHeader) -> Box:
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(box[2], header.width), min(box[3], header.height)
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, 1, 1)


def _cut_short(data: bytes, header: ImageHeader) -> bool:
    return _END_MARK[header.kind] not in data[-64:]


def _rejection(want: _Wanted) -> SampleRejected:
    header = want.header
    what = f"{header.kind} of {header.width}x{header.height} px, {len(want.data)} bytes, cannot be decoded"
    problem = "it is cut short (no end marker)" if _cut_short(want.data, header) else "its content is damaged"
    return SampleRejected("undecodable", f"{what}: {problem}")


@cache
def _sound_image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(buffer, "JPEG")
    return buffer.getvalue()
