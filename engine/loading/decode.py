"""JPEG and PNG bytes to RGB pixels with DALI, on the CPU or (device 'mixed') on the GPU; a bad image costs only itself.

DALI fails a whole batch for one bad image and its pipeline is dead afterwards. So headers are looked at first, and when a
batch still fails, the culprit is found (DALI often names its place in the batch; otherwise by halving), set aside, the
pipeline is built anew (1 ms) and the others are decoded again. Bytes are taken as stored: shards have EXIF orientation
settled, so DALI must not turn anything.

The pipeline runs synchronously with one output buffer: measured, that is as fast as a bare libjpeg-turbo loop, while
the executors that hand out fresh memory lose 15 to 40 % to page faults.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from engine.errors import SampleRejected
from engine.loading.image_header import MAX_PIXELS, ImageHeader, read_header

Decoded = np.ndarray | SampleRejected

_CULPRIT = re.compile(r"Failed to decode sample #(\d+)")


@pipeline_def
def _decode_pipeline(device: str):
    encoded = fn.external_source(name="encoded", no_copy=True, batch=True, dtype=types.UINT8, ndim=1)
    return fn.decoders.image(encoded, device=device, output_type=types.RGB, dtype=types.UINT8, adjust_orientation=False)


class Decoder:
    """Decodes lists of images of any length. Not for concurrent use: one decoder a thread."""

    def __init__(
        self, threads: int = 1, max_batch: int = 32, device: Literal["cpu", "mixed"] = "cpu", max_pixels: int = MAX_PIXELS
    ) -> None:
        self.threads, self.max_batch, self.device, self.max_pixels = threads, max_batch, device, max_pixels
        self._build()

    def _build(self) -> None:
        self._pipeline = _decode_pipeline(
            self.device,
            batch_size=self.max_batch,
            num_threads=self.threads,
            device_id=None if self.device == "cpu" else 0,
            prefetch_queue_depth=1,
            exec_async=False,
            exec_pipelined=False,
        )
        self._pipeline.build()

    def decode(self, images: list[bytes], copy: bool = True) -> list[Decoded]:
        """Pixels (H, W, 3) uint8 RGB of every image, in order, or the SampleRejected ('undecodable', 'too_large') in its place.

        With `copy=False`, and at most `max_batch` images, the arrays are views into DALI's buffer and die with the next call.
        """
        if not copy and len(images) > self.max_batch:
            raise ValueError(f"{len(images)} images lent without a copy: at most max_batch={self.max_batch} at a time")
        results: list[Decoded | None] = [None] * len(images)
        headers: dict[int, ImageHeader] = {}
        for i, data in enumerate(images):
            try:
                headers[i] = read_header(data, self.max_pixels)
            except SampleRejected as rejected:
                results[i] = rejected
        good = list(headers)
        for start in range(0, len(good), self.max_batch):
            self._decode_batch(images, headers, good[start : start + self.max_batch], results, copy)
        return results

    def _decode_batch(
        self, images: list[bytes], headers: dict[int, ImageHeader], batch: list[int], results: list[Decoded | None], copy: bool
    ) -> None:
        while batch:
            try:
                pixels = self._run([images[i] for i in batch])
            except RuntimeError as error:
                self._build()
                at = self._culprit(images, batch, str(error))
                results[batch[at]] = _rejection(images[batch[at]], headers[batch[at]])
                batch = batch[:at] + batch[at + 1 :]
                continue
            for i, array in zip(batch, pixels, strict=True):
                results[i] = array.copy() if copy else array
            return

    def _run(self, images: list[bytes]) -> list[np.ndarray]:
        self._pipeline.feed_input("encoded", [np.frombuffer(data, dtype=np.uint8) for data in images])
        (output,) = self._pipeline.run()
        if self.device != "cpu":
            output = output.as_cpu()
        return [np.asarray(output[i]) for i in range(len(images))]

    def _culprit(self, images: list[bytes], batch: list[int], message: str) -> int:
        """Position in `batch` of an image that fails. `message` is of a failed run over the whole batch."""
        if (named := _CULPRIT.search(message)) and int(named.group(1)) < len(batch):
            return int(named.group(1))
        low, high = 0, len(batch)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails([images[i] for i in batch[low:middle]]):
                high = middle
            else:
                low = middle
        return low

    def _fails(self, images: list[bytes]) -> bool:
        try:
            self._run(images)
        except RuntimeError:
            self._build()
            return True
        return False


def _rejection(data: bytes, header: ImageHeader) -> SampleRejected:
    what = f"{header.kind} of {header.width}x{header.height} px, {len(data)} bytes, cannot be decoded"
    cut = (b"\xff\xd9" if header.kind == "jpeg" else b"IEND") not in data[-64:]
    return SampleRejected("undecodable", f"{what}: {'it is cut short (no end marker)' if cut else 'its content is damaged'}")
