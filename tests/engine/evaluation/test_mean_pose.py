"""The mean-pose baseline on sets whose mean is known."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.body.smpl import BodyConfig, load_body
from engine.errors import EngineError
from engine.evaluation.mean_pose import chordal_mean, evaluate_mean_person, mean_person, mean_skeleton
from engine.evaluation.metrics import pa_mpjpe
from engine.evaluation.protocol_3dpw import ThreeDpw
from tests.engine.evaluation.builders import write_people


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    return write_people(str(tmp_path_factory.mktemp("people")), body)


def test_chordal_mean_agrees_with_scipys():
    rotations = [Rotation.random(20, random_state=seed) for seed in range(4)]
    found = chordal_mean(torch.tensor(np.stack([r.as_matrix() for r in rotations], axis=1)))
    np.testing.assert_allclose(found.numpy(), np.stack([r.mean().as_matrix() for r in rotations]), atol=1e-9)


def test_the_mean_of_one_person_is_that_person(body, tmp_path):
    one = write_people(str(tmp_path), body, images=1, shards=1)
    mean = mean_person([one], body)
    assert mean.persons == 2
    result = evaluate_mean_person(mean, one, ThreeDpw(), body)
    assert 0 < result.best[1].pa_mpjpe_mm <= result.mean_pose.pa_mpjpe_mm < 150
    assert result.best[1].pa_mpjpe_mm == min(result.mean_pose.pa_mpjpe_mm, result.mean_skeleton.pa_mpjpe_mm)
    assert result.mean_skeleton.mpvpe_mm is None and result.mean_pose.mpvpe_mm > 0


def test_a_cap_takes_evenly_spaced_shards(body, people, tmp_path):
    assert mean_person([people], body).persons == 8
    assert mean_person([people], body, max_persons=4).persons == 4
    assert mean_person([people, write_people(str(tmp_path), body, seed=5)], body).persons == 16


def test_mean_skeleton_of_moved_copies_is_the_skeleton():
    rng = np.random.default_rng(0)
    shape = rng.normal(0, 300, (14, 3))
    copies = np.stack([Rotation.random(random_state=i).apply(shape) + rng.normal(0, 500, 3) for i in range(10)])
    found = mean_skeleton(copies, shape + 10)
    np.testing.assert_allclose(found, shape + 10, atol=0.1)


def test_mean_skeleton_beats_any_member_of_the_set_on_the_set():
    rng = np.random.default_rng(1)
    joints = rng.normal(0, 300, (1, 14, 3)) + rng.normal(0, 60, (50, 14, 3))
    mean = mean_skeleton(joints, joints[0])
    errors = [pa_mpjpe(np.broadcast_to(j, joints.shape), joints).mean() for j in (mean, *joints[:5])]
    assert errors[0] == min(errors)


def test_sets_without_smpl_are_refused(body, tmp_path):
    with pytest.raises(EngineError, match="expected SMPL parameters in"):
        mean_person([write_people(str(tmp_path), body, truth=False)], body)
