"""Quality figures against numbers worked out by hand, and the camera against the crop's own geometry."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.rows import Quality, annotate_batches, measure, to_table, truncation
from engine.body.cameras import camera_to_image, virtual_camera
from engine.loading.boxes import person_box, processed_box
from engine.loading.crops import crop_affine, warp
from engine.loading.persons import CropBatch
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33


def _instance(
    joints: dict[str, tuple[float, float]], box: tuple[float, float, float, float] = (0, 0, 100, 400), name: str = "1"
) -> Instance:
    return Instance(
        annotation_id=name,
        bbox_xywh=box,
        skeleton="coco17",
        joints_img=tuple(joints.get(joint, (0.0, 0.0)) for joint in COCO17.joints),
        joints_valid=tuple(joint in joints for joint in COCO17.joints),
    )


def _predicted(joints: dict[str, tuple[float, float]]) -> np.ndarray:
    points = np.full((len(POSE2POSE33), 2), -1e6)
    for joint, point in joints.items():
        points[POSE2POSE33.index(joint)] = point
    return points


def test_joints_are_compared_by_name_in_units_of_the_box() -> None:
    """The box is 100 x 400, so 200 px are 1: distances 5, 10 and 40 px are 0.025, 0.05 and 0.2."""
    truth = {"Nose": (50.0, 20.0), "L_Ear": (60.0, 20.0), "R_Ankle": (40.0, 390.0)}
    predicted = {"Nose": (53.0, 24.0), "L_Ear": (60.0, 30.0), "R_Ankle": (0.0, 390.0)}
    quality = measure(_predicted(predicted), _instance(truth))
    assert quality.valid_joints == 3
    assert quality.reprojection_error == pytest.approx((0.025 + 0.05 + 0.2) / 3)
    assert quality.visible_fraction == pytest.approx(2 / 3)
    assert quality.score == pytest.approx(math.exp(-quality.reprojection_error / 0.05) * 2 / 3)


def test_without_valid_joints_nothing_is_claimed() -> None:
    quality = measure(_predicted({}), _instance({}))
    assert math.isnan(quality.reprojection_error) and math.isnan(quality.visible_fraction)
    assert (quality.valid_joints, quality.score) == (0, 0.0)


@given(error=st.floats(0, 1e6), visible=st.floats(0, 1), joints=st.integers(0, 17))
def test_scores_lie_in_0_to_1(error: float, visible: float, joints: int) -> None:
    assert 0 <= Quality(error, visible, joints).score <= 1


@given(x=st.floats(-50, 150), y=st.floats(-50, 150))
def test_truncation_counts_joints_beyond_the_pixels(x: float, y: float) -> None:
    sample = Sample(key="k", dataset="d", image_path="p", width=100, height=80, instances=())
    points = np.array([[x, y], [10.0, 10.0]])
    outside = not (-0.5 <= x < 99.5 and -0.5 <= y < 79.5)
    assert truncation(points, sample) == pytest.approx(0.5 if outside else 0.0)


@given(
    box=st.tuples(st.floats(-20, 300), st.floats(-20, 200), st.floats(20, 300), st.floats(20, 300)),
    crop=st.sampled_from([CropSpec(256, 192), CropSpec(128, 96), CropSpec(224, 224, "spin")]),
    point=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(10, 60)),
)
def test_the_stored_camera_sees_what_the_crops_camera_saw(box: tuple, crop: CropSpec, point: tuple) -> None:
    """Crop pixels of the virtual camera, carried back by the crop's own affine, are the image pixels of the stored camera."""
    processed, crop_hw = person_box(box, (640, 480), crop), crop.hw
    focal, princpt = virtual_camera(crop_hw)
    in_crop = np.array(point[:2]) / point[2] * focal + princpt
    affine = crop_affine(processed, crop_hw)
    in_image = np.linalg.solve(affine[:, :2], in_crop - affine[:, 2])
    (focal_2,), (princpt_2,) = camera_to_image(processed[None], crop_hw)
    np.testing.assert_allclose(np.array(point[:2]) / point[2] * focal_2 + princpt_2, in_image, atol=2e-3 + 1e-6 * np.abs(in_image).max())


def _batch(instances: list[Instance], rejected: list[QuarantineRow]) -> CropBatch:
    sample = Sample(key="k", dataset="d", image_path="p", width=640, height=480, instances=tuple(instances))
    boxes = np.array([processed_box(i.bbox_xywh, (640, 480), (256, 192)) for i in instances]).reshape(-1, 4)
    affines = np.array([crop_affine(box, (256, 192)) for box in boxes]).reshape(-1, 2, 3)
    image = np.zeros((480, 640, 3), np.uint8)
    crops = np.array([warp(image, affine, (256, 192)) for affine in affines]).reshape(-1, 256, 192, 3).astype(np.uint8)
    return CropBatch(crops, boxes, affines, [sample] * len(instances), instances, rejected)


def test_rows_are_sorted_and_rejections_kept_over_batches() -> None:
    lost = [QuarantineRow(dataset="d", key=key, reason="undecodable") for key in ("z", "a")]
    boxes = [(10.0 * i, 20.0, 100.0, 200.0) for i in range(3)]
    batches = [
        _batch([_instance({"Nose": (5.0, 5.0)}, boxes[0], "b")], lost[:1]),
        _batch([], lost[1:]),
        _batch([_instance({}, boxes[1], "a"), _instance({}, boxes[2], "c")], []),
    ]
    rows = annotate_batches(batches, MeanPoseAnnotator(MeanPoseConfig()))
    assert rows.table["annotation_id"].to_pylist() == ["a", "b", "c"]
    assert rows.table["valid_joints"].to_pylist() == [0, 1, 0]
    assert rows.table["bbox_xywh"].to_pylist()[1] == list(boxes[0])
    assert [row.key for row in rows.quarantine] == ["a", "z"]


def test_no_rows_make_an_empty_table_of_the_schema() -> None:
    table = to_table([])
    assert table.num_rows == 0 and table.schema.equals(PSEUDO_GT_SCHEMA, check_metadata=True) and isinstance(table, pa.Table)
