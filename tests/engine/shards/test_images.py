"""Images: orientation settled by the annotated size, bytes untouched where nothing is to settle, broken ones named."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import nvidia.dali.experimental.dynamic as ndd
import pytest
from PIL import Image, ImageOps

from engine.errors import SampleRejected
from engine.shards.images import ImageConfig, StoredImage, settle, settle_frame

CONFIG = ImageConfig()
CHECKS = [ImageConfig(check="structure"), ImageConfig(check="decode")]
RAW, TURNED = (48, 32), (32, 48)
SIDEWAYS, FLAT = (5, 6, 7, 8), (2, 3, 4)


def _pixels(data: bytes) -> np.ndarray:
    """As stored, ignoring any orientation."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _dali(data: bytes) -> np.ndarray:
    """As DALI shows it, which turns the image by its EXIF."""
    image = ndd.decoders.image(ndd.as_tensor(np.frombuffer(data, np.uint8)), device="cpu")
    return np.asarray(image.evaluate())


def _upright(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def _assert_neutral(image: StoredImage) -> None:
    assert Image.open(io.BytesIO(image.data)).getexif().get(0x0112, 1) == 1
    assert (image.height, image.width) == _pixels(image.data).shape[:2] == _dali(image.data).shape[:2]


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("PNG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"orientation": 1}), ("MPO", {})]
)
def test_without_orientation_the_bytes_are_untouched(encode, kind: str, options: dict) -> None:
    data = encode(kind=kind, **options)
    for annotated in (RAW, None):
        for config in CHECKS:
            assert settle(data, annotated, config) == StoredImage(data, "png" if kind == "PNG" else "jpg", 48, 32, 1)


@pytest.mark.parametrize("config", CHECKS, ids=lambda config: config.check)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_annotated_upright_turns_the_pixels(encode, kind: str, orientation: int, config: ImageConfig) -> None:
    data = encode(kind=kind, orientation=orientation)
    image = settle(data, TURNED, config)
    _assert_neutral(image)
    assert (image.width, image.height, image.exif_orientation) == (*TURNED, orientation)
    assert np.abs(_pixels(image.data).astype(int) - _upright(data)).mean() < (2 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_annotated_on_stored_pixels_only_loses_the_tag(encode, kind: str, orientation: int) -> None:
    data = encode(kind=kind, orientation=orientation)
    image = settle(data, RAW, CONFIG)
    _assert_neutral(image)
    assert (image.width, image.height, image.exif_orientation) == (*RAW, 1)
    np.testing.assert_array_equal(_pixels(image.data), _pixels(data))
    np.testing.assert_array_equal(_dali(image.data), _dali(encode(kind=kind)))


@pytest.mark.parametrize(
    ("wh", "orientation", "annotated"), [((40, 40), o, (40, 40)) for o in (3, 6)] + [(RAW, o, RAW) for o in FLAT] + [(RAW, 6, None)]
)
def test_where_the_size_does_not_tell_the_config_decides(encode, wh, orientation: int, annotated) -> None:
    data = encode(wh, orientation=orientation)
    stored = settle(data, annotated, CONFIG)
    _assert_neutral(stored)
    np.testing.assert_array_equal(_pixels(stored.data), _pixels(data))
    assert stored.exif_orientation == 1
    upright = settle(data, annotated, ImageConfig(ambiguous_orientation="upright"))
    _assert_neutral(upright)
    assert np.abs(_pixels(upright.data).astype(int) - _upright(data)).mean() < 2
    assert upright.exif_orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 600])
def test_a_tag_that_is_no_orientation_is_removed(encode, orientation: int) -> None:
    image = settle(encode(orientation=orientation), RAW, CONFIG)
    _assert_neutral(image)
    assert image.exif_orientation == 1


def test_an_orientation_in_xmp_is_removed_too(encode) -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet
    plain = encode()
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert Image.open(io.BytesIO(data)).getexif().get(0x0112) == 6
    assert settle(data, RAW, CONFIG).data == plain


def test_colour_modes_survive_turning(encode) -> None:
    for mode in ("L", "CMYK"):
        out, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6
        Image.open(io.BytesIO(encode())).convert(mode).save(out, "JPEG", exif=exif)
        image = settle(out.getvalue(), TURNED, CONFIG)
        _assert_neutral(image)
        assert np.abs(_pixels(image.data).astype(int) - _upright(out.getvalue())).mean() < 2


def _png(wh: tuple[int, int], pixels: bytes) -> bytes:
    """A PNG of this size whose compressed pixels are these bytes."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", *wh, 8, 2, 0, 0, 0), b"IDAT" + pixels, b"IEND")
    packed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("check", ["structure", "decode"])
@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        (lambda encode: b"", "image_empty", "no bytes"),
        (lambda encode: encode()[:-200], "image_undecodable", "truncated"),
        (lambda encode: encode(kind="PNG")[:-200], "image_undecodable", None),
        (lambda encode: encode()[:2], "unsupported_format", "expected JPEG or PNG"),
        (lambda encode: b"\xff\xd8\xff" + b"junk" * 100, "image_undecodable", r"^(?!.* at 0x)"),
        (lambda encode: encode(kind="GIF"), "unsupported_format", "GIF"),
        (lambda encode: encode(kind="WEBP"), "unsupported_format", "WEBP"),
        (lambda encode: encode(kind="AVIF"), "unsupported_format", "AVIF"),
        (lambda encode: b"<html>404", "unsupported_format", "HTML"),
        (lambda encode: encode((30, 30)), "size_mismatch", "annotated on 48x32 pixels, found 30x30"),
        (lambda encode: encode(TURNED), "size_mismatch", "found 32x48"),
        (lambda encode: encode((30, 20), orientation=6), "size_mismatch", "found 30x20 or 20x30"),
        (lambda encode: encode((300, 200)), "image_too_large", "at most 50000"),
        (lambda encode: encode(kind="PNG") + b"\0" * 100_000, "image_too_large", "bytes"),
        (lambda encode: _png((60_000, 60_000), zlib.compress(bytes(100))), "image_too_large", None),
    ],
)
def test_what_cannot_be_stored_is_named(encode, make, reason: str, message: str, check) -> None:
    with pytest.raises(SampleRejected, match=message) as error:
        settle(make(encode), RAW, ImageConfig(max_pixels=50_000, max_bytes=100_000, check=check))
    assert error.value.reason == reason


def test_damage_between_header_and_end_is_found_by_decoding_alone() -> None:
    data = _png((64, 64), bytes(500))
    assert settle(data, None, CHECKS[0]) == StoredImage(data, "png", 64, 64, 1)
    with pytest.raises(SampleRejected) as error:
        settle(data, None, CHECKS[1])
    assert error.value.reason == "image_undecodable"


def test_frames_of_videos_become_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    png = settle_frame(pixels, (30, 20), ImageConfig(frames="png"))
    np.testing.assert_array_equal(_pixels(png.data), pixels)
    jpeg = settle_frame(pixels, None, CONFIG)
    _assert_neutral(jpeg)
    assert jpeg == settle_frame(pixels, None, CONFIG) and (jpeg.extension, png.extension) == ("jpg", "png")
    assert Image.open(io.BytesIO(jpeg.data)).layer[0][1:3] == (1, 1) and len(Image.open(io.BytesIO(jpeg.data)).layer) == 3
    with pytest.raises(SampleRejected, match="found 30x20"):
        settle_frame(pixels, (20, 30), CONFIG)
    with pytest.raises(SampleRejected, match="30x20 pixels"):
        settle_frame(pixels, None, ImageConfig(max_pixels=599))
