"""Networks on real shards: an annotator that knows the truth, batches of any size, persons without truth, broken images, bad numbers."""

import numpy as np
import pytest

from engine.body.smpl import BodyConfig, load_body
from engine.errors import EngineError
from engine.evaluation.predict import PREDICTIONS_SCHEMA, evaluate_annotator
from engine.evaluation.protocol_3dpw import ThreeDpw
from engine.loading.decode import Decoder
from tests.engine.evaluation.builders import KnowsTheTruth, write_people


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    return write_people(str(tmp_path_factory.mktemp("people")), body)


@pytest.fixture(scope="module")
def decoder():
    return Decoder()


def test_true_predictions_have_no_error(people, body, decoder):
    found = evaluate_annotator(KnowsTheTruth(people, body), people, ThreeDpw(), body, decoder, batch_size=3)
    errors = found.errors.summary()
    assert errors.persons == 8 == found.predictions.num_rows and found.left_out == {}
    assert max(errors.mpjpe_mm, errors.pa_mpjpe_mm, errors.mpvpe_mm, errors.pa_mpvpe_mm) < 0.01
    assert found.predictions.schema == PREDICTIONS_SCHEMA
    assert sorted(set(found.sequences)) == ["sequence_1", "sequence_2"] and len(found.sequences) == 8


def test_batch_size_does_not_change_the_errors_and_noise_gives_some(people, body, decoder):
    one, many = (evaluate_annotator(KnowsTheTruth(people, body, 0.0), people, ThreeDpw(), body, decoder, n) for n in (1, 64))
    assert one.predictions.column("annotation_id") == many.predictions.column("annotation_id")
    noisy = evaluate_annotator(KnowsTheTruth(people, body, 0.2), people, ThreeDpw(), body, decoder).errors.summary()
    assert 5 < noisy.pa_mpjpe_mm < noisy.mpjpe_mm < 400 and noisy.pa_mpjpe_mm >= max(noisy.x_mm, noisy.y_mm, noisy.z_mm)


def test_predictions_land_on_the_image_as_the_crop_camera_says(people, body, decoder):
    row = evaluate_annotator(KnowsTheTruth(people, body), people, ThreeDpw(), body, decoder).predictions.to_pylist()[0]
    assert row["key"] == "image0" and row["annotation_id"] == "00"
    box_width = row["focal"][0] * 256 / 5000 * 96 / 128
    assert 50 < box_width < 250 and row["focal"][0] == pytest.approx(row["focal"][1], rel=1e-5)


def test_persons_without_truth_are_counted(people, body, decoder, tmp_path):
    flat = write_people(str(tmp_path), body, truth=False)
    with pytest.raises(EngineError, match=r"none to score; left out: \{'no truth': 8\}"):
        evaluate_annotator(KnowsTheTruth(people, body), flat, ThreeDpw(), body, decoder)


def test_a_broken_image_costs_only_its_own_persons(body, decoder, tmp_path):
    broken = write_people(str(tmp_path), body, broken=3)
    found = evaluate_annotator(KnowsTheTruth(broken, body), broken, ThreeDpw(), body, decoder)
    assert found.left_out == {"undecodable": 2} and len(found.errors) == 6
    assert "image3" not in found.predictions["key"].to_pylist() and found.errors.summary().mpjpe_mm < 0.01


def test_a_prediction_that_is_not_finite_names_its_sample(people, body, decoder):
    with pytest.raises(EngineError, match="its pose is not finite, first for sample image2"):
        evaluate_annotator(KnowsTheTruth(people, body, bad=np.nan), people, ThreeDpw(), body, decoder)
