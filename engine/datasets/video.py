"""Frames of a video by their number, exactly: number n is the (n + 1)th frame that a player shows.

A video's packets lie in the order of decoding. Their times are listed once, which needs no decoding; the n-th time in order is frame n, and
a key frame before it is where decoding begins. Frames that are asked for in order are decoded on without going back. Where packets have
no times of their own (AVI files), frames are counted from the first one.
"""

from __future__ import annotations

import bisect
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from engine.errors import SampleRejected


class Video:
    """One open video. Not for concurrent use; `close` it, or use it as a context."""

    def __init__(self, path: Path | str) -> None:
        """SampleRejected 'video_undecodable' where there is no video in the file, FileNotFoundError where there is no file."""
        self._path = str(path)
        if not os.path.isfile(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
        self._open()
        times, keys = self._index()
        guessed = self._container.format.name == "avi" and self._stream.codec_context.has_b_frames
        self._times = None if guessed or None in times or len(set(times)) < len(times) else sorted(times)
        self._keys = sorted(keys)
        self._open()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._frames = iter(())
        self._container.close()

    def __len__(self) -> int:
        """Frames. Decodes all of them where their times are not known."""
        if self._times is not None:
            return len(self._times)
        self._open()
        count = sum(1 for _ in self._frames)
        self._open()
        return count

    @property
    def coded_wh(self) -> tuple[int, int]:
        """Width and height before any turn, pixels, as the video's header says."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def frame(self, number: int) -> np.ndarray:
        """Pixels (H, W, 3) uint8 RGB, turned as the video says it is to be shown.

        SampleRejected: 'frame_missing' beyond the last one, 'frame_undecodable' where its bytes, or those it builds on, are damaged.
        """
        try:
            found = self._counted(number) if self._times is None else self._timed(number)
        except (av.FFmpegError, ValueError) as error:
            self._open()
            raise SampleRejected("frame_undecodable", f"frame {number} cannot be decoded: {_said(error)}") from None
        if not self._sound:
            raise SampleRejected("frame_undecodable", f"frame {number}, or one that it builds on, is damaged")
        pixels_HW3 = found.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels_HW3, round(found.rotation / 90)))

    def _timed(self, number: int) -> av.VideoFrame:
        assert self._times is not None
        if not 0 <= number < len(self._times):
            raise SampleRejected("frame_missing", f"frame {number} of a video of {len(self._times)} frames")
        wanted = self._times[number]
        before = bisect.bisect_right(self._keys, wanted)
        if self._shown is None or self._shown >= wanted or bisect.bisect_right(self._keys, self._shown) < before:
            found = self._sought(wanted, self._keys[:before])
        else:
            found = self._next(wanted)
        if found is None or found.pts != wanted:
            raise SampleRejected("frame_undecodable", f"frame {number} is not among those that can be decoded")
        return found

    def _sought(self, wanted: int, keys: list[int]) -> av.VideoFrame | None:
        """The frame of a time, decoded from a key frame before it; from the one before that where a container seeks too far."""
        for key in keys[:-3:-1]:
            self._container.seek(key, stream=self._stream, backward=True)
            self._frames, self._shown = self._decoded(), None
            first = next(self._frames, None)
            if first is not None and first.pts is not None and first.pts <= wanted:
                return first if first.pts == wanted else self._next(wanted)
        self._open()
        return self._next(wanted)

    def _next(self, wanted: int) -> av.VideoFrame | None:
        """The first frame from here on whose time is not before the wanted one's."""
        for frame in self._frames:
            self._shown = frame.pts
            if frame.pts is not None and frame.pts >= wanted:
                return frame
        return None

    def _counted(self, number: int) -> av.VideoFrame:
        if number < self._count:
            self._open()
        for frame in self._frames:
            self._count += 1
            if self._count > number:
                return frame
        raise SampleRejected("frame_missing", f"frame {number} of a video of {self._count} frames")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames in the order of presentation. Packets that cannot be decoded are passed over, as players do; decoders then make something
        up for the frames that build on them, which are rejected."""
        damaged_from: int | None = None
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                damaged_from = packet.pts or 0
                continue
            for frame in frames:
                if frame.key_frame:
                    damaged_from = None
                self._sound = not frame.is_corrupt and (damaged_from is None or (frame.pts or 0) < damaged_from)
                yield frame

    def _index(self) -> tuple[list[int | None], list[int]]:
        times: list[int | None] = []
        keys = []
        try:
            for packet in self._container.demux(self._stream):
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe and packet.pts is not None:
                        keys.append(packet.pts)
        except av.FFmpegError as error:
            raise SampleRejected("video_undecodable", f"its packets cannot be read: {_said(error)}") from None
        if not times:
            raise SampleRejected("video_undecodable", "no frame in the video; it is empty or cut short")
        return times, keys

    def _open(self) -> None:
        """At the video's beginning."""
        if hasattr(self, "_container"):
            self.close()
        try:
            self._container = av.open(self._path, metadata_errors="ignore")
            self._stream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1
        except (av.FFmpegError, IndexError, ValueError, AttributeError) as error:  # a stream of a codec nobody knows has no context
            why = "it has no video stream" if isinstance(error, IndexError | AttributeError) else _said(error)
            raise SampleRejected("video_undecodable", f"not a video that can be read: {why}") from None
        self._frames: Iterator[av.VideoFrame] = self._decoded()
        self._shown: int | None = None
        self._count = 0
        self._sound = True


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
