"""Persons: what is counted, and every contradiction that is planted in one of many."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.inspection.findings import Findings
from engine.inspection.groups import Person
from engine.inspection.persons import Persons
from engine.inspection.record import PersonFigures
from schemas.sample import Instance, SmplParams
from schemas.skeletons import COCO17, H36M17
from tests.engine.inspection.builders import projected, solid_person, standing

SIZE = (1000, 1000)


def _inspect(*found: tuple[str, Instance], size: tuple[int, int] | None = SIZE) -> tuple[Findings, PersonFigures, np.ndarray]:
    findings = Findings()
    persons = Persons(findings)
    errors = persons.add([Person(key, f"{key}.jpg", instance, size) for key, instance in found])
    return findings, persons.figures(Counter(crowd=2), Counter(), 0), errors


def _flat_person(joints: dict[str, tuple[float, float]], bbox: tuple[float, ...] = (100, 100, 200, 400), number: str = "1") -> Instance:
    return Instance(
        annotation_id=number, bbox_xywh=bbox, skeleton="coco17", joints_img=tuple(joints.get(n, (0.0, 0.0)) for n in COCO17.joints),
        joints_valid=tuple(n in joints for n in COCO17.joints),
    )  # fmt: skip


def test_what_is_counted() -> None:
    smpl = SmplParams(pose=(0.0,) * 72, betas=(0.0,) * 10, transl=(0, 0, 4), gender="female", betas_valid=False)
    people = [
        ("a", solid_person(standing(), annotation_id="1", smpl=smpl)),
        ("a", solid_person(standing(0.5), annotation_id="2")),
        ("b", _flat_person({"Nose": (150, 120), "L_Eye": (160, 110), "R_Eye": (140, 110)}, (100, 100, 200, 60))),
    ]
    findings, figures, errors = _inspect(*people)
    assert not findings.counts
    assert (figures.persons, figures.skipped, figures.an_image) == (3, {"crowd": 2}, {"1": 1, "2": 1})
    assert figures.supervision == {"2D joints": 3, "3D joints": 2, "camera": 2, "SMPL pose": 1}
    assert figures.genders == {"female": 1} and figures.small_boxes == 1
    assert figures.valid_joints == {"3": 1, "17": 2}
    coco = next(f for f in figures.joints if f.skeleton == "coco17")
    assert {name for name, count in coco.valid.items() if count} == {"Nose", "L_Eye", "R_Eye"}
    assert figures.space.persons == 2 and figures.space.depth_m.median == pytest.approx(4.0)
    np.testing.assert_allclose(errors, [0, 0, np.nan], atol=1e-9)


@pytest.mark.parametrize(
    ("joints", "bbox", "expected"),
    [
        ({"Nose": (150, 150), "L_Wrist": (1005, 300)}, (100, 100, 890, 400), {"joint_outside_image"}),
        ({"Nose": (150, 150), "L_Wrist": (399, 300)}, (100, 100, 200, 400), {"joint_outside_box"}),
        ({"Nose": (150, 150), "L_Wrist": (370, 300)}, (100, 100, 200, 400), set()),
        ({"Nose": (150, 150)}, (900, 100, 200, 400), {"box_leaves_image", "joint_outside_box"}),
        ({"Nose": (150, 150)}, (1001, 100, 1000, 400), {"box_outside", "joint_outside_box"}),
        ({}, (100, 100, 200, 400), {"no_valid_joint"}),
        ({n: (150, 150.5) for n in COCO17.joints[:3]}, (100, 100, 200, 400), {"joints_coincide"}),
    ],
)
def test_boxes_and_joints_in_the_image(joints: dict, bbox: tuple, expected: set[str]) -> None:
    findings, _, _ = _inspect(("k", _flat_person(joints, bbox)))
    assert findings.counts == dict.fromkeys(expected, 1)
    assert all(f.examples[0].key == "k" and f.examples[0].annotation_id == "1" for f in findings.found())


def test_without_a_size_only_negative_places_are_outside_the_image() -> None:
    findings, _, _ = _inspect(("k", _flat_person({"Nose": (50, 5000)}, (0, 4900, 200, 400))), size=None)
    assert not findings.counts
    findings, _, _ = _inspect(("k", _flat_person({"Nose": (-50, 5000)}, (-100, 4900, 200, 400))), size=None)
    assert findings.counts == {"box_leaves_image": 1, "joint_outside_image": 1}


def test_persons_who_are_there_twice() -> None:
    one, other = _flat_person({"Nose": (150, 150)}), _flat_person({"Nose": (151, 150)})
    findings, _, _ = _inspect(("k", one), ("k", other), ("l", one))
    assert findings.counts == {"annotation_id_twice": 1}
    findings, _, _ = _inspect(("k", one), ("k", one.model_copy(update={"annotation_id": "2"})), ("l", other))
    assert findings.counts == {"person_twice": 1}


def _mirrored(cam_J3: np.ndarray) -> np.ndarray:
    return cam_J3[list(H36M17.flip_permutation)]


CAM = standing()
ROTATION, CENTRE = Rotation.from_rotvec([0.2, 0.5, 0.1]).as_matrix(), np.array([0.4, -0.3, 1.0])
SPACE_CASES = {
    "reprojection_off": [
        solid_person(CAM @ ROTATION.T + CENTRE, projected(CAM @ ROTATION.T - ROTATION @ CENTRE + (0, 0, 1.5))),
        solid_person(CAM + np.array([0.3, 0, 0]), projected(CAM)),
    ],
    "sides_swapped_in_3d": [solid_person(_mirrored(CAM), projected(CAM))],
    "behind_camera": [solid_person(CAM - (0, 0, 4), projected(CAM))],
    "too_far": [solid_person(CAM * (1, 1, 50), projected(CAM * (1, 1, 50)))],
    "camera_missing": [solid_person(CAM, camera=None)],
}


@pytest.mark.parametrize("name", SPACE_CASES)
def test_space_that_does_not_fit(name: str) -> None:
    for instance in SPACE_CASES[name]:
        findings, _, _ = _inspect(("k", instance), size=None)
        assert findings.counts[name] == 1, findings.counts
        assert not {"reprojection_off", "sides_swapped_in_3d"} - {name} & set(findings.counts)


def test_the_reprojection_error_is_the_median_over_valid_joints() -> None:
    shift = np.random.default_rng(0).normal(0, 3, (17, 2))
    valid = tuple(i % 4 != 1 for i in range(17))
    _, figures, errors = _inspect(("far", solid_person(CAM, projected(CAM) + shift, joints_valid=valid)), ("near", solid_person(CAM)))
    distances = [float(np.hypot(*shift[i])) for i in range(17) if valid[i]]
    assert errors[0] == pytest.approx(np.median(distances))
    assert [(w.key, pytest.approx(w.error_px, abs=1e-6)) for w in figures.space.worst] == [("far", errors[0]), ("near", 0)]


def test_millimetres_are_not_metres() -> None:
    findings, _, _ = _inspect(("k", solid_person(CAM * 1000, projected(CAM))), size=None)
    assert findings.counts["bone_length"] == findings.counts["too_far"] == 1 and findings.counts["reprojection_off"] == 0


def test_a_left_arm_longer_than_the_right() -> None:
    cam = CAM.copy()
    cam[H36M17.index("L_Wrist")] += (0.15, 0.2, 0)
    findings, figures, _ = _inspect(("k", solid_person(cam)))
    assert findings.counts == {"bones_uneven": 1}
    left, right = (np.linalg.norm(cam[H36M17.index(f"{s}_Wrist")] - cam[H36M17.index(f"{s}_Elbow")]) for s in "LR")
    assert figures.space.unevenness.largest == pytest.approx(2 * (left - right) / (left + right))


@pytest.mark.parametrize("yaw", [0.0, 1.0, np.pi])
@pytest.mark.parametrize("swapped", [False, True])
def test_knees_tell_left_from_right(yaw: float, swapped: bool) -> None:
    """The whole person mirrored by names keeps 2D and 3D together: only how bodies bend gives it away."""
    turned = (CAM - CAM[0]) @ Rotation.from_rotvec([0, yaw, 0]).as_matrix().T + CAM[0]
    cam = _mirrored(turned) if swapped else turned
    findings, figures, _ = _inspect(*((f"k{i}", solid_person(cam)) for i in range(12)))
    assert (figures.sides["knees bend backwards"].agree, figures.sides["knees bend backwards"].of) == (0 if swapped else 24, 24)
    assert findings.counts["sides_doubtful"] == swapped


def test_a_face_tells_the_sides_of_shoulders() -> None:
    face = {"L_Eye": (160.0, 110.0), "R_Eye": (140.0, 110.0), "L_Shoulder": (250.0, 160.0), "R_Shoulder": (110.0, 160.0)}
    wrong = face | {"L_Shoulder": face["R_Shoulder"], "R_Shoulder": face["L_Shoulder"]}
    findings, figures, _ = _inspect(*((f"k{i}", _flat_person(wrong if i < 7 else face)) for i in range(22)))
    assert (figures.sides["eyes as shoulders"].agree, figures.sides["eyes as shoulders"].of) == (15, 22)
    assert findings.counts == {"sides_doubtful": 1}
