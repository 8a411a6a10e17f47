"""Sources: the bytes that are meant, from files, slices of files and videos, and a reason for everything that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engine.errors import SampleRejected
from engine.shards.images import ImageConfig
from engine.shards.picture import Source
from engine.shards.sources import Reader
from tests.engine.datasets.test_video import number_of, write_video


def test_files_and_slices_are_their_bytes(tmp_path: Path) -> None:
    content = os.urandom(5000)
    for name in ("a.jpg", "b.tfrecord"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "c.tfrecord").write_bytes(content[::-1])
    with Reader(str(tmp_path), ImageConfig()) as reader:
        for _ in range(2):
            assert reader.read(Source("file", "a.jpg")) == content
            assert reader.read(Source("slice", "b.tfrecord", 10, 90)) == content[10:100]
            assert reader.read(Source("slice", "b.tfrecord", 4990, 10)) == content[-10:]
            assert reader.read(Source("slice", str(tmp_path / "c.tfrecord"), 0, 9)) == content[::-1][:9]
        assert [reader.size(Source("file", name)) for name in ("a.jpg", "no.jpg", ".")] == [5000, None, None]
        assert reader.size(Source("slice", "b.tfrecord", 10, 90)) == 90


def test_frames_are_read_in_any_order(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 30)
    write_video(tmp_path / "w.mkv", 30)
    with Reader(str(tmp_path), ImageConfig()) as reader:
        for name, frame in (("v.mp4", 0), ("v.mp4", 1), ("v.mp4", 17), ("w.mkv", 17), ("v.mp4", 3), ("v.mp4", 29)):
            pixels = reader.read(Source("frame", name, frame))
            assert isinstance(pixels, np.ndarray) and number_of(pixels) == frame


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"x" * 3000)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "text.mp4").write_bytes(b"no video" * 40)
    os.mkfifo(tmp_path / "pipe")
    write_video(tmp_path / "v.mp4", 4)
    config = ImageConfig(max_bytes=2000, max_pixels=1000)
    expected = {
        Source("file", "absent"): "image_missing",
        Source("file", "folder"): "image_unreadable",
        Source("file", "folder/x"): "image_missing",
        Source("file", "small/x"): "image_unreadable",
        Source("file", "pipe"): "image_unreadable",
        Source("file", "loop"): "image_unreadable",
        Source("file", "nul\0"): "image_missing",
        Source("file", "x" * 300): "image_unreadable",
        Source("file", "large"): "image_too_large",
        Source("slice", "absent", 0, 5): "image_missing",
        Source("slice", "pipe", 0, 5): "image_unreadable",
        Source("slice", "small", 96, 5): "image_unreadable",
        Source("slice", "small", -1, 5): "image_unreadable",
        Source("slice", "small", 0, 3000): "image_too_large",
        Source("frame", "absent.mp4", 0): "image_missing",
        Source("frame", "pipe", 0): "image_missing",
        Source("frame", "text.mp4", 0): "video_undecodable",
        Source("frame", "v.mp4", 0): "image_too_large",
    }
    found = {}
    with Reader(str(tmp_path), config) as reader:
        for source in [*expected, *expected]:
            with pytest.raises(SampleRejected) as error:
                reader.read(source)
            found[source] = error.value.reason
    assert found == expected
