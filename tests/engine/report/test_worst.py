"""The worst predictions: the right persons in the right order, drawn once, with truth as a mesh or as sticks."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from engine.body.smpl import BodyConfig, load_body
from engine.evaluation.run import EvaluateConfig, evaluate, read_predictions
from engine.report.sticks import stick_figure
from engine.report.worst import draw_worst
from engine.storage import Store
from schemas.skeletons import MI17
from tests.engine.evaluation.builders import write_checkpoint, write_people


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root, body = tmp_path_factory.mktemp("worst"), load_body(BodyConfig())
    write_people(f"{root}/people", body)
    write_people(f"{root}/mupots", body, layout="mupots", images=2)
    write_checkpoint(f"{root}/f", body)
    sets = [{"url": f"{root}/people", "name": "wild"}, {"url": f"{root}/mupots", "protocol": "mupots"}]
    networks = [{"name": "f", "checkpoint": f"{root}/f"}]
    config = EvaluateConfig(out=f"{root}/out", networks=networks, test_sets=sets, device="cpu", worst=3, tables=())
    results = evaluate(config, quiet())
    draw_worst(config, results, quiet())
    return config, results, Store(config.out)


def test_the_index_names_the_worst_persons_in_order(made):
    config, results, store = made
    rows = list(csv.DictReader(io.StringIO(store.get("worst/index.csv").decode())))
    for test_set in results.test_sets:
        table = read_predictions(config.out, test_set.networks[0]).to_pylist()
        expected = sorted(table, key=lambda row: -row["pa_mpjpe_mm"])[:3]
        mine = [row for row in rows if row["test_set"] == test_set.name]
        assert [(r["key"], r["annotation_id"]) for r in mine] == [(r["key"], r["annotation_id"]) for r in expected]
        assert [r["picture"] for r in mine] == [f"worst/{test_set.name}/f/{n:02d}_{r['key']}.jpg" for n, r in enumerate(expected, 1)]
    assert [r["rank"] for r in rows] == ["1", "2", "3"] * 2


def test_every_picture_is_there_and_on_the_page(made):
    _, _, store = made
    pictures = [key for key in store.list("worst") if key.endswith(".jpg")]
    page = store.get("worst/index.html").decode()
    assert len(pictures) == 6 and all(f'src="{key.removeprefix("worst/")}"' in page for key in pictures)
    for key in pictures:
        image = Image.open(io.BytesIO(store.get(key)))
        image.load()
        assert image.format == "JPEG" and image.size[0] > 3 * 360
        side = np.asarray(image)[:, -366:-6].astype(int)
        grey = (np.ptp(side, axis=2) < 12) & (side.max(axis=2) < 215) & (side.max(axis=2) > 60)
        assert grey[20:340].sum() > 300, "the truth stands beside the prediction"


def test_they_are_drawn_again_only_for_another_number(made):
    config, results, store = made
    printed = io.StringIO()
    draw_worst(config, results, Console(file=printed))
    assert printed.getvalue() == ""
    draw_worst(config.model_copy(update={"worst": 1}), results, Console(file=printed))
    assert "the 1 worst predictions" in printed.getvalue() and len([k for k in store.list("worst") if k.endswith(".jpg")]) == 2
    draw_worst(config.model_copy(update={"worst": 0}), results, Console(file=printed))
    assert store.exists("worst/index.csv")


def test_a_stick_figure_spans_its_joints():
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 0.5, (17, 3))
    figure = stick_figure(joints, MI17.bone_indices)
    np.testing.assert_allclose(figure.vertices_V3.min(0), joints.min(0), atol=0.05)
    np.testing.assert_allclose(figure.vertices_V3.max(0), joints.max(0), atol=0.05)
    assert figure.faces_F3.max() == len(figure.vertices_V3) - 1 and stick_figure(joints * 0, MI17.bone_indices) is None
