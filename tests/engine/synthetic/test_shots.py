"""Shots: joints under every name, parameters that pose the same body in the camera frame, cameras that stand still."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from engine.synthetic.atlas import Mannequin
from engine.synthetic.shots import make_shots, true_person
from schemas.skeletons import COCO17, H36M17, SKELETONS, SMPL24


@pytest.fixture(scope="module")
def mannequin() -> Mannequin:
    return Mannequin()


def test_every_joint_of_every_skeleton_has_a_place(mannequin: Mannequin) -> None:
    (shot,) = make_shots(mannequin, 0, 1)
    for skeleton in SKELETONS.values():
        missing = set(skeleton.joints) - set(shot.persons[0].joints)
        assert not missing & set(SMPL24.joints + H36M17.joints) and not missing - {"L_Hand", "R_Hand"}, (skeleton.name, missing)


def test_parameters_in_the_camera_frame_pose_the_same_joints(mannequin: Mannequin) -> None:
    for shot in make_shots(mannequin, 1, 3, people=(2, 2)):
        for p, person in enumerate(shot.persons):
            pose, transl = person.smpl_in_camera(shot.camera)
            pose_12 = torch.tensor(np.array([pose]), dtype=torch.float32)
            joints = mannequin.body.joints(pose_12, torch.tensor(np.array([person.betas_10]), dtype=torch.float32), skeleton="h36m17")
            np.testing.assert_allclose(joints[0].numpy() + transl, shot.joints_cam(p, H36M17.joints), atol=2e-4)


def test_people_are_in_the_picture_and_the_truth_says_who_is_not(mannequin: Mannequin) -> None:
    shots = make_shots(mannequin, 2, 6, people=(1, 3))
    assert {len(s.persons) for s in shots} > {1}
    assert np.mean([s.inside(0, COCO17.joints).mean() for s in shots]) > 0.95
    for shot in shots:
        person = true_person(shot, len(shot.persons) - 1, COCO17.joints, "7", has_3d=True)
        assert set(person.joints_img) | person.absent == set(COCO17.joints) and not set(person.joints_img) & person.absent
        assert person.joints_cam is not None and set(person.joints_cam) == set(COCO17.joints)
        assert cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (*shot.hw, 3)


def test_views_of_an_instant_share_its_persons_and_cameras_stand_still(mannequin: Mannequin) -> None:
    shots = make_shots(mannequin, 3, 2, views=3, people=(1, 1), hw=(256, 256))
    assert [(s.instant, s.view) for s in shots] == [(i, v) for i in range(2) for v in range(3)]
    assert shots[0].persons is shots[2].persons
    for v in range(3):
        np.testing.assert_array_equal(shots[v].camera.rotation, shots[3 + v].camera.rotation)
        assert shots[v].inside(0, H36M17.joints).all() and (shots[v].joints_cam(0, H36M17.joints)[:, 2] > 1).all()


def test_the_same_seed_gives_the_same_shots(mannequin: Mannequin) -> None:
    a, b = (make_shots(mannequin, 4, 1, render_people=rendered) for rendered in (True, True))
    assert a[0].jpeg == b[0].jpeg != make_shots(mannequin, 5, 1, render_people=True)[0].jpeg
