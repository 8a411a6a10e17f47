"""The images of a source: there or not, their formats and sizes, and whether they are the ones the annotation was made on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from engine.datasets.base import VideoFrame
from engine.errors import SampleRejected
from engine.inspection.findings import Findings
from engine.inspection.headers import Header, VideoHeader, read_header, read_video_header
from engine.inspection.photographs import ImageBytes, Photograph
from engine.inspection.record import ImageFigures, ImageSize
from engine.inspection.seen import Seen
from engine.inspection.spread import SpreadCounter
from engine.shards.images import ImageConfig

_SIZES = 12
_MAX_SIZES = 200_000
_MAX_VIDEOS = 4096
Size = tuple[int, int]
Found = Header | VideoHeader | SampleRejected


class Images:
    """Counts images once each, however often they come."""

    def __init__(self, findings: Findings, config: ImageConfig) -> None:
        self._findings = findings
        self._images, self._keys, self._paths, self._sized, self._contents = Seen(), Seen(), Seen(), Seen(), Seen()
        self._videos: dict[Path, VideoHeader | SampleRejected] = {}
        self._formats: Counter[str] = Counter()
        self._orientations: Counter[int] = Counter()
        self._sizes: Counter[Size] = Counter()
        self._other_sizes = self._examined = self._frames = 0
        self._widths, self._heights, self._bytes = SpreadCounter(), SpreadCounter(), SpreadCounter()
        self._max_pixels = config.max_pixels

    def __len__(self) -> int:
        return len(self._images)

    def new(self, photograph: Photograph) -> bool:
        """Whether the image, a key and a path, is met for the first time; it is compared with all before it."""
        key, path = photograph.key, photograph.image_path
        place = "" if isinstance(photograph.image, ImageBytes) else photograph.image
        new = self._images.add(key, path)
        if self._sized.add(key, path, repr((place, photograph.size))) and not new:
            self._findings.add("image_contradicts_itself", key, message=f"{path}: {photograph.size}, {place}")
        if new and not self._keys.add(key):
            self._findings.add("key_of_two_images", key, message=path)
        if new and photograph.window is None and not self._paths.add(path):  # crops of one photograph share its path
            self._findings.add("image_of_two_keys", key, message=path)
        return new

    def examine(self, photographs: Sequence[Photograph], pool: Executor, count: Sequence[bool] | None = None) -> list[Size | None]:
        """The true size of every image, upright where the annotation is; None where it cannot be told.

        What `count` marks (None: all) is counted, and its contradictions noted; the others were counted before.
        """
        looked = list(pool.map(self._look, photographs))
        for photograph, header, wanted in zip(photographs, looked, count or [True] * len(looked), strict=True):
            if wanted:
                self._count(photograph, header)
        return [self._true_size(photograph, header) for photograph, header in zip(photographs, looked, strict=True)]

    def count_unexamined(self, photograph: Photograph) -> None:
        """Count an image's annotated size."""
        if photograph.file_size is not None:
            self._count_size(photograph.file_size)

    def figures(self) -> ImageFigures:
        """What was counted."""
        sizes = sorted(self._sizes.items(), key=lambda item: (-item[1], item[0]))
        return ImageFigures(
            images=len(self._images),
            examined=self._examined,
            formats=dict(self._formats.most_common()),
            orientations={str(tag): n for tag, n in sorted(self._orientations.items())},
            videos=self._frames,
            widths=self._widths.spread(),
            heights=self._heights.spread(),
            sizes=tuple(ImageSize(width=w, height=h, images=n) for (w, h), n in sizes[:_SIZES]),
            distinct_sizes=len(sizes) + self._other_sizes,
            file_bytes=self._bytes.spread(),
        )

    def _count(self, photograph: Photograph, found: Found) -> None:
        self._examined += 1
        key, path = photograph.key, photograph.image_path
        self._frames += isinstance(photograph.image, VideoFrame)
        if isinstance(found, SampleRejected):
            self._findings.add(found.reason, key, message=f"{path}: {found}")
            return
        if isinstance(found, VideoHeader):
            self._count_frame(photograph, found)
            return
        self._formats[found.format] += 1
        self._bytes.add(found.size_bytes)
        self._count_size(found.upright if photograph.file_size == found.upright else (found.width, found.height))
        if found.orientation != 1:
            self._orientations[found.orientation] += 1
        if not found.complete:
            self._findings.add("image_cut_short", key, message=f"{path}: {found.size_bytes} bytes")
        if found.width * found.height > self._max_pixels:
            self._findings.add("image_too_large", key, message=f"{path}: {found.width}x{found.height} px")
        if not self._contents.add(found.fingerprint):
            self._findings.add("same_content", key, message=path)
        self._compare(photograph, found)

    def _count_frame(self, photograph: Photograph, video: VideoHeader) -> None:
        size, wanted = (video.width, video.height), photograph.file_size
        self._count_size(wanted or size)
        if wanted not in (None, size, size[::-1]):  # a video may be turned when shown
            message = f"{photograph.image_path}: annotated on {wanted[0]}x{wanted[1]}, found {size[0]}x{size[1]} px"
            self._findings.add("size_differs", photograph.key, message=message)
        if isinstance(photograph.image, VideoFrame) and video.frames is not None and photograph.image.frame >= video.frames:
            self._findings.add("frame_beyond_video", photograph.key, message=f"{photograph.image_path}: of {video.frames} frames")

    def _compare(self, photograph: Photograph, found: Header) -> None:
        stored, wanted = (found.width, found.height), photograph.file_size
        if wanted is not None and wanted not in (stored, found.upright):
            name = "size_swapped" if wanted == stored[::-1] else "size_differs"
            message = f"{photograph.image_path}: annotated on {wanted[0]}x{wanted[1]}, found {stored[0]}x{stored[1]} px"
            self._findings.add(name, photograph.key, message=message)
        elif found.orientation > 1 and (wanted is None or stored == found.upright):
            self._findings.add("orientation_ambiguous", photograph.key, message=f"{photograph.image_path}: EXIF {found.orientation}")

    def _count_size(self, size: Size) -> None:
        self._widths.add(size[0])
        self._heights.add(size[1])
        if size in self._sizes or len(self._sizes) < _MAX_SIZES:
            self._sizes[size] += 1
        else:
            self._other_sizes += 1

    def _look(self, photograph: Photograph) -> Found:
        image = photograph.image
        if not isinstance(image, VideoFrame):
            return read_header(image)
        found = self._videos.get(image.path)
        if found is None:
            if len(self._videos) >= _MAX_VIDEOS:
                self._videos = {}
            found = self._videos[image.path] = read_video_header(image.path)
        return found

    def _true_size(self, photograph: Photograph, found: Found) -> Size | None:
        if photograph.size is not None or not isinstance(found, Header):
            return photograph.size
        return found.width, found.height
