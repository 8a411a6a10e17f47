"""The evaluation job end to end: checkpoint, test set, baseline and release in; results and predictions out; asked twice."""

import io

import pytest
from rich.console import Console

from engine.body.smpl import BodyConfig, load_body
from engine.config import validate
from engine.errors import CommitConflict, ConfigError, MissingInput
from engine.evaluation.run import EvaluateConfig, NamedTestSet, evaluate, read_predictions, read_results
from engine.evaluation.tables import notes, result_table
from engine.storage import Store
from tests.engine.evaluation.builders import truth_bytes, write_checkpoint, write_people, write_release


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root, body = tmp_path_factory.mktemp("evaluation"), load_body(BodyConfig())
    people = write_people(f"{root}/people", body)
    write_people(f"{root}/training", body, seed=9)
    write_checkpoint(f"{root}/f", body)
    write_checkpoint(f"{root}/g", body, seed=1)
    write_release(f"{root}/store", "people", people, body, noise=0.1)
    (root / "truth.parquet").write_bytes(truth_bytes(people))
    return EvaluateConfig(
        out=f"{root}/out",
        networks=[{"name": n, "checkpoint": f"{root}/{n}"} for n in "fg"],
        test_sets=[{"url": f"{root}/people"}],
        mean_pose_from=[f"{root}/training"],
        device="cpu",
        release={"root": f"{root}/store", "name": "people", "truth": f"{root}/truth.parquet"},
    )


@pytest.fixture(scope="module")
def printed():
    return io.StringIO()


@pytest.fixture(scope="module")
def results(config, printed):
    return evaluate(config, Console(file=printed))


def test_everything_is_in_the_results(config, results):
    assert read_results(config.out) == results
    (test_set,) = results.test_sets
    f, g = test_set.networks
    assert (f.name, g.name) == ("f", "g") and f.network_digest != g.network_digest and test_set.protocol == "3dpw"
    assert "truth: the mesh of the person's gender" in test_set.details
    for network in test_set.networks:
        assert network.errors.persons == 8 == sum(s.persons for s in network.sequences.values())
        assert network.errors.pa_mpjpe_mm < network.errors.mpjpe_mm
        weighted = sum(s.persons * s.pa_mpjpe_mm for s in network.sequences.values()) / 8
        assert weighted == pytest.approx(network.errors.pa_mpjpe_mm, abs=1e-3)
        assert read_predictions(config.out, network).num_rows == 8
        for name in ("mpjpe_mm", "pa_mpjpe_mm"):
            of_joints = [getattr(joint, name) for joint in network.joints.values()]
            assert sum(of_joints) / 14 == pytest.approx(getattr(network.errors, name), abs=1e-3) and len(of_joints) == 14
    assert test_set.baseline.averaged_persons == 8 and results.pseudo_gt.joined == 8
    assert {"body", "test set 3dpw", "network f", "network g", "training set people/test", "release", "truth", "settings"} == set(
        results.inputs
    )


def test_the_table_can_be_read_in_a_log(results, printed):
    text = printed.getvalue()
    columns, rows = result_table(results, results.test_sets[0])
    assert columns == ("what", "persons", "MPJPE", "PA-MPJPE", "x", "y", "z", "MPVPE", "PA-MPVPE", "PA to baseline")
    assert [len(row) for row in rows] == [len(columns)] * 4 and rows[0][0].startswith("mean ") and rows[1][-1].endswith("%")
    for cell in (c for row in rows for c in row if c):
        assert cell in text
    assert all(line in " ".join(text.split()) for line in notes(results, results.test_sets[0])) and max(map(len, text.splitlines())) <= 140


def test_several_test_sets_each_have_their_protocol(config, tmp_path):
    body, printed = load_body(BodyConfig()), io.StringIO()
    sets = [{"url": config.test_sets[0].url, "name": "wild"}]
    for layout, protocol in (("mupots", "mupots"), ("human36m", "human36m-p2"), ("3dhp", "3dhp")):
        write_people(f"{tmp_path}/{layout}", body, images=2, layout=layout)
        sets.append({"url": f"{tmp_path}/{layout}", "protocol": protocol})
    network = {**config.networks[0].model_dump(), "row": "ours", "trained_on": "synthetic"}
    given = config.model_dump() | {"out": f"{tmp_path}/out", "test_sets": sets, "networks": [network]}
    found = evaluate(EvaluateConfig(**given), Console(file=printed))
    assert [(t.name, t.protocol) for t in found.test_sets] == [("wild", "3dpw")] + [(n, n) for n in ("mupots", "human36m-p2", "3dhp")]
    assert read_results(f"{tmp_path}/out") == found and len([k for k in found.inputs if k.startswith("test set ")]) == 4
    wild, mupots, human36m, mi = (t.networks[0].errors for t in found.test_sets)
    assert wild.mpvpe_mm and not mupots.mpvpe_mm and mupots.pck_percent is not None and mi.pck_percent is not None is human36m.pck_percent
    assert found.test_sets[0].networks[0].predictions_path == "predictions/wild/f.parquet"
    for test_set in found.test_sets:
        assert (test_set.baseline.mean_skeleton is None) == (test_set.protocol == "3dhp") and test_set.baseline.mean_pose.pa_mpjpe_mm > 0
    text = printed.getvalue()
    for table in ("Table 2.", "Table 3.", "Table 4.", "Table 5."):
        assert table in text
    assert (
        text.count("against its truth") == 1 and "f on people/test (mupots), by joint" in text and max(map(len, text.splitlines())) <= 140
    )
    assert Store(f"{tmp_path}/out").exists("tables/table5.tex")


def test_asked_again_nothing_is_computed(config, results):
    before = {key: Store(config.out).get(key) for key in Store(config.out).list()}
    again = io.StringIO()
    assert evaluate(config, Console(file=again)) == results
    assert "nothing to do" in again.getvalue() and "predicting" not in again.getvalue()
    assert {key: Store(config.out).get(key) for key in Store(config.out).list()} == before


def test_other_inputs_do_not_replace_results(config, results):
    with pytest.raises(CommitConflict, match="network g"):
        evaluate(config.model_copy(update={"networks": config.networks[:1]}), Console(file=io.StringIO()))


def test_an_interrupted_run_is_done_again_with_the_same_bytes(config, results, tmp_path):
    fresh = config.model_copy(update={"out": str(tmp_path)})
    Store(fresh.out).create("predictions/3dpw/f.parquet", b"left by a crash")
    assert evaluate(fresh, Console(file=io.StringIO())).to_bytes() == results.to_bytes()


def test_wrong_configs_say_what_is_wrong(config):
    with pytest.raises(MissingInput, match="nowhere"):
        evaluate(config.model_copy(update={"test_sets": (NamedTestSet(url="/nowhere"),)}), Console(file=io.StringIO()))
    two = {"out": "o", "test_sets": [{"url": "t"}], "networks": [{"name": "f", "checkpoint": "c"}] * 2}
    with pytest.raises(ConfigError, match="two networks have one name"):
        validate(EvaluateConfig, two, "here")
    two = {"out": "o", "test_sets": [{"url": "t"}, {"url": "u"}], "networks": [{"name": "f", "checkpoint": "c"}]}
    with pytest.raises(ConfigError, match=r"two test sets have one name: \['3dpw', '3dpw'\]"):
        validate(EvaluateConfig, two, "here")
