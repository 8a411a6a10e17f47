"""Images of raw datasets: checked once, with their EXIF orientation settled, before any of them enters a shard.

A check of the structure (headers, segments, checksums, the end mark) costs less than reading the file. Decoding finds damage inside the
compressed pixels too and costs ten times as much as all the rest of ingest. What the first misses costs its own persons later: annotation
quarantines them, training masks them.

Decoders disagree about EXIF orientation (DALI turns the image, cv2 by flag, PIL and simplejpeg do not), so a stored image
carries none. Which way to settle it is read from the size the annotations were made on: the turned size means that
annotators saw the image upright, and its pixels are turned; the size of the pixels as stored means that they did not,
and only the tag is removed, without touching a pixel. A square image, or a turn by 180 degrees or a mirroring, leaves
no trace in the size; then `ambiguous_orientation` decides.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from engine.config import Config
from engine.errors import SampleRejected
from engine.shards.structure import JPEG, PNG, read_structure, without_metadata

_ORIENTATION = 0x0112
_MAGIC = {
    JPEG: "JPEG",
    PNG: "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"%PDF": "PDF",
    b"<": "HTML or XML",
}
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what shows the image upright."""
SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


class ImageConfig(Config):
    """Which images may enter a shard, and how frames of videos become images."""

    check: Literal["structure", "decode"] = Field(
        "structure",
        description="structure: headers, segments, checksums, and an end mark where the pixels end; decode: every pixel too, at ten times "
        "the cost of all the rest",
    )
    max_bytes: int = Field(64 << 20, ge=1, le=256 << 20, description="largest image file, bytes")
    max_pixels: int = Field(64_000_000, ge=1, le=178_000_000, description="largest width times height, pixels")
    ambiguous_orientation: Literal["stored", "upright"] = Field(
        "stored",
        description="coordinates of an image with an EXIF orientation that its annotated size does not explain: of its pixels as stored "
        "(what the field's loaders assume, as they ignore EXIF), or of the image turned upright",
    )
    frames: Literal["jpeg", "png"] = Field("jpeg", description="how frames of videos are stored; png keeps every pixel as decoded")
    frame_quality: int = Field(95, ge=50, le=100, description="JPEG quality of frames of videos; colours at full resolution")


@dataclass(frozen=True)
class StoredImage:
    """An image as it goes into a shard: JPEG or PNG, no EXIF orientation but 1."""

    data: bytes
    extension: Literal["jpg", "png"]
    width: int
    height: int
    exif_orientation: int
    """The orientation applied to the raw pixels; 1 if they are stored as they were."""


def settle(data: bytes, annotated_wh: tuple[int, int] | None, config: ImageConfig) -> StoredImage:
    """The image to store. Its coordinates are those of the annotations.

    Bytes stay untouched where there is no orientation to settle. SampleRejected has one of the reasons 'image_empty',
    'image_too_large', 'unsupported_format', 'image_undecodable', 'size_mismatch'.
    """
    if not data:
        raise SampleRejected("image_empty", "the file has no bytes")
    if len(data) > config.max_bytes:
        raise SampleRejected("image_too_large", f"{len(data)} bytes, at most {config.max_bytes} allowed")
    if not data.startswith((JPEG, PNG)):
        raise SampleRejected("unsupported_format", f"expected JPEG or PNG, found {format_name(data)}; convert it")
    extension: Literal["jpg", "png"] = "png" if data.startswith(PNG) else "jpg"
    if config.check == "structure":
        width, height, has_metadata = read_structure(data)
        _check_pixels((width, height), config)
        if not has_metadata:
            _check_size(annotated_wh, [(width, height)])
            return StoredImage(data, extension, width, height, 1)
        image = _opened(data, config)
    else:
        image = loaded(_opened(data, config))
    tag = orientation(image)
    if tag == 1:
        _check_size(annotated_wh, [image.size])
        return StoredImage(data, extension, *image.size, 1)
    applied = _applied(tag, image.size, annotated_wh, config)
    if applied == 1:
        return StoredImage(without_metadata(data), extension, *image.size, 1)
    turned = loaded(image).transpose(_TURN[applied])
    return StoredImage(_encoded(turned, extension), extension, *turned.size, applied)


def settle_frame(pixels_HW3: np.ndarray, annotated_wh: tuple[int, int] | None, config: ImageConfig) -> StoredImage:
    """The image to store of a video's frame, (H, W, 3) uint8 RGB. SampleRejected 'image_too_large' or 'size_mismatch'."""
    height, width, _ = pixels_HW3.shape
    _check_pixels((width, height), config)
    _check_size(annotated_wh, [(width, height)])
    extension: Literal["jpg", "png"] = "png" if config.frames == "png" else "jpg"
    return StoredImage(_encoded(Image.fromarray(pixels_HW3), extension, config.frame_quality), extension, width, height, 1)


def _opened(data: bytes, config: ImageConfig) -> Image.Image:
    """The image with its header read."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as error:
        raise SampleRejected("image_too_large", str(error)) from None
    except UnidentifiedImageError:  # its message holds an address in memory, another one every time
        raise SampleRejected("image_undecodable", "no readable JPEG or PNG header") from None
    except Exception as error:  # PIL's parsers raise whatever a broken header leads them into
        raise SampleRejected("image_undecodable", f"{type(error).__name__}: {error}") from None
    _check_pixels(image.size, config)
    return image


def loaded(image: Image.Image) -> Image.Image:
    """The image, its pixels decoded. SampleRejected 'image_undecodable' or 'image_too_large'."""
    try:
        image.load()
        return image
    except Image.DecompressionBombError as error:
        raise SampleRejected("image_too_large", str(error)) from None
    except Exception as error:  # PIL's decoders raise whatever a broken stream leads them into
        raise SampleRejected("image_undecodable", f"{type(error).__name__}: {error}") from None


def format_name(data: bytes) -> str:
    """An image format by its first bytes: "JPEG", "PNG", or words for what cannot be stored."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return f"{data[8:12].decode('latin1').strip().upper()} (AVIF, HEIC or video)"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), f"bytes {data[:8]!r}")


def orientation(image: Image.Image) -> int:
    """1 to 8; 0 for a tag that is no orientation, or EXIF that cannot be read: to be removed, like a turn nobody applies."""
    try:
        tag = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata does not make the pixels broken
        return 0
    return tag if isinstance(tag, int) and tag in (1, *_TURN) else 0


def _applied(tag: int, stored_wh: tuple[int, int], annotated_wh: tuple[int, int] | None, config: ImageConfig) -> int:
    upright_wh = stored_wh[::-1] if tag in SWAPS_SIDES else stored_wh
    _check_size(annotated_wh, [stored_wh, upright_wh])
    if tag == 0:
        return 1
    if annotated_wh is None or stored_wh == upright_wh:
        return tag if config.ambiguous_orientation == "upright" else 1
    return tag if annotated_wh == upright_wh else 1


def _check_pixels(wh: tuple[int, int], config: ImageConfig) -> None:
    if wh[0] * wh[1] > config.max_pixels:
        raise SampleRejected("image_too_large", f"{wh[0]}x{wh[1]} pixels, at most {config.max_pixels} allowed")


def _check_size(annotated_wh: tuple[int, int] | None, possible: list[tuple[int, int]]) -> None:
    if annotated_wh is not None and annotated_wh not in possible:
        found = " or ".join(f"{w}x{h}" for w, h in dict.fromkeys(possible))
        raise SampleRejected("size_mismatch", f"annotated on {annotated_wh[0]}x{annotated_wh[1]} pixels, found {found}")


def _encoded(image: Image.Image, extension: str, quality: int = 95) -> bytes:
    out = io.BytesIO()
    image.info = {name: value for name, value in image.info.items() if name == "transparency"}
    if extension == "png":
        image.save(out, "PNG")
    else:
        (image if image.mode in ("RGB", "L") else image.convert("RGB")).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()
