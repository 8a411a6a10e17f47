"""The bytes of raw images: files, slices of larger files, frames of videos. What cannot be read says why, and costs its own persons.

A reader keeps the file or video it read from last open, so that the images of one tfrecord, or consecutive frames of one video, cost no
opening and no seeking.
"""

from __future__ import annotations

import os
import stat

import numpy as np

from engine.errors import SampleRejected
from engine.shards.images import ImageConfig
from engine.shards.picture import Source


class Reader:
    """Reads the images of one dataset. Not for concurrent use; `close` it, or use it as a context."""

    def __init__(self, root: str, config: ImageConfig) -> None:
        self._root, self._config = root, config
        self._name, self._file, self._size = "", -1, 0
        self._video_name, self._video = "", None
        self._video_problem: SampleRejected | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        if self._video is not None:
            self._video.close()
        self._name, self._file, self._video_name, self._video = "", -1, "", None

    def size(self, source: Source) -> int | None:
        """Bytes of an image, of a frame those of its video; None where it is absent or no file."""
        if source.kind == "slice":
            return source.size
        try:
            found = os.stat(source.below(self._root))
        except (OSError, ValueError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, source: Source) -> bytes | np.ndarray:
        """The image's bytes, or of a video's frame the pixels (H, W, 3) uint8 RGB.

        SampleRejected has one of the reasons 'image_missing', 'image_unreadable', 'image_too_large', 'video_undecodable', 'frame_missing',
        'frame_undecodable'.
        """
        try:
            if source.kind == "file":
                return self._whole(source.below(self._root))
            if source.kind == "slice":
                return self._slice(source)
            return self._frame(source)
        except OSError as error:
            reason = "image_missing" if isinstance(error, FileNotFoundError) else "image_unreadable"
            raise SampleRejected(reason, error.strerror or str(error)) from None
        except ValueError as error:  # a NUL in the name
            raise SampleRejected("image_missing", str(error)) from None

    def _whole(self, path: str) -> bytes:
        file, size = _open(path)
        try:
            self._require_small(size)
            data = os.read(file, size + 1)
            while 0 < len(data) < size and (more := os.read(file, size + 1 - len(data))):
                data += more
            return data
        finally:
            os.close(file)

    def _slice(self, source: Source) -> bytes:
        self._require_small(source.size)
        name = source.below(self._root)
        if name != self._name:
            self.close()
            self._file, self._size = _open(name)
            self._name = name
        if source.at < 0 or source.size < 0 or source.at + source.size > self._size:
            raise SampleRejected(
                "image_unreadable", f"bytes {source.at} to {source.at + source.size} of a file that has {self._size}; it is cut short"
            )
        return os.pread(self._file, source.size, source.at)

    def _frame(self, source: Source) -> np.ndarray:
        from engine.datasets.video import Video  # PyAV is imported where there is a video

        name = source.below(self._root)
        if name != self._video_name:
            self.close()
            self._video_problem = None
            try:
                self._video = Video(name)
                width, height = self._video.coded_wh
                if width * height > self._config.max_pixels:
                    raise SampleRejected(
                        "image_too_large", f"a video of {width}x{height} pixels, at most {self._config.max_pixels} allowed"
                    )
            except SampleRejected as rejected:
                self._video_problem = rejected
            self._video_name = name
        if self._video_problem is not None:
            raise self._video_problem
        assert self._video is not None
        return self._video.frame(source.at)

    def _require_small(self, size: int) -> None:
        if size > self._config.max_bytes:
            raise SampleRejected("image_too_large", f"{size} bytes, at most {self._config.max_bytes} allowed")


def _open(path: str) -> tuple[int, int]:
    """Descriptor and size of a plain file; OSError for anything else, a pipe included, which would be waited for without end."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a file")
    except BaseException:
        os.close(file)
        raise
    return file, found.st_size
