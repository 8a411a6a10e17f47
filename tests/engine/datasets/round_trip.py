"""A loader against the truth of the synthetic writer: the same images and persons, the same joints by name, 3D that projects onto 2D."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.datasets.base import Found, RawItem, SkippedInstances
from engine.synthetic.shots import TrueImage
from schemas.sample import Instance
from schemas.skeletons import SKELETONS

REPROJECTION_PX = 0.5


def assert_round_trip(found: Iterable[Found], truth: list[TrueImage], tolerance_px: float = 0.5, tolerance_m: float = 1e-3) -> None:
    """Images are paired by image_path, persons by annotation_id, or by the order of the file where the truth has no ids."""
    persons: dict[str, list[Instance]] = {}
    for item in found:
        assert not isinstance(item, SkippedInstances), item
        assert isinstance(item, RawItem), item
        persons.setdefault(item.image_path, []).extend(item.instances)
    assert sorted(persons) == sorted(image.image_path for image in truth if image.persons)
    for image in truth:
        mine = persons.get(image.image_path, [])
        assert len(mine) == len(image.persons), image.image_path
        assert len({i.annotation_id for i in mine}) == len(mine)
        by_id = {i.annotation_id: i for i in mine}
        for place, person in enumerate(image.persons):
            instance = mine[place] if person.annotation_id is None else by_id[person.annotation_id]
            where, names = f"{image.image_path} {instance.annotation_id}", SKELETONS[instance.skeleton].joints
            valid = {name for name, ok in zip(names, instance.joints_valid, strict=True) if ok}
            assert set(person.joints_img) <= valid, f"{where}: {set(person.joints_img) - valid} should be valid"
            assert not person.absent & valid, f"{where}: {person.absent & valid} should not be valid"
            for name, pixel in person.joints_img.items():
                off = np.abs(np.array(instance.joints_img[names.index(name)]) - pixel).max()
                assert off <= tolerance_px, f"{where}: {name} is {off:.2f} px off"
            if person.joints_cam is not None:
                assert instance.joints_cam is not None, where
                for name, point in person.joints_cam.items():
                    off = np.abs(np.array(instance.joints_cam[names.index(name)]) - point).max()
                    assert off <= tolerance_m, f"{where}: {name} is {off * 1000:.1f} mm off"
            if instance.joints_cam is not None:
                assert reprojection_px(instance) <= REPROJECTION_PX, f"{where}: its 3D does not project onto its 2D"


def reprojection_px(instance: Instance) -> float:
    """The largest distance of a valid 2D joint from the projection of its 3D joint, pixels; 0 without a valid joint."""
    assert instance.joints_cam is not None and instance.camera is not None
    (fx, fy), (cx, cy) = instance.camera.focal, instance.camera.princpt
    worst = 0.0
    for (u, v), ok, (x, y, z) in zip(instance.joints_img, instance.joints_valid, instance.joints_cam, strict=True):
        if ok:
            worst = max(worst, float(np.hypot(fx * x / z + cx - u, fy * y / z + cy - v)))
    return worst
