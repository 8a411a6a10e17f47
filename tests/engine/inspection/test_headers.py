"""Headers of real files: what they say, and what is wrong with those that say nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from engine.datasets.base import ImageFile, ImageSlice
from engine.errors import SampleRejected
from engine.inspection.headers import Header, VideoHeader, read_header, read_video_header
from engine.inspection.photographs import ImageBytes
from engine.synthetic.layouts.photos import write_video
from tests.engine.inspection.builders import encoded


def _written(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(path)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("MPO", {})])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_a_sound_image(tmp_path: Path, kind: str, options: dict, orientation: int | None) -> None:
    data = encoded((96, 64), kind=kind, orientation=orientation, **options)
    found = read_header(_written(tmp_path / "image", data))
    assert isinstance(found, Header)
    assert (found.format, found.width, found.height) == ("PNG" if kind == "PNG" else "JPEG", 96, 64)
    assert found.orientation == (orientation or 1) and found.complete and found.size_bytes == len(data)
    assert found.upright == ((64, 96) if orientation == 6 else (96, 64))
    assert found == read_header(ImageBytes(data))


def test_a_slice_is_read_without_its_surroundings(tmp_path: Path) -> None:
    data, path = encoded(), tmp_path / "record"
    path.write_bytes(b"\xff\xd8 before" + data + b"after \xff\xd9")
    assert read_header(ImageSlice(path, 9, len(data))) == read_header(ImageBytes(data))
    cut = read_header(ImageSlice(path, 9, len(data) // 2))
    assert isinstance(cut, Header) and not cut.complete


def test_a_header_behind_much_metadata_is_found(tmp_path: Path) -> None:
    data = encoded((96, 64), icc_profile=os.urandom(300_000))
    found = read_header(_written(tmp_path / "image.jpg", data))
    assert isinstance(found, Header) and (found.width, found.height) == (96, 64)


def test_pixels_are_not_decoded(tmp_path: Path) -> None:
    data = encoded((400, 300), quality=95)
    scan = data.index(b"\xff\xda") + 100
    damaged = data[:scan] + bytes(len(data) - scan - 2) + b"\xff\xd9"
    found = read_header(_written(tmp_path / "image.jpg", damaged))
    assert isinstance(found, Header) and (found.width, found.height) == (400, 300)


def test_what_is_no_image_says_why(tmp_path: Path) -> None:
    bomb = PngImagePlugin.PngInfo()
    bomb.add(b"tEXt", b"x\0y")
    huge = bytearray(encoded(kind="PNG", pnginfo=bomb))
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    webp = tmp_path / "webp"
    Image.new("RGB", (8, 8)).save(webp, "WEBP")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "image_missing": ImageFile(tmp_path / "nowhere.jpg"),
        "image_empty": _written(tmp_path / "empty.jpg", b""),
        "unsupported_format": _written(tmp_path / "page.jpg", b"<html>404</html>"),
        "image_undecodable": _written(tmp_path / "noise.jpg", b"\xff\xd8\xff" + os.urandom(200)),
    }
    found = {name: read_header(image) for name, image in cases.items()}
    assert {name: rejected.reason for name, rejected in found.items()} == {name: name for name in cases}
    assert "HTML" in str(found["unsupported_format"])
    others = {"image_unreadable": tmp_path / "folder", "unsupported_format": webp}
    assert {name: read_header(ImageFile(path)).reason for name, path in others.items()} == {name: name for name in others}
    assert read_header(ImageFile(tmp_path / "pipe")).reason == "image_unreadable"
    bombs = read_header(ImageBytes(bytes(huge)))
    assert isinstance(bombs, SampleRejected) and bombs.reason in ("image_too_large", "image_undecodable")


def test_equal_files_have_equal_fingerprints() -> None:
    one, other = encoded(seed=1), encoded(seed=2)
    prints = [read_header(ImageBytes(data)).fingerprint for data in (one, one, other, one + b"\0")]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_a_video_of_an_unknown_codec_says_why_there_is_no_header(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", [np.full((32, 48, 3), 90, np.uint8)] * 3)
    header = read_video_header(tmp_path / "v.avi")
    assert isinstance(header, VideoHeader) and (header.width, header.height) == (48, 32)
    whole = (tmp_path / "v.avi").read_bytes()
    codec = whole[(at := whole.index(b"vids") + 4) : at + 4]
    (tmp_path / "v.avi").write_bytes(whole.replace(codec, b"\xff" * 4))
    header = read_video_header(tmp_path / "v.avi")
    assert isinstance(header, SampleRejected) and header.reason == "video_undecodable"
