"""Frames by number: the number is drawn in the frame, so every container, codec and order of asking can be held against it."""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.datasets.video import Video
from engine.errors import SampleRejected

WIDTH, HEIGHT, BITS = 96, 64, 8


def write_video(path: Path, frames: int, codec: str = "libx264", gop: int = 8, **options: str) -> None:
    """A video whose frames hold their number in the columns of their upper half, and noise below, so that they have some bytes."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        for number in range(frames):
            pixels = np.repeat(rng.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8), 3, 2)
            bits = np.repeat([(number >> bit) & 1 for bit in range(BITS)], WIDTH // BITS)
            pixels[: HEIGHT // 2] = 255 * bits[:, None].astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def number_of(pixels_HW3: np.ndarray) -> int:
    """The number that is drawn in a frame."""
    row = pixels_HW3[HEIGHT // 4].reshape(BITS, -1).mean(1) > 128
    return sum(int(bit) << place for place, bit in enumerate(row))


CONTAINERS = {
    "B-frames in mp4": ("v.mp4", {}),
    "short groups, B-frames": ("v.mov", {"x264-params": "bframes=3:keyint=4"}),
    "open groups": ("v.mkv", {"x264-params": "open-gop=1:bframes=3:keyint=10"}),
    "transport stream": ("v.ts", {}),
    "only key frames": ("v.mp4", {"codec": "mjpeg", "strict": "unofficial"}),
    "B-frames in AVI": ("v.avi", {}),
    "MPEG-4 in AVI": ("v.avi", {"codec": "mpeg4"}),
    "VP9 with hidden frames": ("v.webm", {"codec": "libvpx-vp9", "lag-in-frames": "12", "auto-alt-ref": "1", "cpu-used": "8"}),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_a_number_is_a_frame_in_whatever_order_it_is_asked_for(case: str, tmp_path: Path) -> None:
    name, options = CONTAINERS[case]
    path = tmp_path / name
    write_video(path, 40, **options)
    with Video(path) as video:
        assert (len(video), video.coded_wh) == (40, (WIDTH, HEIGHT))
        shuffled = np.random.default_rng(1).permutation(40).tolist()
        for order in (range(40), range(0, 40, 5), shuffled, [7, 7, 6, 39, 0]):
            assert [number_of(video.frame(n)) for n in order] == list(order)
        first = video.frame(33)
        for beyond in (40, 1000, -1 if case != "B-frames in AVI" else 40):
            with pytest.raises(SampleRejected) as error:
                video.frame(beyond)
            assert error.value.reason == "frame_missing" and "40 frames" in str(error.value)
    with Video(path) as video:
        np.testing.assert_array_equal(video.frame(33), first)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_video_of_a_turned_phone_is_upright(matrix: tuple[int, ...], turns: int, tmp_path: Path) -> None:
    """The matrix of a track's header takes x' = a x + c y, y' = b x + d y, with y down: (0, 1, -1, 0) is a quarter clockwise."""
    path = tmp_path / "v.mp4"
    write_video(path, 2)
    with Video(path) as video:
        stored = video.frame(1)
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with Video(path) as video:
        np.testing.assert_array_equal(video.frame(1), np.rot90(stored, turns))


def test_a_damaged_part_costs_its_own_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 80)
    data = bytearray((tmp_path / "v.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 12] = bytes(len(data) // 12)
    (tmp_path / "v.mp4").write_bytes(data)
    kept, lost = [], []
    with Video(tmp_path / "v.mp4") as video:
        for number in range(80):
            try:
                assert number_of(video.frame(number)) == number
                kept.append(number)
            except SampleRejected as rejected:
                assert rejected.reason == "frame_undecodable"
                lost.append(number)
        again = [number for number in reversed(range(80)) if not _fails(video, number)]
    assert len(kept) > 40 and lost and min(lost) > 20 and max(lost) < 70
    assert again[::-1] == kept


def _fails(video: Video, number: int) -> bool:
    try:
        return number_of(video.frame(number)) != number
    except SampleRejected:
        return True


def test_a_video_that_is_none_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 8)
    whole = (tmp_path / "v.mp4").read_bytes()
    for name, data in {"text": b"no video" * 40, "empty": b"", "cut": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        with pytest.raises(SampleRejected) as error:
            Video(path)
        assert error.value.reason == "video_undecodable"
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    with pytest.raises(SampleRejected, match="no video stream"):
        Video(tmp_path / "sound.wav")
    write_video(tmp_path / "v.avi", 3)
    whole = (tmp_path / "v.avi").read_bytes()
    codec = whole.index(b"vids", whole.index(b"strh")) + 4
    unknown = whole[:codec] + b"\xff" * 4 + whole[codec + 4 :]
    (tmp_path / "unknown.avi").write_bytes(unknown.replace(whole[codec : codec + 4], b"\xff" * 4))
    with pytest.raises(SampleRejected, match="no video stream"):
        Video(tmp_path / "unknown.avi")
    with pytest.raises(FileNotFoundError):
        Video(tmp_path / "absent.mp4")
