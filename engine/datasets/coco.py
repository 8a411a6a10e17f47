"""COCO keypoints: in-the-wild photographs with 17 2D joints.

Layout: `annotations/person_keypoints_<split>.json` and the images in `<split>/`. Crowds (their outline is run-length
coded and covers many people) and persons without a labelled joint are skipped and counted; any v > 0 is a valid joint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from engine.datasets.base import ImageFile, RawDataset, RawItem, SkippedInstances, make_instance, read_json, safe_key
from engine.datasets.geometry import degenerate
from engine.errors import RawDataError
from schemas.sample import Instance, Supervision
from schemas.skeletons import COCO17


class Coco(RawDataset):
    """Instances have skeleton coco17 and 2D joints only; annotation_id is COCO's own id."""

    supervision: ClassVar[Supervision] = "itw2d"

    def annotation_files(self) -> list[Path]:
        return [self.require("annotations", f"person_keypoints_{self.split}.json")]

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        (path,) = self.annotation_files()
        self.require(self.split)
        try:
            yield from self._items(read_json(path))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RawDataError(f"{path}: expected COCO's person keypoints, found an entry with a missing or odd field: {error!r}") from None

    def _items(self, content: dict[str, Any]) -> Iterator[RawItem | SkippedInstances]:
        persons: dict[Any, list[dict]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation["image_id"] in persons:
                persons[annotation["image_id"]].append(annotation)
            else:
                yield SkippedInstances("unknown_image")
        for key, image in sorted(((_key(image), image) for image in content["images"]), key=lambda pair: pair[0]):
            width, height = int(image["width"]), int(image["height"])
            kept: list[Instance] = []
            for annotation in persons[image["id"]]:
                person = _person(annotation, width, height)
                if isinstance(person, SkippedInstances):
                    yield person
                else:
                    kept.append(person)
            if kept:
                image_path = f"{self.split}/{image['file_name']}"
                yield RawItem(key, image_path, ImageFile(self.image_file(image_path)), width, height, tuple(kept))


def _key(image: dict[str, Any]) -> str:
    return safe_key(PurePosixPath(image["file_name"]).stem, fallback=str(image["id"]).zfill(12))


def _person(annotation: dict[str, Any], width: int, height: int) -> Instance | SkippedInstances:
    if annotation.get("iscrowd"):
        return SkippedInstances("crowd")
    flat = annotation["keypoints"]
    if len(flat) != 3 * len(COCO17):
        raise RawDataError(f"COCO annotation {annotation['id']}: expected {3 * len(COCO17)} keypoint values, found {len(flat)}")
    valid = tuple(v > 0 for v in flat[2::3])
    if not any(valid) or annotation.get("num_keypoints") == 0:
        return SkippedInstances("no_keypoints")
    bbox = tuple(float(v) for v in annotation["bbox"])
    if len(bbox) != 4 or degenerate(bbox, width, height):
        return SkippedInstances("degenerate_box")
    return make_instance(
        annotation_id=str(annotation["id"]),
        bbox_xywh=bbox,
        skeleton=COCO17.name,
        joints_img=tuple(zip(flat[0::3], flat[1::3], strict=True)),
        joints_valid=valid,
    )
