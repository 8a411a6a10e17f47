"""What a site is written from, without a browser: who is on it, its files, what it refuses, and what one bad person costs."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from engine.body.smpl import BodyConfig, load_body
from engine.config import load_config
from engine.errors import ConfigError
from engine.report.overlay import BACKGROUND
from engine.report.site.build import build_site
from engine.report.site.choose import choose, drawn
from engine.report.site.config import SiteConfig
from engine.report.site.drawing import window_of
from engine.report.site.persons import vectors
from engine.report.site.scripts import packed, script
from engine.storage import Store
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from tests.engine.evaluation.builders import write_people, write_release
from tests.engine.report.site.builders import make_rows, publish_rows


def quiet() -> Console:
    return Console(file=io.StringIO())


def value_of(store: Store, name: str):
    """What a data file hands to the page."""
    text = store.get(f"data/{name}.js").decode()
    return json.loads("[" + text.removeprefix("PSEUDOGT.add(").removesuffix(");\n") + "]")[1]


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), max_size=60), st.integers(1, 40))
def test_the_worst_and_the_best_are_chosen_and_the_rest_evenly(scores, most):
    scores = np.array(scores, np.float32)
    chosen = choose(scores, most)
    assert len(chosen) == min(most, len(scores)) and (np.diff(chosen) > 0).all()
    if len(scores) > most:
        quarter, order = most // 4, np.sort(scores)
        mine = np.sort(scores[chosen])
        np.testing.assert_array_equal(mine[:quarter], order[:quarter])
        np.testing.assert_array_equal(mine[len(mine) - quarter :], order[len(order) - quarter :])
    sets = drawn(scores, [str(i // 3) for i in range(len(scores))], most)
    assert len({p for places in sets.values() for p in places}) == sum(map(len, sets.values())) <= most


def test_random_persons_are_of_as_many_photographs_as_there_are():
    random = drawn(np.linspace(0, 1, 30), [str(i // 3) for i in range(30)], 18)["random"]
    assert len({i // 3 for i in random}) == len(random) == 6


def test_nobody_has_vectors_of_the_right_length():
    assert vectors(PSEUDO_GT_SCHEMA.empty_table(), "pose").shape == (0, 72)


def test_middle_persons_come_from_everywhere():
    scores = np.full(100_000, 0.5, np.float32)
    gaps = np.diff(choose(scores, 1000)[250:-250])
    assert gaps.min() >= 190 and gaps.max() <= 210


@given(st.text(), st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_scripts_hold_any_text_and_any_number(text, number):
    data = script(text, {"t": text, "n": packed(np.array([number], np.float32))}).decode("ascii")
    assert "<" not in data
    name, value = json.loads("[" + data.removeprefix("PSEUDOGT.add(").removesuffix(");\n") + "]")
    assert (name, value["t"]) == (text, text)
    np.testing.assert_array_equal(floats(value["n"]), np.array([number], np.float32))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4), st.booleans())
def test_windows_of_any_box_are_square_and_bounded(box, seen):
    left, top, right, bottom = window_of(np.array(box), (300, 200) if seen else None)
    assert right - left == bottom - top > 0 and right - left <= (400 if seen else 1.4e6)
    if seen:
        assert right > 0 and bottom > 0 and left < 300 and top < 200


def test_rows_arrive_in_the_page_as_they_are(tmp_path, body):
    rows = make_rows([(f"p{i // 2}", str(i)) for i in range(1003)], transl=(0, 0, -5))
    publish_rows(f"{tmp_path}/store", [rows.slice(0, 400), rows.slice(400)], body)
    build_site(SiteConfig(release=f"{tmp_path}/store#made@v1", out=f"{tmp_path}/site", pictures=0), quiet())
    store = Store(f"{tmp_path}/site")
    places = {(row["key"], row["annotation_id"]): row for row in rows.to_pylist()}
    found = 0
    for number, count in ((0, 1000), (1, 3)):
        persons, bodies = value_of(store, f"persons-{number:03d}"), value_of(store, f"bodies-{number:03d}")
        assert persons["count"] == count
        figures = {name: floats(text) for name, text in persons["figures"].items()}
        pose, focal = floats(bodies["pose"]).reshape(-1, 72), floats(bodies["focal"]).reshape(-1, 2)
        for i, name in enumerate(zip(persons["key"], persons["id"], strict=True)):
            row = places.pop(name)
            assert all(figures[f][i] == np.float32(row[f]) or np.isnan([figures[f][i], row[f]]).all() for f in figures)
            assert pose[i].tolist() == row["pose"] and focal[i].tolist() == row["focal"]
            found += 1
    assert found == 1003 and not places
    assert len(store.list("thumbs")) == 51 and value_of(store, "release")["release"]["annotated"] == 1003
    assert not store.list("photos") and value_of(store, "release")["photographs"] is False


def test_a_site_made_again_replaces_itself_and_touches_nothing_else(tmp_path, body):
    people = write_people(f"{tmp_path}/people", body, images=1, shards=1)
    write_release(f"{tmp_path}/store", "people", people, body, noise=0.1)
    (tmp_path / "site" / "data").mkdir(parents=True)
    (tmp_path / "site" / "data" / "mine.txt").write_text("mine")
    config = SiteConfig(release=f"{tmp_path}/store#people", shard_set=f"{tmp_path}/people", out=f"{tmp_path}/site", pictures=3)
    url = build_site(config, quiet())
    store = Store(config.out)
    first = store.list()
    assert url.endswith("site/index.html") and len(store.list("photos")) == 2 and len(store.list("pictures")) == 2
    for key in [*store.list("photos"), *store.list("pictures"), *store.list("thumbs")]:
        image = Image.open(io.BytesIO(store.get(key)))
        image.load()
        assert image.format == "JPEG"
    build_site(config, quiet())
    assert store.list() == first
    build_site(config.model_copy(update={"photographs": False, "pictures": 0}), quiet())
    assert not store.list("photos") and not store.list("pictures") and store.get("data/mine.txt") == b"mine"
    sheet = np.asarray(Image.open(io.BytesIO(store.get("thumbs/0000.jpg"))))
    assert (abs(sheet[:4, :4].astype(int) - BACKGROUND) < 6).all(), "nothing of the photograph is left"
    assert value_of(store, "bodies-000")["joints"][0] is not None


def test_every_file_that_the_page_names_is_there(tmp_path, body):
    publish_rows(f"{tmp_path}/store", [make_rows([("p", "1")])], body)
    build_site(SiteConfig(release=f"{tmp_path}/store#made", out=f"{tmp_path}/site"), quiet())
    store = Store(f"{tmp_path}/site")
    html = store.get("index.html").decode()
    named = re.findall(r'(?:src|href)="((?:assets|data)/[^"]+)"', html)
    scripts = [store.get(key).decode() for key in store.list("assets") if key.endswith(".js")]
    named += re.findall(r'PSEUDOGT\.script\("([^"]+)"\)', "".join(scripts))
    assert len(named) >= 14 and all(store.exists(key) for key in named) and "{{" not in html
    assert not re.search(r"https?://(?!www\.w3\.org)", html)


def test_what_does_not_belong_together_is_refused_before_anything_is_written(tmp_path, body):
    people = write_people(f"{tmp_path}/people", body, images=1, shards=1)
    other = write_people(f"{tmp_path}/other", body, images=1, shards=1, seed=5)
    write_release(f"{tmp_path}/store", "people", people, body)
    config = SiteConfig(release=f"{tmp_path}/store#people", shard_set=other.url, out=f"{tmp_path}/site")
    with pytest.raises(ConfigError, match="was made from"):
        build_site(config, quiet())
    assert not (tmp_path / "site").exists()


def test_a_damaged_photograph_costs_itself(tmp_path, body):
    people = write_people(f"{tmp_path}/people", body, images=2, shards=1)
    write_release(f"{tmp_path}/store", "people", people, body)
    (entry,) = people.manifest.shards
    row = people.index(entry)[1]
    tar = bytearray(people.fetch(entry))
    tar[row.image_offset : row.image_offset + row.image_size] = bytes(row.image_size)
    people.store.delete(entry.path)
    people.store.create(entry.path, bytes(tar))
    config = SiteConfig(release=f"{tmp_path}/store#people", shard_set=people.url, out=f"{tmp_path}/site", pictures=3)
    build_site(config, quiet())
    store = Store(config.out)
    assert len(store.list("photos")) == 2 and len(store.list("pictures")) == 3
    assert value_of(store, "bodies-000")["joints"].count(None) == 2


def test_of_a_licensed_body_there_are_posed_meshes_and_never_the_model(tmp_path, real_data):
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").symlink_to(real_data / "open_body" / "smpl_schema_6890.npz")
    config = BodyConfig(kind="smpl", smpl_dir=str(tmp_path))
    licensed = load_body(config)
    publish_rows(f"{tmp_path}/store", [make_rows([("p", str(i)) for i in range(9)], transl=(0, 0, 5))], licensed)
    site = SiteConfig(release=f"{tmp_path}/store#made", out=f"{tmp_path}/site", pictures=3, body=config)
    with pytest.raises(ConfigError, match="made with body 'smpl'"):
        build_site(site.model_copy(update={"body": BodyConfig()}), quiet())
    build_site(site, quiet())
    store = Store(site.out)
    facts = value_of(store, "release")
    meshes = [key for key in store.list("data") if "mesh-" in key]
    assert not store.exists("data/body.js") and store.exists("data/faces.js") and facts["body_data"] is False
    assert meshes == sorted(f"data/mesh-{drawn[1]:05d}.js" for drawn in facts["drawn"]) and len(meshes) == 3
    place = facts["drawn"][0][1]
    mesh, bodies = value_of(store, f"mesh-{place:05d}"), value_of(store, "bodies-000")
    steps = np.frombuffer(base64.b64decode(mesh["values"]), "<i2").reshape(-1, 3)
    pose, betas = (torch.from_numpy(floats(bodies[name]).reshape(9, -1)[place : place + 1].copy()) for name in ("pose", "betas"))
    with torch.inference_mode():
        expected = licensed(pose, betas, torch.tensor([[0.0, 0.0, 5.0]])).vertices_BV3[0].numpy()
    np.testing.assert_allclose(steps * mesh["scale"] + mesh["origin"], expected, atol=5e-5)


def test_a_site_goes_to_any_store(body):
    root = "memory://pages"
    publish_rows(f"{root}/store", [make_rows([("p", "1")])], body)
    url = build_site(SiteConfig(release=f"{root}/store#made", out=f"{root}/site", pictures=1), quiet())
    store = Store(f"{root}/site")
    assert url == f"{root}/site/index.html"
    assert json.loads(store.get("data/files.json")) == sorted(set(store.list()) - {"index.html", "data/files.json"})


def test_the_command_line_takes_one_or_two_releases():
    one = load_config(SiteConfig, ["s#a", "--out=o"])
    two = load_config(SiteConfig, ["s#a", "s#b@v2", "--out=o", "--most=5", "--body.kind=open"])
    assert (one.release, one.other, one.most) == ("s#a", None, 10_000) and (two.other, two.most) == ("s#b@v2", 5)
