"""A release against its truth: exact, wrong by noise, incomplete, and of another world."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.body.smpl import BodyConfig, load_body
from engine.errors import RawDataError, ReleaseError
from engine.evaluation.pseudo_gt import evaluate_release, read_truth
from tests.engine.evaluation.builders import truth_bytes, write_people, write_release


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    return write_people(str(tmp_path_factory.mktemp("people")), body)


@pytest.fixture(scope="module")
def truth(people):
    return read_truth(truth_bytes(people), "truth")


def test_a_true_release_has_no_error(people, body, truth, tmp_path):
    found = evaluate_release(write_release(str(tmp_path), "people", people, body), truth, body)
    assert (found.joined, found.missing, found.unknown) == (8, 0, 0)
    assert found.errors.pa_mpjpe_mm < 0.01 and found.errors.mpvpe_mm < 0.01


def test_errors_grow_with_noise_and_persons_are_counted(people, body, truth, tmp_path):
    release = write_release(str(tmp_path), "people", people, body, noise=0.2)
    found = evaluate_release(release, truth.slice(0, 5), body)
    assert (found.joined, found.missing, found.unknown) == (5, 0, 3)
    assert 5 < found.errors.pa_mpjpe_mm < 300 and -1 <= found.score_rank_correlation <= 1
    extra = pa.table({"annotation_id": ["stranger"], "pose": [[0.0] * 72], "betas": [[0.0] * 10]}, schema=truth.schema)
    assert evaluate_release(release, pa.concat_tables([truth, extra]), body).missing == 1


def test_another_worlds_truth_is_refused(people, body, truth, tmp_path):
    release = write_release(str(tmp_path), "people", people, body)
    renamed = truth.set_column(0, "annotation_id", pa.array([f"x{i}" for i in range(len(truth))]))
    with pytest.raises(ReleaseError, match="none of its 8 persons is among the truth's 8"):
        evaluate_release(release, renamed, body)


def test_truth_must_be_a_truth_table():
    with pytest.raises(RawDataError, match="expected Parquet"):
        read_truth(b"not parquet", "there")
    twice = {"annotation_id": ["a", "a"], "pose": [[0.0]] * 2, "betas": [[0.0]] * 2}
    for table, message in (({"pose": [[0.0]]}, "expected Parquet"), (twice, "twice")):
        buffer = io.BytesIO()
        pq.write_table(pa.table(table), buffer)
        with pytest.raises(RawDataError, match=message):
            read_truth(buffer.getvalue(), "there")
