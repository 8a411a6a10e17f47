"""Rows against a second implementation, one person at a time, and the camera against the crop's own geometry."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.annotators.base import Annotator, Prediction, no_latent
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.rows import BatchRows, annotate_batches, assemble, batch_rows
from engine.body.cameras import camera_to_image, virtual_camera
from engine.loading.boxes import person_box
from engine.loading.crops import crop_affine
from engine.loading.persons import CropBatch
from engine.releases.tables import encode
from schemas.crops import CropSpec
from schemas.manifests import QuarantineRow
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample
from schemas.skeletons import POSE2POSE33, SKELETONS

CROP = CropSpec(64, 48)


@pytest.fixture(scope="module")
def annotator() -> MeanPoseAnnotator:
    return MeanPoseAnnotator(MeanPoseConfig(crop_hw=CROP.hw))


def _person(rng: np.random.Generator, name: str, skeleton: str = "coco17") -> tuple[Sample, Instance]:
    joints = len(SKELETONS[skeleton])
    x, y, w, h = (float(v) for v in (rng.uniform(0, 300), rng.uniform(0, 200), rng.uniform(30, 300), rng.uniform(60, 250)))
    points = np.array([x, y]) + rng.uniform(size=(joints, 2)) * (w, h)
    valid = rng.uniform(size=joints) < rng.choice([0.0, 0.5, 1.0])
    instance = Instance(
        annotation_id=name, bbox_xywh=(x, y, w, h), skeleton=skeleton, joints_img=tuple(map(tuple, points.tolist())),
        joints_valid=tuple(valid.tolist()),
    )  # fmt: skip
    return Sample(key=f"k{name[0]}", dataset="d", image_path="p", width=640, height=480, instances=(instance,)), instance


def _batch(persons: list[tuple[Sample, Instance]], rejected: tuple[QuarantineRow, ...] = ()) -> CropBatch:
    boxes = np.array([person_box(i.bbox_xywh, (640, 480), CROP) for _, i in persons]).reshape(-1, 4)
    affines = np.array([crop_affine(box, CROP.hw) for box in boxes]).reshape(-1, 2, 3)
    crops = np.zeros((len(persons), *CROP.hw, 3), np.uint8)
    return CropBatch(crops, boxes, affines, [s for s, _ in persons], [i for _, i in persons], list(rejected))


def _prediction(annotator: Annotator, n: int, seed: int = 0, latent: bool = True) -> Prediction:
    """Many poses near the mean one, where the box wants them."""
    rng, mean = np.random.default_rng(seed), annotator.predict(np.zeros((n, *CROP.hw, 3), np.uint8))
    pose, betas, transl = (
        (values + rng.normal(0, scale, values.shape)).astype(np.float32)
        for values, scale in ((mean.pose_N72, 0.2), (mean.betas_N10, 1), (mean.cam_transl_N3, 0.3))
    )
    code = rng.normal(size=(n, 32)).astype(np.float32) if latent else no_latent(n)
    return Prediction(pose, betas, transl, code, np.abs(rng.normal(0, 0.1, n)).astype(np.float32) if latent else None)


def _expected(annotator: Annotator, batch: CropBatch, out: Prediction, i: int) -> dict[str, object]:
    """One person's row, worked out in Python numbers from the crop's affine; joints by name."""
    sample, instance = batch.samples[i], batch.instances[i]
    posed = annotator.body.joints(torch.from_numpy(out.pose_N72[i : i + 1]), torch.from_numpy(out.betas_N10[i : i + 1]))[0].double().numpy()
    crop_focal, crop_centre = (values.astype(np.float64) for values in virtual_camera(CROP.hw))
    to_image = np.linalg.inv(np.vstack([batch.affines_N23[i], [0, 0, 1]]))
    points = {}
    for name, joint in zip(POSE2POSE33.joints, posed + out.cam_transl_N3[i], strict=True):
        x, y = joint[:2] / (joint[2] + 1e-4) * crop_focal + crop_centre
        points[name] = (to_image @ (x, y, 1))[:2]
    size = math.sqrt(instance.bbox_xywh[2] * instance.bbox_xywh[3])
    truth = zip(SKELETONS[instance.skeleton].joints, instance.joints_img, instance.joints_valid, strict=True)
    missed = [math.dist(points[name], point) / size for name, point, valid in truth if valid and name in points]
    n = len(missed)
    similarity = sum(0.5 ** ((d / 0.1) ** 2) for d in missed) / n if n else math.nan
    outside = [not (-0.5 <= x < sample.width - 0.5 and -0.5 <= y < sample.height - 0.5) for x, y in points.values()]
    norm = math.sqrt(sum(float(v) ** 2 for v in out.latent_N32[i]))
    apart = math.nan if out.flip_disagreement_N is None else float(out.flip_disagreement_N[i])
    score = (similarity if n else 0) * min(1, n / 6) * (1 - sum(outside) / 33)
    for excess in (max(0, norm - 6) / 6, apart / 0.2):
        score *= 1 if math.isnan(excess) else 0.5 ** (excess**2)
    return {
        "key": sample.key, "annotation_id": instance.annotation_id, "dataset": "d", "bbox_xywh": instance.bbox_xywh,
        "pose": out.pose_N72[i], "betas": out.betas_N10[i], "transl": out.cam_transl_N3[i], "latent": out.latent_N32[i],
        "focal": crop_focal * np.diag(to_image)[:2], "princpt": (to_image @ (*crop_centre, 1))[:2],
        "reprojection_error": sum(missed) / n if n else math.nan,
        "visible_fraction": sum(d <= 0.05 for d in missed) / n if n else math.nan,
        "keypoint_similarity": similarity, "valid_joints": n, "latent_norm": norm, "flip_disagreement": apart,
        "truncation": sum(outside) / 33, "score": score,
    }  # fmt: skip


@pytest.mark.parametrize("latent", [True, False])
def test_rows_are_those_of_one_person_at_a_time(annotator: MeanPoseAnnotator, latent: bool) -> None:
    rng = np.random.default_rng(1)
    batch = _batch([_person(rng, f"{i}", ("coco17", "pose2pose33", "h36m17")[i % 3]) for i in range(30)])
    out = _prediction(annotator, 30, latent=latent)
    made = batch_rows(batch, out, annotator.body, CROP)
    assert made.rows.schema.equals(PSEUDO_GT_SCHEMA, check_metadata=True) and made.quarantine == ()
    rows = made.rows.to_pylist()
    assert len(rows) == 30 and any(row["truncation"] > 0 for row in rows) and any(row["valid_joints"] == 0 for row in rows)
    for i, row in enumerate(rows):
        expected = _expected(annotator, batch, out, i)
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, str):
                assert row[name] == value
            else:
                np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=1e-5, err_msg=f"{name} of {i}")


def test_impossible_outputs_are_quarantined_each_for_its_reason(annotator: MeanPoseAnnotator) -> None:
    rng = np.random.default_rng(2)
    batch, out = _batch([_person(rng, f"{i}") for i in range(8)]), _prediction(annotator, 8)
    out.pose_N72[0, 5] = np.nan
    out.betas_N10[1, 2], out.latent_N32[1, 0] = np.inf, np.nan
    out.cam_transl_N3[2, 2] = -3
    out.pose_N72[3, :3] = 3e38
    out.latent_N32[4] = np.nan
    made = batch_rows(batch, out, annotator.body, CROP)
    assert made.rows["annotation_id"].to_pylist() == ["4", "5", "6", "7"], "a person without a latent is a row"
    assert [(q.annotation_id, q.reason) for q in made.quarantine] == [
        ("0", "non_finite"), ("1", "non_finite"), ("2", "behind_camera"), ("3", "non_finite"),
    ]  # fmt: skip
    assert "betas, latent" in made.quarantine[1].message and "body" in made.quarantine[3].message
    assert np.isfinite(made.rows["score"].to_numpy()).all()
    nothing = batch_rows(_batch(_persons(batch, [0, 2])), _only(out, [0, 2]), annotator.body, CROP)
    assert len(nothing.rows) == 0 and len(nothing.quarantine) == 2


def _persons(batch: CropBatch, places: list[int]) -> list[tuple[Sample, Instance]]:
    return [(batch.samples[i], batch.instances[i]) for i in places]


def _only(out: Prediction, places: list[int]) -> Prediction:
    return Prediction(out.pose_N72[places], out.betas_N10[places], out.cam_transl_N3[places], out.latent_N32[places])


def test_shards_are_sorted_and_the_first_of_two_persons_of_one_name_is_kept(annotator: MeanPoseAnnotator) -> None:
    rng = np.random.default_rng(3)
    lost = (QuarantineRow(dataset="d", key="z", reason="undecodable"), QuarantineRow(dataset="d", key="a", reason="undecodable"))
    names = [["b2", "a1"], ["b2", "cü", "cz", "a0", "b2"]]
    batches = [_batch([_person(rng, name) for name in part]) for part in names]
    parts = [batch_rows(b, _prediction(annotator, len(b), seed), annotator.body, CROP) for seed, b in enumerate(batches)]
    shard = assemble(parts, lost)
    assert list(zip(shard.table["key"].to_pylist(), shard.table["annotation_id"].to_pylist(), strict=True)) == [
        ("ka", "a0"), ("ka", "a1"), ("kb", "b2"), ("kc", "cz"), ("kc", "cü"),
    ]  # fmt: skip
    assert shard.table["pose"].to_pylist()[2] == parts[0].rows["pose"].to_pylist()[0]
    assert [(q.key, q.reason) for q in shard.quarantine] == [
        ("a", "undecodable"), ("kb", "duplicate_id"), ("kb", "duplicate_id"), ("z", "undecodable"),
    ]  # fmt: skip


def test_the_bytes_of_a_shard_do_not_depend_on_how_rows_were_grouped(annotator: MeanPoseAnnotator) -> None:
    """Nor on the order in which rejections arrive."""
    rng = np.random.default_rng(4)
    whole = batch_rows(_batch([_person(rng, f"{i:02}") for i in range(12)]), _prediction(annotator, 12), annotator.body, CROP)
    lost = [
        QuarantineRow(dataset="d", key=k, annotation_id=a, reason="degenerate_box", message=m)
        for k, a, m in itertools.product("ab", "cd", "ef")
    ]
    made = set()
    for size, order in ((12, lost), (5, lost[::-1]), (1, lost)):
        shard = assemble([BatchRows(whole.rows.slice(i, size), ()) for i in range(0, 12, size)], order)
        made.add((encode(shard.table), shard.quarantine))
    assert len(made) == 1


def test_batches_become_a_shard_and_are_filled_up_when_asked(annotator: MeanPoseAnnotator) -> None:
    rng, sizes = np.random.default_rng(5), []

    class Counting:
        digest, crop, body = annotator.digest, annotator.crop, annotator.body

        def predict(self, crops_NHW3: np.ndarray, seen=None) -> Prediction:
            sizes.append(len(crops_NHW3))
            return annotator.predict(crops_NHW3, seen)

    lost = tuple(QuarantineRow(dataset="d", key=key, reason="undecodable") for key in ("z", "a"))
    batches = [_batch([_person(rng, "b"), _person(rng, "c")], lost[:1]), _batch([], lost[1:]), _batch([_person(rng, "a")])]
    shards = [annotate_batches(batches, Counting(), size) for size in (None, 2)]
    assert sizes == [2, 1, 2, 2]
    for shard in shards:
        assert shard.table["annotation_id"].to_pylist() == ["a", "b", "c"] and [q.key for q in shard.quarantine] == ["a", "z"]
    assert encode(shards[0].table) == encode(shards[1].table)


def test_no_batches_make_an_empty_table_of_the_schema() -> None:
    table = assemble([]).table
    assert table.num_rows == 0 and table.schema.equals(PSEUDO_GT_SCHEMA, check_metadata=True) and isinstance(table, pa.Table)


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
