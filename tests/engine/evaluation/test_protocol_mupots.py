"""MuPoTS-3D against the official steps written out as loops, on random frames and on degenerate ones; then on real shards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.body.smpl import BodyConfig, load_body
from engine.evaluation.meshes import h36m_joints_mm
from engine.evaluation.metrics import auc, pck
from engine.evaluation.mi17 import COUNTED, GROUPS, mi_joints_mm
from engine.evaluation.predict import evaluate_annotator
from engine.evaluation.protocol_mupots import MISSED_MM, Mupots, frame_distances, match_persons, rescale_bones, sequence_means
from engine.loading.decode import Decoder
from schemas.skeletons import H36M17, MI17
from tests.engine.evaluation import second
from tests.engine.evaluation.builders import KnowsTheTruth, write_people


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    """The same persons as SMPL, for an annotator that knows them."""
    return write_people(str(tmp_path_factory.mktemp("people")), body)


@pytest.fixture(scope="module")
def decoder():
    return Decoder()


def frame_of(seed: int, predictions: int, persons: int, pixels: float = 25.0) -> tuple[np.ndarray, ...]:
    """Predictions near the persons in turn, some of them near the same person, with a few joints at (0, 0) and at exactly 40 px."""
    rng = np.random.default_rng(seed)
    target, target_2d = rng.normal(0, 400, (persons, 17, 3)), rng.integers(0, 300, (persons, 17, 2)).astype(float)
    near = rng.integers(0, max(persons, 1), predictions)
    pred = (target[near] if persons else np.zeros((predictions, 17, 3))) + rng.normal(0, 150, (predictions, 17, 3))
    pred_2d = (target_2d[near] if persons else np.zeros((predictions, 17, 2))) + rng.normal(0, pixels, (predictions, 17, 2))
    pred_2d[rng.random((predictions, 17)) < 0.1] = 0
    edge = rng.random((predictions, 17)) < 0.1
    if persons:
        pred_2d[edge] = (target_2d[near] + [40, 0])[edge]
    return pred, pred_2d, target, target_2d


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4), st.sampled_from([5.0, 25.0, 60.0, 400.0]))
def test_frames_agree_with_the_loops(seed, predictions, persons, pixels):
    given_frame = frame_of(seed, predictions, persons, pixels)
    found, matched = frame_distances(*given_frame)
    expected = second.frame(*given_frame)
    assert matched.tolist() == [m for m, _ in expected]
    np.testing.assert_allclose(found, np.array([d for _, d in expected]).reshape(persons, 14), rtol=1e-9)
    for row, (_, distances) in zip(found, expected, strict=True):
        assert pck(row[None]).mean() == pytest.approx(second.pck(distances))
        assert auc(row[None]).mean() == pytest.approx(second.auc(distances))


@pytest.mark.parametrize("shape", ["mirrored", "planar", "collinear", "zero size", "one bone of no length"])
def test_degenerate_predictions_agree_with_the_loops(shape):
    _, pred_2d, target, target_2d = frame_of(3, 2, 2, pixels=5.0)
    change = {"mirrored": [-1, 1, 1], "planar": [1, 1, 0], "collinear": [1, 0, 0], "zero size": [0, 0, 0]}.get(shape, [1, 1, 1])
    pred = target * np.array(change, float)
    if shape == "one bone of no length":
        pred[:, MI17.index("R_Elbow")] = pred[:, MI17.index("R_Shoulder")]
    found, matched = frame_distances(pred, pred_2d, target, target_2d)
    assert matched.all()
    np.testing.assert_allclose(found, [d for _, d in second.frame(pred, pred_2d, target, target_2d)], rtol=1e-9, atol=1e-9)
    hits = pck(found)
    if shape == "zero size":
        assert not hits.any()
    if shape == "one bone of no length":
        missed = {COUNTED[j] for j in np.flatnonzero(~hits[0].astype(bool))}
        assert missed == {"R_Elbow", "R_Wrist"} and np.isinf(found[0, COUNTED.index("R_Wrist")])


def test_a_missing_person_is_a_miss_in_every_joint_and_a_prediction_left_over_costs_nothing():
    _, _, target, target_2d = frame_of(5, 2, 2)
    target_2d[1] += 500
    pred, pred_2d = target.copy(), target_2d.copy()
    alone, matched = frame_distances(pred[1:], pred_2d[1:], target, target_2d)
    assert matched.tolist() == [False, True] and (alone[0] == MISSED_MM).all() and alone[1].max() < 1e-6
    assert pck(alone).mean() == 0.5 and auc(alone[1:]).mean() == pytest.approx(30 / 31)
    more, _ = frame_distances(np.concatenate([pred, pred]), np.concatenate([pred_2d, pred_2d + 1000]), target, target_2d)
    assert more.max() < 1e-6
    nobody, matched = frame_distances(pred[:0], pred_2d[:0], target, target_2d)
    assert (nobody == MISSED_MM).all() and not matched.any()


def test_matching_is_greedy_in_the_order_of_the_truth():
    target = np.zeros((2, 17, 2)) + 100
    target[1, :4] += 500  # the second person shares most joints with the first
    pred = target.copy()
    assert match_persons(pred, target).tolist() == [0, 1]
    assert match_persons(pred[:1], target).tolist() == [0, -1], "the first person takes the only prediction"
    assert match_persons(pred[1:], target).tolist() == [0, -1], "though the second would fit it better"
    assert match_persons(np.stack([pred[0], pred[0]]), target[:1]).tolist() == [0], "the first among equals"
    at_the_edge = np.full((1, 17, 2), 140.0)
    assert match_persons(at_the_edge, target[:1]).tolist() == [-1] and match_persons(at_the_edge - 1e-6, target[:1]).tolist() == [0]
    head_alone = np.full((1, 17, 2), 900.0)
    head_alone[0, [0, 14, 15, 16]] = 100
    assert match_persons(head_alone, target[:1]).tolist() == [-1], "Head_top, Pelvis, Torso and Head are not compared"
    assert match_persons(np.zeros((1, 17, 2)), np.zeros((1, 17, 2))).tolist() == [-1], "a joint at (0, 0) is not there"


def test_bones_get_the_true_lengths_and_keep_their_directions():
    pred, _, target, _ = frame_of(9, 3, 3)
    found = rescale_bones(pred, target)
    np.testing.assert_allclose(found, [second.rescaled(p, t) for p, t in zip(pred, target, strict=True)], rtol=1e-9)
    for one in second.ORDER:
        j, p = one - 1, second.O1[one - 1] - 1
        np.testing.assert_allclose(np.linalg.norm(found[:, j] - found[:, p], axis=1), np.linalg.norm(target[:, j] - target[:, p], axis=1))
        cosine = ((found[:, j] - found[:, p]) * (pred[:, j] - pred[:, p])).sum(1)
        lengths = np.linalg.norm(found[:, j] - found[:, p], axis=1) * np.linalg.norm(pred[:, j] - pred[:, p], axis=1)
        np.testing.assert_allclose(cosine, lengths)
    np.testing.assert_allclose(rescale_bones(3 * target + 7, target) - 7 - 3 * target[:, 14:15], target - target[:, 14:15])


def test_what_is_not_finite_or_of_another_skeleton_is_refused():
    pred, pred_2d, target, target_2d = frame_of(1, 2, 2)
    for place, message in ((0, "predicted joints"), (1, "predicted 2D joints"), (2, "true joints"), (3, "true 2D joints")):
        arrays = [a.copy() for a in (pred, pred_2d, target, target_2d)]
        arrays[place][1, 3] = np.nan
        with pytest.raises(ValueError, match=f"{message}: 1 of 2 persons are not finite \\(first: person 1\\)"):
            frame_distances(*arrays)
    with pytest.raises(ValueError, match=r"predicted joints: expected \(persons, 17, 3\), found \(2, 14, 3\)"):
        frame_distances(pred[:, :14], pred_2d, target, target_2d)
    with pytest.raises(ValueError, match="expected 2D joints of 2 predictions"):
        frame_distances(pred, pred_2d[:1], target, target_2d)


def test_the_figure_is_the_mean_of_sequences_not_of_persons():
    values, sequences = np.array([100.0, 0, 0, 0, np.nan, np.nan]), np.array(["TS1", "TS2", "TS2", "TS2", "TS2", "TS3"])
    assert sequence_means(values, sequences) == 50 and sequence_means(values[4:], sequences[4:]) is None


def test_groups_hold_the_fourteen_joints():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COUNTED) and len(COUNTED) == 14


def test_a_network_that_knows_the_truth(people, body, decoder, tmp_path):
    shards = write_people(str(tmp_path), body, layout="mupots")
    protocol = Mupots()
    found = evaluate_annotator(KnowsTheTruth(people, body), shards, protocol, body, decoder, batch_size=3)
    errors, joints = protocol.overall(found.errors, found.sequences)
    assert errors.persons == 8 and max(errors.pa_mpjpe_mm, errors.mpjpe_mm) < 0.05 and set(found.sequences) == {"TS1", "TS2"}
    assert errors.pck_percent == errors.pck_matched_percent == 100 and errors.auc_percent == pytest.approx(100 * 30 / 31)
    assert list(joints) == list(COUNTED) and all(joint.pck_percent == 100 for joint in joints.values())


def test_a_broken_image_is_missed_in_all_and_left_out_of_matched(people, body, decoder, tmp_path):
    shards = write_people(str(tmp_path), body, layout="mupots", broken=3)
    protocol = Mupots()
    annotator = KnowsTheTruth(write_people(f"{tmp_path}/same", body, images=3), body)
    found = evaluate_annotator(annotator, shards, protocol, body, decoder)
    errors, _ = protocol.overall(found.errors, found.sequences)
    assert found.left_out == {"undecodable": 2} and errors.persons == 6 == found.predictions.num_rows and len(found.errors) == 8
    assert errors.pck_percent == 75 and errors.pck_matched_percent == 100 and np.isnan(found.errors.column("mpjpe")[6:]).all()


def test_errors_agree_with_the_protocol_written_out(people, body, decoder, tmp_path):
    shards = write_people(str(tmp_path), body, layout="mupots")
    protocol, kept = Mupots(), {}

    class Watched(Mupots):
        def errors(self, given_kept, frames):
            kept.update(given_kept, frames=frames)
            return super().errors(given_kept, frames)

    found = evaluate_annotator(KnowsTheTruth(people, body, noise=0.4), shards, Watched(), body, decoder, batch_size=3)
    errors, _ = protocol.overall(found.errors, found.sequences)
    assert found.errors.column("pa_mpjpe") == pytest.approx([second.pa(p, t) for p, t in zip(kept["pred"], kept["target"], strict=True)])
    of_sequence: dict[str, list] = {}
    for name in np.unique(kept["frames"]):
        mine = np.flatnonzero(kept["frames"] == name)
        rows = second.frame(*(kept[k][mine] for k in ("pred_17", "pred_img", "univ_17", "target_img")))
        of_sequence.setdefault(name.split("/")[0], []).extend(rows)
    everybody = [second.mean([second.pck(d) for _, d in rows]) for rows in of_sequence.values()]
    matched = [second.mean([second.pck(d) for m, d in rows if m]) for rows in of_sequence.values()]
    areas = [second.mean([second.auc(d) for m, d in rows if m]) for rows in of_sequence.values()]
    assert errors.pck_percent == pytest.approx(100 * second.mean(everybody), abs=1e-3) and 0 < errors.pck_percent < 100
    assert errors.pck_matched_percent == pytest.approx(100 * second.mean(matched), abs=1e-3)
    assert errors.auc_matched_percent == pytest.approx(100 * second.mean(areas), abs=1e-3)


def test_mi17_joints_are_the_h36m_regressors_by_name(body):
    vertices = body.v_template[None].numpy()
    theirs, ours = h36m_joints_mm(vertices, body)[0], mi_joints_mm(vertices, body)[0]
    for j, name in enumerate(MI17.joints):
        np.testing.assert_array_equal(ours[j], theirs[H36M17.index(name)])
