"""Structure: nothing that was cut short passes, nothing that a decoder takes is refused, and what stands behind the end does no harm."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import SampleRejected
from engine.shards.structure import read_structure, without_metadata


def _image(kind: str, **options) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).resize((112, 80)).save(out, kind, **options)
    return out.getvalue()


def _with_thumbnail() -> bytes:
    """A JPEG whose EXIF holds a whole JPEG, with an end mark of its own."""
    inner = _image("JPEG", quality=10)
    body = b"Exif\0\0" + b"II*\0\x08\0\0\0" + bytes(6) + inner
    plain = _image("JPEG")
    return plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]


def _with_restarts() -> bytes:
    return _image("JPEG", restart_marker_rows=1)


def _with_fill_bytes() -> bytes:
    plain = _image("JPEG")
    return plain[:2] + b"\xff\xff\xff" + plain[2:]


FILES = {
    "jpeg": _image("JPEG"),
    "progressive": _image("JPEG", progressive=True),
    "gray": (lambda out: (Image.new("L", (112, 80), 9).save(out, "JPEG"), out.getvalue())[1])(io.BytesIO()),
    "4:4:4": _image("JPEG", subsampling=0, quality=100),
    "restarts": _with_restarts(),
    "fill bytes": _with_fill_bytes(),
    "thumbnail": _with_thumbnail(),
    "png": _image("PNG"),
    "palette": (lambda out: (Image.new("P", (112, 80)).save(out, "PNG"), out.getvalue())[1])(io.BytesIO()),
}


@pytest.mark.parametrize("name", FILES)
def test_whole_files_pass_with_their_size(name: str) -> None:
    data = FILES[name]
    Image.open(io.BytesIO(data)).load()
    assert read_structure(data) == (112, 80, name == "thumbnail")
    for tail in (b"\0" * 4096, b"\n", b"<!-- served in 3 ms -->", FILES["jpeg"]):
        assert read_structure(data + tail)[:2] == (112, 80)


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1, exclude_max=True), st.sampled_from([b"", b"\0" * 512]))
def test_any_cut_is_seen_padded_with_zeros_or_not(name: str, share: float, padding: bytes) -> None:
    data = FILES[name]
    least = 3 if data[:1] == b"\xff" else 8  # the magic was looked at before
    cut = data[: least + int(share * (len(data) - least))]
    with pytest.raises(SampleRejected) as error:
        read_structure(cut + padding)
    assert error.value.reason == "image_undecodable"


@given(st.integers(8, len(FILES["png"]) - 13), st.integers(1, 255))
def test_a_flipped_byte_of_a_png_is_seen(at: int, difference: int) -> None:
    data = bytearray(FILES["png"])
    data[at] ^= difference
    with pytest.raises(SampleRejected):
        read_structure(bytes(data))


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_junk_is_refused_and_raises_nothing_else(junk: bytes, magic: bytes) -> None:
    with pytest.raises(SampleRejected):
        read_structure(magic + junk)
    with suppress(SampleRejected):  # it looks at what comes before the pixels alone
        without_metadata(magic + junk)


def test_kinds_that_no_decoder_reads_are_refused() -> None:
    data = bytearray(FILES["jpeg"])
    at = data.index(b"\xff\xc0")
    for marker, bits in ((0xC3, 8), (0xC5, 8), (0xC0, 12)):
        data[at + 1], data[at + 4] = marker, bits
        with pytest.raises(SampleRejected, match="kind that decoders do not read"):
            read_structure(bytes(data))


def test_real_photographs_pass(real_data: Path) -> None:
    paths = sorted((real_data / "coco2017" / "train2017").glob("*.jpg"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        assert read_structure(data)[:2] == Image.open(path).size
        with pytest.raises(SampleRejected):
            read_structure(data[: len(data) * 9 // 10])
