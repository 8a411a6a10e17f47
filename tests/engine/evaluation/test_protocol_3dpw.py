"""The protocol on meshes moved by known transforms, and written out a second time."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.body.smpl import BodyConfig, load_body
from engine.evaluation.meshes import mesh, truth_meshes
from engine.evaluation.protocol_3dpw import SCORED, score_meshes
from schemas.skeletons import H36M17
from tests.engine.evaluation import second
from tests.engine.evaluation.builders import instance_of, person, posed


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


def test_the_scored_joints_are_pose2poses_fourteen():
    assert SCORED == [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16]
    assert [H36M17.joints[i] for i in (0, 7, 9)] == ["Pelvis", "Torso", "Head"]


@pytest.mark.parametrize("mirrored", [False, True])
def test_meshes_moved_by_a_similarity(body, mirrored):
    rng = np.random.default_rng(0)
    true = np.stack([posed(body, person(rng, k, 0.0)) for k in range(3)])
    rotation = Rotation.random(random_state=1).as_matrix()
    pred = 1.3 * true @ rotation.T * ([-1, 1, 1] if mirrored else [1, 1, 1]) + [5, 6, 7]
    errors = score_meshes(pred.astype(np.float32), true, body).summary()
    assert errors.mpjpe_mm > 50 and errors.mpvpe_mm > 50
    assert (errors.pa_mpjpe_mm > 20 and errors.pa_mpvpe_mm > 20) if mirrored else max(errors.pa_mpjpe_mm, errors.pa_mpvpe_mm) < 0.02
    shifted = score_meshes(true + np.float32([0.5, -1, 2]), true, body).summary()
    assert shifted.mpjpe_mm < 0.01 and shifted.mpvpe_mm < 0.01


@pytest.mark.parametrize("shape", [(1, 1, 1), (-1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)], ids=lambda shape: str(shape))
def test_errors_agree_with_the_protocol_written_out(body, shape):
    rng = np.random.default_rng(2)
    pred, true = (np.stack([posed(body, person(rng, k, 0.0)) for k in range(4)]) for _ in range(2))
    pred = pred * np.float32(shape)
    found = score_meshes(pred, true, body)
    for i in range(4):
        joints = [body.regress(torch.tensor(m[i : i + 1]), "h36m17")[0].double().numpy() * 1000 for m in (pred, true)]
        rooted = [j - j[0] for j in joints]
        kept = [np.delete(j, [0, 7, 9], axis=0) for j in rooted]
        assert found.column("mpjpe")[i] == pytest.approx(second.mean(second.apart(*kept)), abs=1e-3)
        assert found.column("pa_mpjpe")[i] == pytest.approx(second.pa(*kept), abs=1e-3)
        for axis, error in zip("xyz", np.abs(second.aligned(*kept) - kept[1]).mean(axis=0), strict=True):
            assert found.column(axis)[i] == pytest.approx(error, abs=1e-3)
        meshes = [m[i] * 1000.0 - j[0] for m, j in zip((pred, true), joints, strict=True)]
        assert found.column("mpvpe")[i] == pytest.approx(np.linalg.norm(meshes[0] - meshes[1], axis=1).mean(), abs=1e-3)
        assert found.column("pa_mpvpe")[i] == pytest.approx(second.pa(*meshes), abs=1e-2)


def test_truth_has_the_persons_gender(real_data, tmp_path):
    arrays = dict(np.load(real_data / "open_body" / "smpl_schema_6890.npz"))
    (tmp_path / "smpl").mkdir()
    for gender, size in (("NEUTRAL", 1.0), ("MALE", 1.1), ("FEMALE", 0.9)):
        np.savez(tmp_path / "smpl" / f"SMPL_{gender}.npz", **arrays | {"v_template": (arrays["v_template"] * size).astype(np.float32)})
    regressor = str(real_data / "regressors" / "J_regressor_h36m_correct.npy")
    smpl = load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path), h36m_regressor=regressor))
    people = [instance_of(str(k), person(np.random.default_rng(0), k, 0.0), (0.0, 0.0, 9.0, 9.0), True) for k in (0, 1, 0)]
    assert [i.smpl.gender for i in people] == ["male", "female", "male"]
    meshes = truth_meshes(people, smpl)
    neutral = mesh(smpl, np.array([i.smpl.pose for i in people], np.float32), np.zeros((3, 10), np.float32))
    sizes = np.ptp(meshes, axis=1)[:, 1] / np.ptp(neutral, axis=1)[:, 1]
    assert sizes[0] > 1.02 and sizes[1] < 0.98 and sizes[2] == pytest.approx(sizes[0])
    assert score_meshes(meshes[[0, 2]], meshes[[2, 0]], smpl).summary().mpjpe_mm < 1e-3
