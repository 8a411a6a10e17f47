"""COCO's JSON layout, which several datasets share: images and annotations as two arrays of one file, read as a stream.

Memory is the table of images, some 300 bytes each; annotations pass one at a time, each as an item of its own, in the file's order.
Keypoints are flat triples (x, y, v); any v > 0 is a labelled joint. A person whose fields are missing or odd costs only itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from engine.datasets.base import ImageFile, RawDataset, RawItem, SkippedInstances, safe_key
from engine.datasets.geometry import degenerate
from engine.datasets.json_stream import array_items, arrays
from engine.errors import RawDataError
from schemas.sample import Instance
from schemas.skeleton import Skeleton

PERSON_CATEGORY = 1
_ODD = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What a missing or odd field raises; pydantic's ValidationError is a ValueError."""
_SPELLINGS = {"Head": "Head_top", "Upper_neck": "Neck", "Throax": "Thorax"}
"""Published names of joints, capitalised, whose name here is another; "throax" is in the authors' MPII files."""


class ImageRecord(NamedTuple):
    """One entry of `images`; its path is relative to the dataset's root."""

    path: str
    width: int | None
    height: int | None


class Joints(NamedTuple):
    """A person's joints in the order of its skeleton, pixels."""

    places: Sequence[Sequence[float]]
    valid: Sequence[bool]


@dataclass(frozen=True)
class CocoLayout:
    """How one dataset fills COCO's layout. Functions may raise whatever an odd field leads them into."""

    skeleton: Skeleton
    joints: Callable[[dict[str, Any]], Joints]
    image: Callable[[dict[str, Any]], ImageRecord]
    """Of an entry of `images`; an entry it cannot read is no image."""
    box: Callable[[dict[str, Any], Joints], Sequence[float]] = lambda annotation, _: annotation["bbox"]
    unlabelled: Callable[[dict[str, Any]], bool] = lambda annotation: annotation.get("num_keypoints") == 0
    """Whether an annotation says that it has no keypoints, whatever their labels say."""


def read_persons(dataset: RawDataset, path: Path, layout: CocoLayout) -> Iterator[RawItem | SkippedInstances]:
    """Every annotation of a file, as an image with one person or with the reason why it is skipped.

    RawDataError if the file is not JSON, is cut short or has no images or annotations; UnsafeInput if it names an image outside the root.
    """
    images: dict[Any, ImageRecord] = {}
    for annotation in _annotations(path, images, layout):
        image = None
        try:
            image_id = annotation["image_id"]
            image = images.get(image_id)
            person = SkippedInstances("unknown_image") if image is None else _person(annotation, image, layout)
        except _ODD:
            person = SkippedInstances("invalid_annotation")
        if image is None or isinstance(person, SkippedInstances):
            yield person
        else:
            key = safe_key(image.path.rpartition("/")[2].rpartition(".")[0], fallback=str(image_id).zfill(12))
            yield RawItem(key, image.path, ImageFile(dataset.image_file(image.path)), image.width, image.height, (person,))


def _annotations(path: Path, images: dict[Any, ImageRecord], layout: CocoLayout) -> Iterator[Any]:
    """Entries of `annotations`, none before `images` is filled. Of images with one id the first counts."""

    def add(entry: Any) -> None:
        try:
            images.setdefault(entry["id"], layout.image(entry))
        except _ODD:
            return

    for name, entry in arrays(path, ("images", "annotations")):
        if name == "images":
            add(entry)
        elif images:
            yield entry
        else:
            break
    else:
        return
    for entry in array_items(path, "images"):
        add(entry)
    yield from array_items(path, "annotations")


def _person(annotation: dict[str, Any], image: ImageRecord, layout: CocoLayout) -> Instance | SkippedInstances:
    if annotation.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY:
        return SkippedInstances("other_category")
    if annotation.get("iscrowd"):
        return SkippedInstances("crowd")
    joints = layout.joints(annotation)
    if layout.unlabelled(annotation) or not any(joints.valid):
        return SkippedInstances("no_keypoints")
    x, y, w, h = layout.box(annotation, joints)
    if not isfinite(x + y + w + h) or not isinstance(annotation["id"], int | str):
        return SkippedInstances("invalid_annotation")
    if not (w > 0 and h > 0) or (image.width and image.height and degenerate((x, y, w, h), image.width, image.height)):
        return SkippedInstances("degenerate_box")
    return Instance(
        annotation_id=str(annotation["id"]),
        bbox_xywh=(x, y, w, h),
        skeleton=layout.skeleton.name,
        joints_img=joints.places,
        joints_valid=joints.valid,
    )


def image_size(entry: dict[str, Any]) -> tuple[int | None, int | None]:
    """Width and height of an entry of `images`; (None, None) unless both are whole numbers of pixels."""
    width, height = entry.get("width"), entry.get("height")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if known else (None, None)


def triples(flat: Any, count: int) -> tuple[list[tuple[float, float]], list[bool]]:
    """Places and labels of `count` flat triples; ValueError if there are more or fewer, or a label is NaN."""
    if len(flat) != 3 * count:
        raise ValueError(f"expected {count} keypoints of three numbers, found {len(flat)} numbers")
    labels = flat[2::3]
    if not isfinite(sum(labels)):
        raise ValueError("a keypoint's label is not a number")
    return list(zip(flat[0::3], flat[1::3], strict=True)), [v > 0 for v in labels]


def keypoint_joints(order: tuple[int | None, ...], count: int) -> Callable[[dict[str, Any]], Joints]:
    """A reader of `keypoints`: the skeleton's joint i is keypoint order[i] of `count`, or none of them."""
    if order == tuple(range(count)):
        return lambda annotation: Joints(*triples(annotation["keypoints"], count))

    def read(annotation: dict[str, Any]) -> Joints:
        places, valid = triples(annotation["keypoints"], count)
        return Joints([(0, 0) if i is None else places[i] for i in order], [i is not None and valid[i] for i in order])

    return read


def keypoint_order(path: Path, skeleton: Skeleton) -> tuple[tuple[int | None, ...], int]:
    """Where a file's person category names each joint of a skeleton, and how many keypoints it names.

    The skeleton's own order where the file names no keypoints. RawDataError if none of the names is a joint of the skeleton.
    """
    try:
        lists = (c.get("keypoints") for c in array_items(path, "categories") if isinstance(c, dict))
        named = next((names for names in lists if isinstance(names, list) and names), None)
    except RawDataError:
        named = None
    if named is None:
        return tuple(range(len(skeleton))), len(skeleton)
    found = {joint_name(str(name)): i for i, name in enumerate(named)}
    order = tuple(found.get(joint) for joint in skeleton.joints)
    if order.count(None) == len(order):
        raise RawDataError(f"{path}: expected keypoints of skeleton {skeleton.name}, its category names {', '.join(map(str, named))}")
    return order, len(named)


def joint_name(published: str) -> str:
    """The name here of a joint that a file calls left_shoulder, r_ankle, throax or upper_neck."""
    side = re.match(r"(l|left|r|right)_", published.lower())
    rest = published[side.end() :] if side else published
    name = rest.lower().capitalize()
    return f"{side[1][0].upper()}_{name}" if side else _SPELLINGS.get(name, name)
