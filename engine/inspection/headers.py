"""What the first bytes of an image say of it, without decoding a pixel."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from engine.datasets.base import ImageFile, ImageSource
from engine.errors import SampleRejected
from engine.inspection.photographs import ImageBytes, image_bytes, read_image
from engine.shards.images import SWAPS_SIDES, format_name, orientation

_HEAD_BYTES = 64 << 10
_TAIL_BYTES = 64
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True)
class Header:
    """A JPEG's or PNG's header."""

    format: str
    width: int
    height: int
    orientation: int
    """EXIF's; 1 is none, 0 a tag that is no orientation."""
    size_bytes: int
    fingerprint: bytes
    """Of the length and the first 64 KiB: equal files have equal ones."""
    complete: bool
    """Whether the end mark is where it belongs."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        return (self.height, self.width) if self.orientation in SWAPS_SIDES else (self.width, self.height)


@dataclass(frozen=True)
class VideoHeader:
    """A video's header: its size before any turn, and the number of frames where it says one."""

    width: int
    height: int
    frames: int | None


def read_header(image: ImageSource | ImageBytes) -> Header | SampleRejected:
    """The header, or why there is none: 'image_missing', 'image_unreadable', 'image_empty', 'unsupported_format',
    'image_too_large' or 'image_undecodable'."""
    try:
        size = image_bytes(image)
        head = read_image(image, 0, _HEAD_BYTES)
        tail = read_image(image, max(0, size - _TAIL_BYTES))
        if not head:
            return SampleRejected("image_empty", "the file has no bytes")
        found = format_name(head)
        if found not in _END_MARKS:
            return SampleRejected("unsupported_format", f"expected JPEG or PNG, found {found}")
        try:
            width, height, tag = _parsed(head)
        except (OSError, SyntaxError, ValueError):
            if size <= len(head):
                raise
            width, height, tag = _parsed(read_image(image))
    except FileNotFoundError as error:
        return SampleRejected("image_missing", error.strerror or str(error))
    except Image.DecompressionBombError as error:
        return SampleRejected("image_too_large", str(error))
    except UnidentifiedImageError:  # its message holds an address in memory, another one every time
        return SampleRejected("image_undecodable", "no readable JPEG or PNG header")
    except OSError as error:
        if error.errno is None:
            return SampleRejected("image_undecodable", f"{type(error).__name__}: {error}")
        return SampleRejected("image_unreadable", error.strerror or str(error))
    except Exception as error:  # PIL's parsers raise whatever a broken header leads them into
        return SampleRejected("image_undecodable", f"{type(error).__name__}: {error}")
    fingerprint = blake2b(size.to_bytes(8, "little") + head, digest_size=8).digest()
    return Header(found, width, height, tag, size, fingerprint, _END_MARKS[found] in tail)


def read_video_header(path: Path) -> VideoHeader | SampleRejected:
    """The header, or why there is none: 'image_missing', 'image_unreadable', 'image_empty' or 'video_undecodable'."""
    import av  # only where there is a video

    try:
        size = image_bytes(ImageFile(path))
    except OSError as error:
        reason = "image_missing" if isinstance(error, FileNotFoundError) else "image_unreadable"
        return SampleRejected(reason, error.strerror or str(error))
    if not size:
        return SampleRejected("image_empty", "the file has no bytes")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return VideoHeader(stream.codec_context.width, stream.codec_context.height, stream.frames or None)
    except (av.FFmpegError, IndexError, ValueError, AttributeError) as error:  # a codec nobody knows has no context
        return SampleRejected("video_undecodable", f"{type(error).__name__}: {error}")


def _parsed(data: bytes) -> tuple[int, int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        # A PNG's EXIF may stand behind its pixels, where only decoding would find it.
        tag = orientation(image) if image.format != "PNG" or "exif" in image.info else 1
    return image.width, image.height, tag
