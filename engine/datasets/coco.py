"""COCO keypoints: in-the-wild photographs with 17 2D joints, of 2014 and 2017; or COCO-WholeBody, with feet and fingers too.

Layout: `annotations/person_keypoints_<split>.json` and the images in `<split>/` or `images/<split>/`; COCO-WholeBody's file lies beside
it as `annotations/coco_wholebody_<train|val>_v1.0.json`. Crowds (their outline is run-length coded and covers many people) and persons
without a labelled body joint are skipped and counted; any v > 0 is a valid joint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from engine.datasets.base import DatasetConfig, RawDataset, RawItem, SkippedInstances
from engine.datasets.coco_json import CocoLayout, ImageRecord, Joints, image_size, keypoint_joints, read_persons, triples
from engine.errors import ConfigError
from schemas.sample import Supervision
from schemas.skeletons import COCO17, COCO_WHOLEBODY32

_WHOLEBODY_SPLITS = {"train2017": "train", "val2017": "val"}
_FEET, _HAND = 6, 21
"""Keypoints of `foot_kpts` (big toe, small toe and heel of the left foot, then of the right) and of a hand."""
_FINGERS = {"Index_1": 5, "Middle_1": 9, "Ring_1": 13, "Pinky_1": 17}
"""First joints of the fingers among a hand's keypoints, in the skeleton's order."""


class Coco(RawDataset):
    """Instances have skeleton coco17, or coco_wholebody32, and 2D joints only; annotation_id is COCO's own id."""

    supervision: ClassVar[Supervision] = "itw2d"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.wholebody = config.coco.annotations == "wholebody"
        if self.wholebody and self.split not in _WHOLEBODY_SPLITS:
            raise ConfigError(f"dataset coco: COCO-WholeBody has the splits {', '.join(_WHOLEBODY_SPLITS)}, not {self.split!r}")

    def annotation_files(self) -> list[Path]:
        name = f"coco_wholebody_{_WHOLEBODY_SPLITS[self.split]}_v1.0" if self.wholebody else f"person_keypoints_{self.split}"
        return [self.require("annotations", f"{name}.json")]

    def settings(self) -> dict[str, Any]:
        """Nothing for the 17 joints, so that their shard sets keep the digest they always had."""
        return {"annotations": "wholebody"} if self.wholebody else {}

    def items(self) -> Iterator[RawItem | SkippedInstances]:
        (path,) = self.annotation_files()
        folder = f"images/{self.split}" if (self.root / "images" / self.split).is_dir() else self.split
        self.require(folder)

        def image(entry: dict[str, Any]) -> ImageRecord:
            return ImageRecord(f"{folder}/{entry['file_name']}", *image_size(entry))

        body = keypoint_joints(tuple(range(len(COCO17))), len(COCO17))
        layout = CocoLayout(COCO_WHOLEBODY32, _wholebody_joints, image) if self.wholebody else CocoLayout(COCO17, body, image)
        yield from read_persons(self, path, layout)


def _wholebody_joints(annotation: dict[str, Any]) -> Joints:
    """In the order of coco_wholebody32: the body's 17, the middle of its hips where both are labelled, feet, fingers."""
    places, valid = triples(annotation["keypoints"], len(COCO17))
    left, right = COCO17.index("L_Hip"), COCO17.index("R_Hip")
    pelvis_valid = valid[left] and valid[right]
    pelvis = tuple((a + b) / 2 for a, b in zip(places[left], places[right], strict=True)) if pelvis_valid else (0, 0)
    feet, feet_valid = triples(annotation["foot_kpts"], _FEET)
    places, valid = [*places, pelvis, *feet], [*valid, pelvis_valid, *feet_valid]
    for hand in ("lefthand_kpts", "righthand_kpts"):
        points, labelled = triples(annotation[hand], _HAND)
        places += [points[i] for i in _FINGERS.values()]
        valid += [labelled[i] for i in _FINGERS.values()]
    return Joints(places, valid)
