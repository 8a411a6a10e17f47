"""The loops that loading is measured against, written as well as their libraries allow: one thread, no needless copies.

Both give what their users' networks take, (3, H, W) float32 in [0, 1], and the targets our loading gives for persons known in 2D, under
the same augmentation. `OpenCVPersons` is a torch Dataset: an item is a person, for whom the whole photograph is read. `pil_persons`
is a WebDataset pipeline: a photograph is decoded once, and each of its persons is cropped with PIL.

Shapes: B a batch, J = 33 joints, crops of (H, W).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import webdataset as wds
from PIL import Image
from torch.utils.data import Dataset, default_collate

from benchmarks.photos import SPLIT
from engine.datasets.base import DatasetConfig, RawItem
from engine.datasets.registry import open_dataset
from engine.loading.augmentation import AugmentConfig
from engine.loading.instances import INSTANCE, fill_instance
from schemas.crops import CropSpec
from schemas.skeletons import POSE2POSE33

HM_DHW = (8, 8, 6)
_FLIP = np.array(POSE2POSE33.flip_permutation)
_J = len(POSE2POSE33)
_NO_3D = {
    "joint_cam": np.zeros((_J, 3), np.float32),
    "joint_cam_valid": np.zeros(_J, np.float32),
    "is_3d": np.float32(0),
    "smpl_joint_img": np.zeros((_J, 3), np.float32),
    "smpl_joint_trunc": np.zeros(_J, np.float32),
    "smpl_joint_cam": np.zeros((_J, 3), np.float32),
    "smpl_joint_valid": np.zeros(_J, np.float32),
    "smpl_pose": np.zeros(72, np.float32),
    "smpl_pose_valid": np.zeros(72, np.float32),
    "smpl_shape": np.zeros(10, np.float32),
    "smpl_shape_valid": np.float32(0),
}


@dataclass(frozen=True)
class Person:
    """What the loops know of a person before they start: processed box (xywh, px), 33 joints (px) and which of them are valid."""

    name: str
    image_file: Path
    box: tuple[float, float, float, float]
    joints_J2: np.ndarray
    valid_J: np.ndarray


def persons(root: Path, crop: CropSpec) -> list[Person]:
    """Every person of the benchmark's photographs, with the box that our loading crops."""
    found = []
    for item in open_dataset(DatasetConfig(name="coco", root=str(root), split=SPLIT)).items():
        assert isinstance(item, RawItem) and item.width and item.height
        for instance in item.instances:
            row = np.zeros(1, INSTANCE)[0]
            fill_instance(row, instance, (item.width, item.height), crop, "2d")
            name = f"coco/{item.key}/{instance.annotation_id}"
            found.append(Person(name, item.image.path, tuple(row["box"].tolist()), row["joints_img"].copy(), row["joints_valid"].copy()))
    return found


class OpenCVPersons(Dataset):
    """One person an item: read the whole photograph, warp, jitter the colours, scale to [0, 1], build the targets."""

    def __init__(self, root: Path, crop: CropSpec, augment: AugmentConfig) -> None:
        cv2.setNumThreads(1)
        self.persons, self.crop_hw, self.augment = persons(root, crop), crop.hw, augment

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: int) -> dict[str, Any]:
        person, (H, W) = self.persons[index], self.crop_hw
        image = cv2.imread(str(person.image_file), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        affine_23, flip, gain_3 = _drawn(person.box, self.crop_hw, self.augment)
        crop = cv2.warpAffine(image, affine_23, (W, H), flags=cv2.INTER_LINEAR)
        return {"image": _scaled(crop, gain_3)} | _targets(person, affine_23, flip, self.crop_hw)


def write_tar(path: Path, root: Path, crop: CropSpec) -> None:
    """The photographs as a WebDataset user stores them: untouched files, and what is known of their persons as one .npz each."""
    by_file: dict[Path, list[Person]] = {}
    for person in persons(root, crop):
        by_file.setdefault(person.image_file, []).append(person)
    with wds.TarWriter(str(path), encoder=True) as tar:
        for file, found in by_file.items():
            arrays = {"box": [p.box for p in found], "joints": [p.joints_J2 for p in found], "valid": [p.valid_J for p in found]}
            tar.write(
                {"__key__": file.stem, "jpg": file.read_bytes(), "npz": {k: np.stack(v).astype(np.float32) for k, v in arrays.items()}}
            )


def pil_persons(tar: Path, crop: CropSpec, augment: AugmentConfig, batch_size: int) -> wds.WebDataset:
    """Batches of a tar of `write_tar`: shuffled, decoded once a photograph, cropped with PIL's affine transform."""

    crop_hw = crop.hw

    def crops(photographs: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for photograph in photographs:
            image, known = photograph["jpg"], photograph["npz"]
            for box, joints_J2, valid_J in zip(known["box"].tolist(), known["joints"], known["valid"], strict=True):
                affine_23, flip, gain_3 = _drawn(box, crop_hw, augment)
                crop = image.transform(crop_hw[::-1], Image.Transform.AFFINE, _pil_inverse(affine_23), Image.Resampling.BILINEAR)
                yield {"image": _scaled(np.asarray(crop), gain_3)} | _targets(
                    Person("", tar, box, joints_J2, valid_J), affine_23, flip, crop_hw
                )

    dataset = wds.WebDataset(str(tar), shardshuffle=False)
    if augment.scale:
        dataset = dataset.shuffle(100)
    return dataset.decode("pil").compose(crops).batched(batch_size, collation_fn=default_collate, partial=False)


def _drawn(box: tuple[float, ...], crop_hw: tuple[int, int], config: AugmentConfig) -> tuple[np.ndarray, bool, np.ndarray]:
    """Image-to-crop affine (2, 3), whether it mirrors, and the colour gains (3,) of one drawn augmentation."""
    (H, W), (x, y, w, h) = crop_hw, box
    scale = 1 + config.scale * min(1.0, max(-1.0, random.gauss(0, 1)))
    turned = random.random() < config.rotation_probability
    angle = math.radians(config.rotation_deg) * min(2.0, max(-2.0, random.gauss(0, 1))) if turned else 0.0
    flip = random.random() < config.flip_probability
    zoom_x, zoom_y, cos, sin, mirror = W / (w * scale), H / (h * scale), math.cos(angle), math.sin(angle), -1 if flip else 1
    a, b, c, d = zoom_x * cos * mirror, zoom_x * sin, -zoom_y * sin * mirror, zoom_y * cos
    centre_x, centre_y = x + w / 2, y + h / 2
    affine_23 = np.array([[a, b, W / 2 - a * centre_x - b * centre_y], [c, d, H / 2 - c * centre_x - d * centre_y]])
    return affine_23, flip, np.array([1 + config.colour * (2 * random.random() - 1) for _ in range(3)], np.float32)


def _scaled(crop_HW3: np.ndarray, gain_3: np.ndarray) -> np.ndarray:
    """(3, H, W) float32 in [0, 1] of a crop (H, W, 3) uint8 with its channels multiplied and clipped."""
    image_3HW = np.ascontiguousarray(crop_HW3.transpose(2, 0, 1), dtype=np.float32)
    image_3HW *= (gain_3 / 255)[:, None, None]
    return np.minimum(image_3HW, 1, out=image_3HW)


def _targets(person: Person, affine_23: np.ndarray, flip: bool, crop_hw: tuple[int, int]) -> dict[str, Any]:
    """Heat-map targets of a person known in 2D, and the empty 3D ones."""
    (H, W), (hm_d, hm_h, hm_w) = crop_hw, HM_DHW
    crop_J2, valid_J = person.joints_J2 @ affine_23[:, :2].T + affine_23[:, 2], person.valid_J
    if flip:
        crop_J2, valid_J = crop_J2[_FLIP], valid_J[_FLIP]
    joint_J3 = np.empty((_J, 3), np.float32)
    joint_J3[:, :2] = crop_J2 * (hm_w / W, hm_h / H)
    joint_J3[:, 2] = hm_d / 2
    inside_J = ((joint_J3 >= 0) & (joint_J3 < (hm_w, hm_h, hm_d))).all(1)
    return _NO_3D | {"joint_img": joint_J3 * valid_J[:, None], "joint_valid": valid_J, "joint_trunc": valid_J * inside_J}


def _pil_inverse(affine_23: np.ndarray) -> tuple[float, ...]:
    """PIL maps crop pixels to image pixels and counts from a pixel's corner, not from its centre."""
    inverse_22 = np.linalg.inv(affine_23[:, :2])
    shift_2 = inverse_22 @ (0.0 - affine_23[:, 2] - 0.5) + 0.5
    return (*inverse_22[0], shift_2[0], *inverse_22[1], shift_2[1])
