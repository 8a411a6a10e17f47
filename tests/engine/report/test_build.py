"""The report of real runs, a real release and real results: every section, every picture, and made again."""

import io
import re

import pytest
from PIL import Image
from rich.console import Console

from engine.body.smpl import BodyConfig, load_body
from engine.errors import MissingInput, ShardCorrupt
from engine.evaluation.run import EvaluateConfig, evaluate
from engine.report.build import ReportConfig, build_report
from engine.report.pictures import drawn_keys, figures, lowest_keys, spread_keys
from engine.storage import Store
from tests.engine.evaluation.builders import truth_bytes, write_checkpoint, write_people, write_release


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root, body = tmp_path_factory.mktemp("report"), load_body(BodyConfig())
    people = write_people(f"{root}/people", body)
    write_checkpoint(f"{root}/f", body)
    release = write_release(f"{root}/store", "people", people, body, noise=0.1)
    (root / "truth.parquet").write_bytes(truth_bytes(people))
    networks = [{"name": "f", "checkpoint": f"{root}/f"}]
    evaluate(
        EvaluateConfig(
            out=f"{root}/results", networks=networks, test_sets=[{"url": f"{root}/people"}], mean_pose_from=[f"{root}/people"], device="cpu"
        ),
        quiet(),
    )
    shown = {"root": f"{root}/store", "name": "people", "shard_set": f"{root}/people", "truth": f"{root}/truth.parquet"}
    config = ReportConfig(
        out=f"{root}/out", runs={"f": f"{root}/f"}, releases=[shown], results=f"{root}/results", test_set=f"{root}/people", overlays=3
    )
    return config, people, release, body


def test_the_page_has_every_section_and_every_picture_is_valid(made):
    config, _, release, _ = made
    printed = io.StringIO()
    assert build_report(config, Console(file=printed)) == f"{config.out}/index.html" and "index.html" in printed.getvalue()
    store = Store(config.out)
    html = store.get("index.html").decode()
    assert re.findall("<h2>(.*?)</h2>", html) == ["Results", "Training", "Release people v1", "Predictions on the test set", "Lineage"]
    pictures = set(re.findall('src="(.*?)"', html))
    assert pictures == {key for key in store.list("pictures")} and len(pictures) == 5
    for key in pictures:
        image = Image.open(io.BytesIO(store.get(key)))
        image.load()
        assert image.format == ("PNG" if key.endswith(".png") else "JPEG") and min(image.size) > 200
    for shown in (release.digest, "planned", "PA-MPJPE", "of the training sets", "Images drawn at random"):
        assert shown in html


def test_a_report_of_one_run_alone_made_again_replaces_itself(made, tmp_path):
    for title in ("first", "second"):
        build_report(ReportConfig(out=str(tmp_path), title=title, runs=made[0].runs), quiet())
        html = (tmp_path / "index.html").read_text()
        assert f"<h1>{title}</h1>" in html and re.findall("<h2>(.*?)</h2>", html) == ["Training", "Lineage"]


def test_images_are_chosen_as_said(made):
    table = made[2].table()
    keys = sorted(set(table["key"].to_pylist()))
    assert sorted(drawn_keys(table, 10, seed=0)) == keys and drawn_keys(table, 2, 5) == drawn_keys(table, 2, 5)
    means = {key: [r["score"] for r in table.to_pylist() if r["key"] == key] for key in keys}
    order = sorted(keys, key=lambda key: sum(means[key]) / len(means[key]))
    assert lowest_keys(table, "score", 2) == order[:2]
    assert spread_keys(table, "score", 2) == [order[0], order[-1]] and spread_keys(table, "score", 99) == order
    assert spread_keys(table.slice(0, 0), "score", 3) == []


def test_a_test_set_that_was_not_evaluated_is_refused(made, tmp_path):
    other = write_people(str(tmp_path), made[3], images=2)
    with pytest.raises(MissingInput, match=r"none of the test sets the results are of \(people/test\)"):
        build_report(made[0].model_copy(update={"test_set": other.url, "out": f"{tmp_path}/out"}), quiet())


def test_rows_of_another_shard_set_are_refused(made, tmp_path):
    other = write_people(str(tmp_path), made[3], images=2)
    with pytest.raises(ShardCorrupt, match=r"no sample image2 \(2 missing in all\)"):
        figures(made[2].table(), [f"image{i}" for i in range(4)], other, made[3], lambda sample, rows: [])
