from __future__ import annotations

import numpy as np

from engine.annotators.seen import Seen
from engine.loading.persons import CropBatch
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33

AFFINE_23 = np.array([[0.5, 0.0, 10.0], [0.0, 0.25, -5.0]])


def _batch() -> CropBatch:
    joints = tuple((float(8 * i), float(4 * i)) for i in range(17))
    valid = tuple(i % 3 != 0 for i in range(17))
    nobody = Instance(annotation_id="b", bbox_xywh=(0, 0, 9, 9), skeleton="coco17", joints_img=joints, joints_valid=(False,) * 17)
    people = (
        Instance(annotation_id="a", bbox_xywh=(0, 0, 9, 9), skeleton="coco17", joints_img=joints, joints_valid=valid),
        nobody,
        Instance(annotation_id="c", bbox_xywh=(0, 0, 9, 9), skeleton="coco17", joints_img=joints, joints_valid=(True,) * 17),
    )
    sample = Sample(key="k", dataset="d", image_path="p", width=300, height=200, instances=people)
    return CropBatch(np.zeros((3, 4, 4, 3), np.uint8), np.zeros((3, 4)), np.stack([AFFINE_23] * 3), [sample] * 3, list(people))


def test_joints_are_mapped_by_name_into_the_crop() -> None:
    seen = Seen(_batch(), 5)
    assert seen.joints_BJ2.shape == (5, 33, 2) and seen.weight_BJ.shape == (5, 33)
    for i, name in enumerate(COCO17.joints):
        j = POSE2POSE33.index(name)
        assert seen.weight_BJ[0, j] == (i % 3 != 0)
        assert seen.joints_BJ2[0, j].tolist() == ([0.5 * 8 * i + 10, 0.25 * 4 * i - 5] if i % 3 else [0, 0])
    assert seen.weight_BJ[0].sum() == sum(i % 3 != 0 for i in range(17))
    assert not seen.weight_BJ[[1, 3, 4]].any() and not seen.joints_BJ2[[1, 3, 4]].any()
    assert seen.weight_BJ[2].sum() == 17


def test_a_person_alone_is_as_in_company_and_the_others_are_blank() -> None:
    seen = Seen(_batch(), 4)
    alone = seen.alone((2,))
    assert np.array_equal(alone.joints_BJ2[2], seen.joints_BJ2[2]) and np.array_equal(alone.weight_BJ[2], seen.weight_BJ[2])
    assert not alone.weight_BJ[[0, 1, 3]].any()
