"""CrowdPose: crowded photographs with 14 2D joints, in COCO's JSON layout.

Layout: `crowdpose_<train|val|trainval|test>.json` in the root, `annotations/` or `json/`, also under mmpose's names, and the images in
`images/`, or beside the file. Every person has a box; persons without a labelled joint are skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from engine.datasets.base import RawDataset, RawItem, SkippedInstances
from engine.datasets.coco_json import CocoLayout, ImageRecord, image_size, keypoint_joints, keypoint_order, read_persons
from engine.errors import MissingInput
from schemas.sample import Supervision
from schemas.skeletons import CROWDPOSE14

_FOLDERS = ("annotations", "json", ".")
_NAMES = ("crowdpose_{}.json", "mmpose_crowdpose_{}.json", "{}_crowdpose.json")
_ORIENTATION = 274


class CrowdPose(RawDataset):
    """Instances have skeleton crowdpose14 and 2D joints only; annotation_id is the file's own id."""

    supervision: ClassVar[Supervision] = "itw2d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "swapped_size": "width and height are exchanged in some published files; the size in the image's own header decides, and where "
        "the two agree in neither order, or there is no image, none is told",
        "uncounted_joints": "num_keypoints leaves out head and neck, so only the joints' own labels say whether there are any",
    }

    def annotation_files(self) -> list[Path]:
        tried = [self.root / folder / name.format(self.split) for folder in _FOLDERS for name in _NAMES]
        for path in tried:
            if path.is_file():
                return [path]
        raise MissingInput(f"dataset {self.name}: {tried[0]} does not exist, nor does any of its other names; check root and split")

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        (path,) = self.annotation_files()
        order, count = keypoint_order(path, CROWDPOSE14)
        folder = "images/" if (self.root / "images").is_dir() else ""

        def image(entry: dict[str, Any]) -> ImageRecord:
            image_path = f"{folder}{entry['file_name']}"
            return ImageRecord(image_path, *_true_size(self.image_file(image_path), image_size(entry)))

        layout = CocoLayout(CROWDPOSE14, keypoint_joints(order, count), image, unlabelled=lambda annotation: False)
        yield from read_persons(self, path, layout)


def _true_size(file: Path, told: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """The size on which an image was annotated: as told, or the other way round where the image's header says so."""
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            stored, turned = image.size, image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, None
    # Of a photograph to be turned by a right angle, exchanged sides may be right: ingest's rule for such images decides.
    if stored == told or (stored == told[::-1] and not turned):
        return stored
    return None, None
