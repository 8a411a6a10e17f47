"""Human3.6M protocol 2: whom it scores, and its figures on real shards against the protocol written out."""

import numpy as np
import pytest
import torch

from engine.body.smpl import BodyConfig, load_body
from engine.evaluation.predict import evaluate_annotator
from engine.evaluation.protocol import joints_of
from engine.evaluation.protocol_human36m import Human36mP2
from engine.loading.decode import Decoder
from engine.shards.reader import read_samples
from schemas.sample import Sample
from schemas.skeletons import EVAL14, H36M17
from tests.engine.evaluation import second
from tests.engine.evaluation.builders import KnowsTheTruth, write_people


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def shards(body, tmp_path_factory):
    return write_people(str(tmp_path_factory.mktemp("human36m")), body, layout="human36m")


@pytest.fixture(scope="module")
def sample(shards) -> Sample:
    entry = shards.manifest.shards[0]
    return next(iter(read_samples(shards.fetch(entry), entry)))[0]


def test_subjects_9_and_11_by_camera_4_are_scored(sample):
    (person, *_), protocol = sample.instances, Human36mP2()

    def reason(path: str, instance=person):
        return protocol.unfit(sample.model_copy(update={"image_path": path}), instance)

    assert reason("images/s_09_act_02_subact_01_ca_04/a.jpg") is None is reason("images/s_11_act_16_subact_02_ca_04/a.jpg")
    for other in ("s_09_act_02_subact_01_ca_01", "s_08_act_02_subact_01_ca_04", "s_01_act_02_subact_01_ca_02"):
        assert reason(f"images/{other}/a.jpg") == "not S9 or S11 by camera 4"
    assert reason("elsewhere/a.jpg") is None, "a copy under other names is taken as it is"
    assert reason("a.jpg", person.model_copy(update={"joints_cam": None})) == "no truth"
    coco = person.model_copy(update={"skeleton": "coco17"})
    assert reason("a.jpg", coco) == "no truth", "a skeleton that lacks joints of the protocol"


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_errors_agree_with_the_protocol_written_out(noise, body, shards, tmp_path):
    annotator = KnowsTheTruth(write_people(str(tmp_path), body), body, noise)
    found = evaluate_annotator(annotator, shards, Human36mP2(), body, Decoder(), batch_size=3)
    people = [(s.key, i) for e in shards.manifest.shards for s, _ in read_samples(shards.fetch(e), e) for i in s.instances]
    rows = found.predictions.to_pylist()
    assert [(row["key"], row["annotation_id"]) for row in rows] == [(key, i.annotation_id) for key, i in people]
    for row, (_, instance) in zip(rows, people, strict=True):
        true = np.array(instance.joints_cam) * 1000
        with torch.inference_mode():
            vertices = body(torch.tensor([row["pose"]]), torch.tensor([row["betas"]])).vertices_BV3
            pred = body.regress(vertices, "h36m17")[0].double().numpy() * 1000
        pred, true = (np.delete(j - j[0], [0, 7, 9], axis=0) for j in (pred, true))
        assert row["pa_mpjpe_mm"] == pytest.approx(second.pa(pred, true), abs=1e-2)
        assert row["mpjpe_mm"] == pytest.approx(second.mean(second.apart(pred, true)), abs=1e-2)
    errors = found.errors.summary()
    assert errors.mpvpe_mm is None and (errors.pa_mpjpe_mm < 0.05) == (noise == 0)


def test_joints_travel_by_name(sample):
    person = sample.instances[0]
    found = joints_of([person], "joints_cam", ("R_Wrist", *EVAL14))[0]
    np.testing.assert_allclose(found[0], np.array(person.joints_cam[H36M17.index("R_Wrist")]) * 1000)
    np.testing.assert_allclose(found[1:], np.delete(np.array(person.joints_cam), [0, 7, 9], axis=0) * 1000)
