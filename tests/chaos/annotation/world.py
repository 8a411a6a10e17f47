"""Shard sets of real JPEGs for the faults to be tried on, of any number of shards and images, with bad images where wanted."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from PIL import Image

from tests.engine.fanout.conftest import HEIGHT, WIDTH, make_image, make_sample, write_shard_set

_PICTURES = 64
"""Different pictures of a world; more would only take longer to draw."""


def write_world(url: str, shards: int, images: int, persons: int = 1, bad: Mapping[str, tuple[bytes, str]] | None = None) -> str:
    """URL of a shard set of `shards` x `images` photographs with so many persons each. `bad`: key -> (bytes, extension) instead."""
    pictures, rng = _pictures(), np.random.default_rng(shards * 1000 + images)
    world = []
    for s in range(shards):
        keys = [image_key(s, i) for i in range(images)]
        shard = [(make_sample(key, persons, rng), pictures[(s * images + i) % _PICTURES], "jpg") for i, key in enumerate(keys)]
        world.append([(sample, *(bad or {}).get(sample.key, (data, kind))) for sample, data, kind in shard])
    return write_shard_set(url, world)


def image_key(shard: int, image: int) -> str:
    return f"s{shard:03d}_{image:05d}"


@cache
def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [make_image(rng) for _ in range(_PICTURES)]


def bad_images() -> dict[str, tuple[bytes, str]]:
    """Kind -> (bytes, extension) of images that must be quarantined: damaged, of another format than their name, or a trap."""
    jpeg = _pictures()[0]
    rng = np.random.default_rng(1)
    # the frame header of a JPEG: marker FFC0, length, precision, height, width
    frame = jpeg.index(b"\xff\xc0")
    bomb = jpeg[: frame + 5] + struct.pack(">HH", 65000, 65000) + jpeg[frame + 9 :]
    return {
        "truncated": (jpeg[: len(jpeg) // 2], "jpg"),
        "cut in the header": (jpeg[: frame + 4], "jpg"),
        "junk": (rng.bytes(3000), "jpg"),
        "one byte": (b"\xff", "jpg"),
        "GIF": (_encode("GIF"), "jpg"),
        "AVIF": (_encode("AVIF"), "jpg"),
        "bomb": (bomb, "jpg"),
        "text": (b"<html>404 Not Found</html>", "png"),
    }


def odd_images() -> dict[str, tuple[bytes, str]]:
    """Kind -> (bytes, extension) of images that are unusual and good."""
    return {
        "CMYK": (_encode("JPEG", "CMYK"), "jpg"),
        "grey": (_encode("JPEG", "L"), "jpg"),
        "progressive": (_encode("JPEG", progressive=True), "jpg"),
        "16 bit": (_encode("PNG", "I;16"), "png"),
        "alpha": (_encode("PNG", "RGBA"), "png"),
    }


def _encode(kind: str, mode: str = "RGB", **options: object) -> bytes:
    picture = Image.open(io.BytesIO(_pictures()[1]))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def shard_damages() -> dict[str, Callable[[bytes, bytes], bytes]]:
    """Name -> what becomes of a shard's tar (first argument); the second one is another shard's.

    Cuts and flips at each kind of place of a tar, of which a common tar reader sees only some.
    """
    return {
        "cut between samples": lambda tar, _: tar[: _boundary(tar)],
        "cut inside a sample": lambda tar, _: tar[: _after_first_member(tar)],
        "cut inside a header": lambda tar, _: tar[: _boundary(tar) + 200],
        "cut inside a payload": lambda tar, _: tar[: _boundary(tar) + 512 + 100],
        "cut inside padding": lambda tar, _: tar[: _after_first_member(tar) - 1],
        "flipped header byte": lambda tar, _: _flip(tar, _boundary(tar) + 3),
        "flipped payload byte": lambda tar, _: _flip(tar, _boundary(tar) + 512 + 700),
        "wrong length": lambda tar, _: tar + bytes(10240),
        "swapped file": lambda _, other: other,
    }


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _after_first_member(tar: bytes, start: int = 0) -> int:
    size = int(tar[start + 124 : start + 136].strip(b" \0"), 8)
    return start + 512 + -(-size // 512) * 512


def _boundary(tar: bytes) -> int:
    """Where the second sample begins: two members after the start."""
    return _after_first_member(tar, _after_first_member(tar))


__all__ = ["HEIGHT", "WIDTH", "bad_images", "image_key", "odd_images", "shard_damages", "write_world"]
