"""The protocol on real shards with an annotator that knows the truth, and on meshes moved by known transforms."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.annotators.base import Prediction, no_latent
from engine.body.smpl import BodyConfig, load_body
from engine.errors import EngineError
from engine.evaluation.protocol_3dpw import (
    PREDICTIONS_SCHEMA,
    SCORED,
    evaluate_annotator,
    mesh,
    score_joints,
    score_meshes,
    scored_joints,
    truth_meshes,
    truth_samples,
)
from engine.loading.decode import Decoder
from engine.shards.reader import ShardSet
from schemas.crops import CropSpec
from schemas.skeletons import H36M17
from tests.engine.evaluation.builders import instance_of, person, posed, write_people


class KnowsTheTruth:
    """An annotator that answers with the truth of a shard set, person by person, turned at the joints by `noise` rad."""

    digest, crop = "0" * 64, CropSpec(128, 96)

    def __init__(self, people: ShardSet, body, noise: float = 0.0, bad: float | None = None) -> None:
        self.body = body
        self._smpls = [i.smpl for samples in truth_samples(people, Counter()) for s, _ in samples for i in s.instances]
        self._noise, self._bad, self._next = noise, bad, 0

    def predict(self, crops_NHW3):
        assert crops_NHW3.shape[1:] == (*self.crop.hw, 3) and crops_NHW3.dtype == np.uint8
        mine = self._smpls[self._next : self._next + len(crops_NHW3)]
        self._next += len(mine)
        pose = np.array([s.pose for s in mine], np.float32)
        pose[:, 3:] += np.random.default_rng(self._next).normal(0, self._noise, (len(mine), 69))
        if self._bad is not None:
            pose[-1, 5] = self._bad
        betas, transl = (np.array([getattr(s, name) for s in mine], np.float32) for name in ("betas", "transl"))
        return Prediction(pose, betas, transl, no_latent(len(mine)))


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    return write_people(str(tmp_path_factory.mktemp("people")), body)


@pytest.fixture(scope="module")
def decoder():
    return Decoder()


def test_the_scored_joints_are_pose2poses_fourteen():
    assert SCORED == [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16]
    assert [H36M17.joints[i] for i in (0, 7, 9)] == ["Pelvis", "Torso", "Head"]


def test_true_predictions_have_no_error(people, body, decoder):
    found = evaluate_annotator(KnowsTheTruth(people, body), people, body, decoder, batch_size=3)
    errors = found.errors.summary()
    assert errors.persons == 8 == found.predictions.num_rows and found.left_out == {}
    assert max(errors.mpjpe_mm, errors.pa_mpjpe_mm, errors.mpvpe_mm, errors.pa_mpvpe_mm) < 0.01
    assert found.predictions.schema == PREDICTIONS_SCHEMA
    assert sorted(set(found.sequences)) == ["sequence_0", "sequence_1"] and len(found.sequences) == 8


def test_batch_size_does_not_change_the_errors_and_noise_gives_some(people, body, decoder):
    one, many = (evaluate_annotator(KnowsTheTruth(people, body, 0.0), people, body, decoder, n) for n in (1, 64))
    assert one.predictions.column("annotation_id") == many.predictions.column("annotation_id")
    noisy = evaluate_annotator(KnowsTheTruth(people, body, 0.2), people, body, decoder).errors.summary()
    assert 5 < noisy.pa_mpjpe_mm < noisy.mpjpe_mm < 400 and noisy.pa_mpjpe_mm >= max(noisy.x_mm, noisy.y_mm, noisy.z_mm)


def test_predictions_land_on_the_image_as_the_crop_camera_says(people, body, decoder):
    row = evaluate_annotator(KnowsTheTruth(people, body), people, body, decoder).predictions.to_pylist()[0]
    assert row["key"] == "image0" and row["annotation_id"] == "00"
    box_width = row["focal"][0] * 256 / 5000 * 96 / 128
    assert 50 < box_width < 250 and row["focal"][0] == pytest.approx(row["focal"][1], rel=1e-5)


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


def test_errors_agree_with_the_protocol_written_out(body):
    rng = np.random.default_rng(2)
    pred, true = (np.stack([posed(body, person(rng, k, 0.0)) for k in range(4)]) for _ in range(2))
    found = score_meshes(pred, true, body)
    for i in range(4):
        joints = [body.regress(torch.tensor(m[i : i + 1]), "h36m17")[0].double().numpy() * 1000 for m in (pred, true)]
        rooted = [j - j[0] for j in joints]
        kept = [np.delete(j, [0, 7, 9], axis=0) for j in rooted]
        assert found.column("mpjpe")[i] == pytest.approx(np.linalg.norm(kept[0] - kept[1], axis=1).mean(), abs=1e-3)
        meshes = [m[i] * 1000.0 - j[0] for m, j in zip((pred, true), joints, strict=True)]
        assert found.column("mpvpe")[i] == pytest.approx(np.linalg.norm(meshes[0] - meshes[1], axis=1).mean(), abs=1e-3)


def test_joints_without_a_mesh_have_no_vertex_error(body):
    true = posed(body, person(np.random.default_rng(3), 0, 0.0))[None]
    errors = score_joints(scored_joints(true, body), true, body).summary()
    assert errors.mpjpe_mm < 1e-3 and errors.mpvpe_mm is None and errors.pa_mpvpe_mm is None


def test_persons_without_truth_are_counted(people, body, decoder, tmp_path):
    flat = write_people(str(tmp_path), body, truth=False)
    with pytest.raises(EngineError, match=r"none to score; left out: \{'no truth': 8\}"):
        evaluate_annotator(KnowsTheTruth(people, body), flat, body, decoder)


def test_a_broken_image_costs_only_its_own_persons(body, decoder, tmp_path):
    broken = write_people(str(tmp_path), body, broken=3)
    found = evaluate_annotator(KnowsTheTruth(broken, body), broken, body, decoder)
    assert found.left_out == {"undecodable": 2} and len(found.errors) == 6
    assert "image3" not in found.predictions["key"].to_pylist() and found.errors.summary().mpjpe_mm < 0.01


def test_a_prediction_that_is_not_finite_names_its_sample(people, body, decoder):
    with pytest.raises(EngineError, match="its pose is not finite, first for sample image2"):
        evaluate_annotator(KnowsTheTruth(people, body, bad=np.nan), people, body, decoder)


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
