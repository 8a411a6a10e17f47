"""MPI-INF-3DHP's figures against loops, on random and degenerate persons; sequences' names; then on real shards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.body.smpl import BodyConfig, load_body
from engine.evaluation.mi17 import COUNTED, GROUPS, sequence_of
from engine.evaluation.predict import evaluate_annotator
from engine.evaluation.protocol_3dhp import MpiInf3dhp, mi_errors
from engine.loading.decode import Decoder
from schemas.sample import Sample
from schemas.skeletons import MI17
from tests.engine.evaluation import second
from tests.engine.evaluation.builders import UNIVERSAL, KnowsTheTruth, write_people

SHAPES = {"as it is": [1, 1, 1], "mirrored": [-1, 1, 1], "planar": [1, 1, 0], "collinear": [1, 0, 0], "zero size": [0, 0, 0]}


def persons(seed: int, count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 350, (count, 17, 3))
    pred = target + rng.normal(0, noise, target.shape)
    return pred - pred[:, 14:15], target - target[:, 14:15]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([5.0, 60.0, 150.0]), st.sampled_from(list(SHAPES)))
def test_figures_agree_with_the_loops(seed, count, noise, shape):
    pred, target = persons(seed, count, noise)
    pred = pred * np.array(SHAPES[shape], float)
    errors = mi_errors(pred, target)
    apart = [second.apart(p, t) for p, t in zip(pred, target, strict=True)]
    summary = errors.summary()
    assert summary.mpjpe_mm == pytest.approx(second.mean([second.mean(a) for a in apart]), abs=1e-3)
    assert summary.pa_mpjpe_mm == pytest.approx(second.mean([second.pa(p, t) for p, t in zip(pred, target, strict=True)]), abs=1e-3)
    assert summary.pck_percent == pytest.approx(100 * second.mean([second.pck(a[:14]) for a in apart]), abs=1e-3)
    assert summary.auc_percent == pytest.approx(100 * second.mean([second.auc(a[:14]) for a in apart]), abs=1e-3)
    joints = errors.joint_summary()
    for j, name in enumerate(MI17.joints):
        assert joints[name].mpjpe_mm == pytest.approx(second.mean([a[j] for a in apart]), abs=1e-3)
        assert (joints[name].pck_percent is None) == (j >= 14)
    weighted = sum(len(names) * np.mean([joints[n].pck_percent for n in names]) for names in GROUPS.values()) / 14
    assert weighted == pytest.approx(summary.pck_percent, abs=1e-3)


def test_a_joint_counts_below_150_mm_and_not_at_it():
    target = np.zeros((1, 17, 3))
    pred = target.copy()
    pred[0, MI17.index("L_Wrist")] = (150, 0, 0)
    errors = mi_errors(pred, target)
    assert errors.summary().pck_percent == pytest.approx(100 * 13 / 14, abs=1e-3)
    assert errors.summary().auc_percent == pytest.approx(100 * 13 / 14 * 30 / 31, abs=1e-3)


def test_what_is_not_finite_is_refused():
    pred, target = persons(0, 3, 10.0)
    pred[2, 5, 1] = np.nan
    with pytest.raises(ValueError, match=r"the prediction of 1 of 3 persons is not finite \(first: person 2\)"):
        mi_errors(pred, target)


PATHS = {"TS3/a.jpg": "TS3", "TS6/imageSequence/a.jpg": "TS6", "mupots/TS12/x.jpg": "TS12", "TSx/a.jpg": "TSx", "a.jpg": "d"}


@pytest.mark.parametrize(("path", "name"), PATHS.items())
def test_sequences_are_named_by_their_folder(path, name):
    assert sequence_of(Sample(key="a", dataset="d", image_path=path, width=9, height=9, instances=())) == name


def test_a_network_that_knows_the_truth_is_as_wrong_as_the_universal_skeleton_is_small(tmp_path):
    body, protocol = load_body(BodyConfig()), MpiInf3dhp()
    shards = write_people(f"{tmp_path}/mi", body, layout="3dhp")
    found = evaluate_annotator(KnowsTheTruth(write_people(f"{tmp_path}/same", body), body), shards, protocol, body, Decoder())
    errors, joints = protocol.overall(found.errors, found.sequences)
    assert errors.persons == 8 and set(found.sequences) == {"TS1", "TS2"} and errors.pa_mpjpe_mm < 0.05
    assert joints["Pelvis"].mpjpe_mm == 0 and 20 < errors.mpjpe_mm < (1 / UNIVERSAL - 1) * 1000 and errors.pck_percent == 100
    assert errors.auc_percent < 90 and set(COUNTED) < set(joints)
