import numpy as np

from engine.loading.instances import INSTANCE, fill_instance, mask_out
from schemas.crops import CropSpec
from schemas.sample import Camera, Instance, SmplParams
from schemas.skeletons import POSE2POSE33, SKELETONS

WH, HW = (400, 300), (128, 96)


def person(skeleton: str, **changes) -> Instance:
    names = SKELETONS[skeleton].joints
    values = {
        "annotation_id": "1",
        "bbox_xywh": (100, 50, 80, 200),
        "skeleton": skeleton,
        "joints_img": tuple((100.0 + i, 60.0 + 2 * i) for i in range(len(names))),
        "joints_valid": (True,) * len(names),
    }
    return Instance(**values | changes)


def record(instance: Instance, supervise="full", pseudo_gt=None) -> np.void:
    row = np.zeros(1, dtype=INSTANCE)
    fill_instance(row[0], instance, WH, CropSpec(*HW), supervise, pseudo_gt)
    return row[0]


def at(row: np.void, field: str, joint: str) -> np.ndarray:
    return row[field][POSE2POSE33.index(joint)]


def test_joints_are_mapped_by_name_and_the_rest_is_invalid():
    for name, skeleton in SKELETONS.items():
        row = record(person(name))
        for i, joint in enumerate(skeleton.joints):
            if joint in POSE2POSE33:
                assert at(row, "joints_img", joint).tolist() == [100 + i, 60 + 2 * i] and at(row, "joints_valid", joint) == 1
        derived = {"Pelvis"} if {"L_Hip", "R_Hip"} <= set(skeleton.joints) else set()
        for joint in POSE2POSE33.joints:
            if joint not in skeleton and joint not in derived:
                assert at(row, "joints_valid", joint) == 0 and not at(row, "joints_img", joint).any()
    assert record(person("coco17"))["joints_valid"].sum() == 18


def test_a_skeleton_without_pelvis_gets_it_between_the_hips_if_both_are_annotated():
    names = SKELETONS["coco17"].joints
    row = record(person("coco17"))
    hips = [np.array([100.0 + i, 60.0 + 2 * i]) for i in (names.index("L_Hip"), names.index("R_Hip"))]
    assert at(row, "joints_img", "Pelvis").tolist() == ((hips[0] + hips[1]) / 2).tolist()
    row = record(person("coco17", joints_valid=tuple(name != "L_Hip" for name in names)))
    assert at(row, "joints_valid", "Pelvis") == 0 and not at(row, "joints_img", "Pelvis").any()


def test_joints_outside_the_photograph_keep_their_3d():
    names = SKELETONS["h36m17"].joints
    cam = tuple((0.1 * i, 0.2, 5.0 + 0.01 * i) for i in range(17))
    whole = record(person("h36m17", joints_cam=cam))
    cut = record(person("h36m17", joints_cam=cam, joints_valid=(False, True) + (False,) * 15))
    assert names[0] == "Pelvis" and cut["joints_valid"].sum() == 1 and cut["is_3d"] == 1
    for name in ("joints_cam", "joints_cam_valid"):
        assert np.array_equal(whole[name], cut[name])


def test_3d_joints_are_relative_to_the_own_pelvis():
    names = SKELETONS["h36m17"].joints
    cam = tuple((0.1 * i, 0.2, 5.0 + 0.01 * i) for i in range(17))
    row = record(person("h36m17", joints_cam=cam))
    assert row["is_3d"] == 1 and not at(row, "joints_cam", "Pelvis").any()
    wrist = names.index("L_Wrist")
    assert np.allclose(at(row, "joints_cam", "L_Wrist"), [0.1 * wrist, 0, 0.01 * wrist], atol=1e-6)
    assert row["joints_cam_valid"].sum() == (row["joints_valid"] > 0).sum() > 10
    assert record(person("h36m17", joints_cam=cam), supervise="2d")["is_3d"] == 0


def smpl_person(**changes) -> Instance:
    smpl = SmplParams(pose=(0.1,) * 72, betas=(0.5,) * 10, transl=(0, 0, 4), **changes)
    return person("smpl24", smpl=smpl, camera=Camera(focal=(500, 500), princpt=(200, 150)), joints_cam=((0.0, 0.0, 4.0),) * 24)


def test_smpl_comes_with_its_masks():
    row = record(smpl_person())
    assert row["has_fit"] == row["shape_valid"] == row["is_3d"] == 1
    assert record(smpl_person(betas_valid=False))[["has_fit", "shape_valid"]].tolist() == (1, 0)
    assert record(smpl_person(pose_valid=False))[["has_fit", "shape_valid"]].tolist() == (0, 1)
    flat = record(smpl_person(), supervise="2d")
    assert flat[["has_fit", "shape_valid", "is_3d"]].tolist() == (0, 0, 0) and flat["joints_valid"].sum() > 10
    no_camera = smpl_person().model_copy(update={"camera": None})
    assert record(no_camera)["has_fit"] == 0


def test_pseudo_gt_replaces_the_own_fit_and_leaves_3d_joints_out():
    own = smpl_person(gender="female", betas_valid=False)
    values = {
        "pose": np.full(72, 0.3),
        "betas": np.ones(10),
        "transl": np.array([0, 0, 30]),
        "focal": np.array([5e3, 5e3]),
        "princpt": np.array([1, 2]),
    }
    row = record(own, pseudo_gt=values)
    for name, value in values.items():
        assert np.allclose(row[name], value)
    assert row[["has_fit", "shape_valid", "is_3d", "gender"]].tolist() == (1, 1, 0, 0)


def test_a_box_outside_the_image_and_a_lost_image_leave_no_supervision():
    outside = record(smpl_person().model_copy(update={"bbox_xywh": (900.0, 900.0, 10.0, 10.0)}))
    rows = np.stack([record(smpl_person())] * 2)
    mask_out(rows, [1])
    for row in (outside, rows[1]):
        assert not row["usable"] and not row["joints_valid"].any()
        assert row[["is_3d", "has_fit", "shape_valid"]].tolist() == (0, 0, 0)
    assert rows[0]["usable"] and rows[0]["has_fit"] == 1
