import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import SampleRejected
from engine.loading.decode import Decoder
from engine.loading.image_header import read_header


def encode(pixels: np.ndarray, kind: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(max_batch=8)


def test_png_is_exact_and_jpeg_agrees_with_pil(decoder: Decoder, pixels: np.ndarray):
    jpeg = encode(pixels, quality=95)
    exact, lossy = decoder.decode([encode(pixels, "PNG"), jpeg])
    assert (exact == pixels).all()
    reference = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert np.abs(lossy.astype(int) - reference).max() <= 4  # chroma upsampling differs between decoders


@pytest.mark.parametrize(
    "options", [{"mode": "L"}, {"mode": "CMYK"}, {"progressive": True}, {"kind": "PNG", "mode": "RGBA"}, {"kind": "PNG", "mode": "P"}]
)
def test_every_colour_model_comes_out_as_rgb(decoder: Decoder, pixels: np.ndarray, options: dict):
    (image,) = decoder.decode([encode(pixels, **options)])
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8


def test_exif_orientation_is_not_applied(decoder: Decoder, pixels: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = 6
    (image,) = decoder.decode([encode(pixels, exif=exif)])
    assert image.shape == (64, 96, 3)


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.999])
def test_a_cut_image_costs_only_itself(decoder: Decoder, pixels: np.ndarray, fraction: float):
    good = [encode(np.roll(pixels, i, axis=1), quality=90) for i in range(4)]
    alone = [decoder.decode([data])[0] for data in good]
    for kind in ({}, {"progressive": True}, {"kind": "PNG"}):
        whole = encode(pixels, **kind)
        found = decoder.decode([good[0], good[1], whole[: int(len(whole) * fraction)], good[2], good[3]])
        assert isinstance(found[2], SampleRejected) and found[2].reason == "undecodable"
        for image, reference in zip(found[:2] + found[3:], alone, strict=True):
            assert (image == reference).all()


def test_jpeg_without_its_last_two_bytes_is_rejected_as_cut_short(decoder: Decoder, pixels: np.ndarray):
    (found,) = decoder.decode([encode(pixels)[:-2]])
    assert isinstance(found, SampleRejected) and "cut short" in str(found)


def test_any_mixture_of_bad_images_leaves_the_good_ones(decoder: Decoder, pixels: np.ndarray):
    jpeg, png = encode(pixels), encode(pixels, "PNG")
    damaged_png = png[:40] + bytes(len(png) - 60) + png[-20:]  # DALI does not say which image this is: found by halving
    bad = [b"", b"\xff\xd8\xff" + bytes(300), b"GIF89a" + bytes(40), damaged_png, jpeg[: len(jpeg) // 2], b"<html>", png[:-20]]
    mixed = [image for pair in zip(bad, [jpeg, png] * 4, strict=False) for image in pair]
    found = decoder.decode(mixed)  # more than max_batch
    assert [isinstance(image, SampleRejected) for image in found] == [True, False] * len(bad)
    assert (found[3] == pixels).all()
    assert not any(isinstance(image, SampleRejected) for image in decoder.decode([jpeg] * 20))


def test_lent_pixels_equal_copies_and_are_bounded(decoder: Decoder, pixels: np.ndarray):
    images = [encode(np.roll(pixels, i, axis=0)) for i in range(8)]
    copies = decoder.decode(images)
    lent = decoder.decode(images, copy=False)
    assert all((a == b).all() for a, b in zip(copies, lent, strict=True))
    with pytest.raises(ValueError, match="max_batch"):
        decoder.decode(images * 2, copy=False)


def test_header_gives_the_stored_size(pixels: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 3000
    for data in (encode(pixels), encode(pixels, progressive=True, exif=exif), encode(pixels, mode="L"), encode(pixels, "PNG")):
        assert read_header(data)[1:] == (96, 64)


def test_a_header_that_promises_too_much_is_rejected_before_decoding(decoder: Decoder, pixels: np.ndarray):
    png = bytearray(encode(pixels, "PNG"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    found = decoder.decode([bytes(png), encode(pixels)])
    assert isinstance(found[0], SampleRejected) and found[0].reason == "too_large"
    assert found[1].shape == (64, 96, 3)


def test_real_photographs_agree_with_pil(real_data, decoder: Decoder):
    paths = sorted((real_data / "coco2017").rglob("*.jpg"))[:6]
    for path, image in zip(paths, decoder.decode([path.read_bytes() for path in paths]), strict=True):
        reference = np.asarray(Image.open(path).convert("RGB"))
        assert image.shape == reference.shape
        assert np.abs(image.astype(int) - reference).mean() < 1


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"mode": "L"}, {"mode": "CMYK"}, {"kind": "PNG"}]
)
def test_a_part_has_the_whole_image_s_pixels_to_the_last_bit(decoder: Decoder, options: dict):
    noise = np.random.default_rng(9).integers(0, 256, (101, 157, 3), dtype=np.uint8)
    image = encode(cv2.resize(noise, (313, 203)), **{"quality": 80} | options)
    (whole,) = decoder.decode([image])
    rng = np.random.default_rng(10)
    for _ in range(12):
        left, right = sorted(rng.integers(-20, 340, 2).tolist())
        top, bottom = sorted(rng.integers(-20, 220, 2).tolist())
        (part,) = decoder.decode_parts([image], [(left, top, right, bottom)])
        left, top, right, bottom = max(0, left), max(0, top), min(313, right), min(203, bottom)
        if left >= right or top >= bottom:
            left, top, right, bottom = 0, 0, 1, 1
        assert part.corner_xy == (left, top) and part.image_wh == (313, 203)
        assert (part.pixels == whole[top:bottom, left:right]).all()


def test_a_cut_image_is_found_even_where_only_its_top_is_wanted(decoder: Decoder, pixels: np.ndarray):
    good, broken = encode(pixels, quality=90), encode(pixels, quality=90)[:-30]
    found = decoder.decode_parts([good, broken, good], [(0, 0, 96, 8)] * 3)
    assert isinstance(found[1], SampleRejected) and "cut short" in str(found[1])
    for part in (found[0], found[2]):
        assert (part.pixels == decoder.decode([good])[0][:8]).all()


def test_parts_of_real_photographs(real_data, decoder: Decoder):
    rng = np.random.default_rng(11)
    images = [path.read_bytes() for path in sorted((real_data / "coco2017").rglob("*.jpg"))[:8]]
    wholes = decoder.decode(images)
    corners = [np.sort(rng.integers(0, [[w.shape[1]], [w.shape[0]]], (2, 2)), axis=1) for w in wholes]
    boxes = [(int(c[0, 0]), int(c[1, 0]), int(c[0, 1]) + 1, int(c[1, 1]) + 1) for c in corners]
    for whole, (left, top, right, bottom), part in zip(wholes, boxes, decoder.decode_parts(images, boxes), strict=True):
        assert (part.pixels == whole[top:bottom, left:right]).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to decode on")
def test_a_machine_that_cannot_decode_is_not_taken_for_a_bad_photograph(pixels: np.ndarray):
    with pytest.raises(RuntimeError):
        Decoder(device="mixed").decode([encode(pixels)])
