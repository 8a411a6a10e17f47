"""COCO's keypoint JSON with the fits inside: {images, annotations, categories}, as pycocotools and every COCO loader read it.

An annotation has its usual fields and four more: `smpl_param` {pose, shape, trans} and `cam_param` {focal, princpt} as NeuralAnnot's,
`latent` (or null) and `quality` (null where a figure is NaN). `annotation_id` and `key` are the release's own names of person and image;
the integer ids that COCO's tools want are the dataset's where those are integers, and numbers from 10^12 on where they are not.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from engine.config import Config
from engine.datasets.json_stream import arrays
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.digits import json_numbers
from engine.exchange.files import only_file
from engine.exchange.match import image_name
from engine.exchange.neuralannot import ODD, camera_json, fit_of, smpl_json
from engine.exchange.seen import SeenNames
from schemas.skeleton import Skeleton
from schemas.skeletons import SKELETONS

CAPABILITIES = Capabilities(
    camera=True,
    latent=True,
    quality=True,
    notes=(
        "a joint is labelled (v = 2) or not (0): whether it was visible is not known any more",
        "area is the box's, not a segment's; ids that are no integers are numbered anew beside annotation_id",
    ),
)
_FIRST_NUMBER = 10**12
_SUFFIX = "_keypoints_smpl.json"


class Options(Config):
    """COCO's JSON has none."""


class CocoJsonWriter:
    """One file, written as persons come; annotations wait in a temporary file until the images are known."""

    wants_images = False

    def __init__(self, folder: Path, info: ExportInfo) -> None:
        self._name = f"person_{info.dataset}_{info.split}{_SUFFIX}"
        self._file = open(folder / self._name, "w", encoding="utf-8")  # noqa: SIM115  closed by `close`
        self._annotations = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        said = {"description": f"{info.release}, digest {info.digest}; body {info.body_name}", "version": "1.0"}
        self._file.write(f'{{"info":{json.dumps(said)},\n"images":[')
        self._image_ids, self._ids = _Numbers(), _Numbers()
        self._categories: dict[str, int] = {}
        self._key, self._image_id, self._written = None, 0, 0

    def add(self, person: Person) -> None:
        sample, instance = person.sample, person.instance
        record = self._annotation(person)
        if sample.key != self._key:
            comma = "" if self._key is None else ","
            self._key, self._image_id = sample.key, self._image_ids.of(image_name(sample.key).stem, padded=True)
            image = {
                "id": self._image_id,
                "file_name": sample.image_path,
                "width": sample.width,
                "height": sample.height,
                "key": sample.key,
            }
            self._file.write(f"{comma}\n{json.dumps(image)}")
        head = {
            "id": self._ids.of(instance.annotation_id),
            "image_id": self._image_id,
            "category_id": self._categories.setdefault(instance.skeleton, len(self._categories) + 1),
            "annotation_id": instance.annotation_id,
            "key": sample.key,
        }
        self._annotations.write(f"{',' if self._written else ''}\n{json.dumps(head)[:-1]}, {record}")
        self._written += 1

    def _annotation(self, person: Person) -> str:
        """The members of an annotation that do not depend on other persons."""
        instance = person.instance
        x, y, w, h = instance.bbox_xywh
        keypoints = []
        for (u, v), valid in zip(instance.joints_img, instance.joints_valid, strict=True):
            keypoints += (u, v, 2) if valid else (0, 0, 0)
        usual = {"iscrowd": 0, "bbox": [x, y, w, h], "area": w * h, "num_keypoints": sum(instance.joints_valid), "keypoints": keypoints}
        latent = json_numbers(person.latent_32) if np.isfinite(person.latent_32).all() else "null"
        quality = {name: value if math.isfinite(value) else None for name, value in person.quality.items()}
        smpl = smpl_json(person.pose_72, person.betas_10, person.transl_3)
        return (
            f'{json.dumps(usual, allow_nan=False)[1:-1]}, "smpl_param":{{{smpl}}},"cam_param":{{{camera_json(person)}}},'
            f'"latent":{latent},"quality":{json.dumps(quality)}}}'
        )

    def close(self) -> list[str]:
        self._file.write('\n],\n"annotations":[')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._file)
        categories = [_category(number, SKELETONS[name]) for name, number in self._categories.items()]
        self._file.write(f'\n],\n"categories":{json.dumps(categories)}}}\n')
        for file in (self._file, self._annotations, self._image_ids, self._ids):
            file.close()
        return [self._name]


class _Numbers:
    """Integer ids, each given once: a name's own number where it is one, else the next from 10^12 on."""

    def __init__(self) -> None:
        self._seen, self._next = SeenNames(), _FIRST_NUMBER

    def of(self, name: str, padded: bool = False) -> int:
        own = int(name) if name.isascii() and name.isdecimal() and len(name) < 17 else -1
        own = own if 0 <= own < _FIRST_NUMBER and (padded or str(own) == name) else -1
        if own >= 0 and self._seen.add(str(own)):
            return own
        self._next += 1
        return self._next - 1

    def close(self) -> None:
        self._seen.close()


def _category(number: int, skeleton: Skeleton) -> dict[str, Any]:
    sides = {"L_": "left_", "R_": "right_"}
    names = [(sides[joint[:2]] + joint[2:] if joint[:2] in sides else joint).lower() for joint in skeleton.joints]
    bones = [[a + 1, b + 1] for a, b in skeleton.bone_indices]
    said = {"id": number, "name": "person" if number == 1 else f"person_{skeleton.name}", "supercategory": "person"}
    return said | {"keypoints": names, "skeleton": bones}


class CocoJsonReader:
    """Annotations with `smpl_param`, of this project's exports or anybody's. `annotation_id` and `key` are used where they are there.

    Annotations without `smpl_param` are somebody else's business and are passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def fits(self) -> Iterator[Fit | Unmapped]:
        for _, record in arrays(self._path, ("annotations",)):
            if not isinstance(record, dict) or record.get("smpl_param") is None:
                continue
            identity = record.get("annotation_id", record.get("id"))
            if isinstance(identity, bool) or not isinstance(identity, str | int):
                yield Unmapped(str(identity)[:100], "invalid_record", "the annotation has no id")
                continue
            key = record.get("key")
            names = {"annotation_id": str(identity), "image": key if isinstance(key, str) else None}
            try:
                yield fit_of(record, **names)
            except ODD as error:
                yield Unmapped(str(identity), "invalid_record", f"{type(error).__name__}: {error}", **names)


def open_writer(folder: Path, options: Options, info: ExportInfo) -> CocoJsonWriter:
    return CocoJsonWriter(folder, info)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> CocoJsonReader:
    return CocoJsonReader(only_file(path, f"*{_SUFFIX}"))
