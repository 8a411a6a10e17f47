"""EFT's files: odd records of strangers, ids of every kind, and rows that they cannot carry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from engine.errors import RawDataError, SampleRejected
from engine.exchange.base import Fit, Person, Unmapped
from engine.exchange.eft import EftWriter, Options, axis_angles, matrices, open_reader, validity_18
from schemas.sample import Instance, Sample
from tests.engine.exchange.conftest import World
from tests.engine.exchange.independent import write_eft

IDENTITY = np.eye(3)[None].repeat(24, 0)
RECORD = {
    "parm_pose": IDENTITY.tolist(), "parm_shape": [0.5] * 10, "parm_cam": [0.9, 0.1, -0.1], "bbox_scale": 1.5, "bbox_center": [100, 50],
    "smpltype": "smpl", "annotId": 7, "imageName": "a.jpg",
}  # fmt: skip


def _read(tmp_path: Path, *records: object, **more: object) -> list[Fit | Unmapped]:
    path = tmp_path / "eft.json"
    path.write_text(json.dumps({"ver": 0.1, "data": list(records)} | more))
    return list(open_reader(path, Options(), lambda: None).fits())


@given(arrays(np.float64, 72, elements=st.floats(-4, 4)))
def test_pose_there_and_back(pose: np.ndarray) -> None:
    given_24 = matrices(pose)
    assert np.allclose(given_24, Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix(), atol=1e-12)
    back, off = axis_angles(given_24)
    assert off < 1e-12
    assert np.allclose(matrices(back), given_24, atol=1e-7)
    assert (np.linalg.norm(back.reshape(24, 3), axis=1) <= np.pi + 1e-6).all()


@pytest.mark.parametrize(("given_id", "found"), [(7, "7"), ("7", "7"), (7.0, "7"), ("im0001_a", "im0001_a")])
def test_ids_of_every_kind(tmp_path: Path, given_id: object, found: str) -> None:
    (fit,) = _read(tmp_path, RECORD | {"annotId": given_id})
    assert isinstance(fit, Fit)
    assert fit.annotation_id == found


@pytest.mark.parametrize("absent", [{"annotId": None}, {"annotId": ""}, {"annotId": True}])
def test_without_an_id_it_is_the_image_and_the_crop(tmp_path: Path, absent: dict) -> None:
    (fit,) = _read(tmp_path, RECORD | absent)
    assert (fit.annotation_id, fit.image, fit.centre_2.tolist()) == (None, "a.jpg", [100, 50])


def test_matrices_a_little_off_are_mended_and_others_are_told(tmp_path: Path) -> None:
    near = Rotation.from_rotvec([0.1, 2, 0.3]).as_matrix()
    noisy = IDENTITY.copy()
    noisy[3] = near + np.random.default_rng(0).uniform(-3e-3, 3e-3, (3, 3))
    mirror = IDENTITY.copy()
    mirror[5] = np.diag([1, 1, -1])
    mended, reflected, zero = _read(tmp_path, *(RECORD | {"parm_pose": m.tolist()} for m in (noisy, mirror, 0 * IDENTITY)))
    assert np.allclose(Rotation.from_rotvec(mended.pose_72[9:12]).as_matrix(), near, atol=5e-3)
    assert [reflected.reason, zero.reason] == ["not_a_rotation"] * 2
    assert reflected.annotation_id == "7"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"parm_pose": [[1, 0, 0]]}, "invalid_record"),
        ({"parm_shape": "betas"}, "invalid_record"),
        ({"bbox_scale": None}, "invalid_record"),
        ({"parm_cam": [0.9, float("nan"), 0]}, "non_finite"),
        ({"parm_shape": [float("inf")] * 10}, "non_finite"),
        ({"parm_cam": [-0.9, 0, 0]}, "invalid_camera"),
        ({"bbox_scale": 0}, "invalid_camera"),
        ({"smpltype": "smplx"}, "other_body"),
    ],
)
def test_an_odd_record_costs_itself(tmp_path: Path, change: dict, reason: str) -> None:
    odd, sound = _read(tmp_path, RECORD | change, RECORD)
    assert isinstance(odd, Unmapped)
    assert odd.reason == reason
    assert isinstance(sound, Fit)


def test_records_that_are_none(tmp_path: Path) -> None:
    assert [fit.reason for fit in _read(tmp_path, 3, None, [], {})] == ["invalid_record"] * 4


def test_files_that_are_not_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"persons": []}))
    with pytest.raises(RawDataError, match="persons"):
        list(open_reader(tmp_path / "a.json", Options(), lambda: None).fits())
    (tmp_path / "a.json").write_text('{"ver": 1, "data": [{"parm_pose"')
    with pytest.raises(RawDataError):
        list(open_reader(tmp_path / "a.json", Options(), lambda: None).fits())


def test_files_without_ids_find_their_persons(world: World, tmp_path: Path) -> None:
    """By photograph and crop; the crops of boxes that leave the photograph are about what is left of them, and may be nobody's."""
    inside = [p for p in world.persons if p.box[0] > 0 and p.box[0] + p.box[2] < p.size[0] and p.box[1] + p.box[3] < p.size[1]]
    assert len(inside) > 8
    source = write_eft(tmp_path, inside, ids=False)
    assert world.load("eft", source, tmp_path / "store").manifest.annotated == len(inside)


def _person(**change: object) -> Person:
    joints = ((10.0, 20.0),) * 17
    instance = Instance(
        annotation_id="042", bbox_xywh=(0, 0, 50, 90), skeleton="coco17", joints_img=joints, joints_valid=(True,) * 7 + (False,) * 10
    )
    sample = Sample(key="a", dataset="x", image_path="b/a.jpg", width=100, height=100, instances=(instance,))
    values = {"transl_3": [0.1, 0.2, 40], "focal_2": [5000, 5000], "princpt_2": [50, 50]} | change
    body = {"pose_72": np.zeros(72, np.float32), "betas_10": np.zeros(10, np.float32), "latent_32": np.zeros(32, np.float32)}
    return Person(sample, instance, quality={}, **body, **{name: np.float32(value) for name, value in values.items()})


def test_rows_it_cannot_carry(tmp_path: Path) -> None:
    writer = EftWriter(tmp_path / "a.json")
    with pytest.raises(SampleRejected) as oblong:
        writer.add(_person(focal_2=[5000, 5100]))
    with pytest.raises(SampleRejected) as behind:
        writer.add(_person(transl_3=[0, 0, -1]))
    writer.add(_person(focal_2=[5000, 5000.001]))
    assert (oblong.value.reason, behind.value.reason) == ("not_square_pixels", "behind_camera")
    assert writer.close() == ["a.json"]
    (record,) = json.loads((tmp_path / "a.json").read_text())["data"]
    assert record["annotId"] == "042"  # an id with a leading zero is no number
    assert np.array(record["gt_keypoint_2d"]).shape == (49, 3)
    assert record["gt_keypoint_2d"][25 + 19] == [10, 20, 1]  # SPIN's 'Nose'


def test_validity_is_openposes_order() -> None:
    valid = validity_18(_person().instance)  # the face, both shoulders
    assert [n for n, ok in enumerate(valid) if ok] == [0, 1, 2, 5, 14, 15, 16, 17]
