"""The pages in a real browser, from disk: every view at two widths, what numpy says is found, hostile names, ten thousand persons."""

from __future__ import annotations

import io
from contextlib import contextmanager

import boto3
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from engine.body.smpl import BodyConfig, load_body
from engine.releases.change import open_bodies
from engine.releases.diff import CHANGED, diff_rows
from engine.report.site.build import build_site
from engine.report.site.config import SiteConfig
from engine.storage import Store
from schemas.manifests import QuarantineRow
from tests.browser import DESKTOP, PHONE, chromium, opened
from tests.engine.evaluation.builders import write_people, write_release
from tests.engine.report.site.builders import make_rows, publish_rows

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "' onload='window.hacked = 1",
    "__proto__",
    "../../etc/passwd#?%2F%",
    "a b\n\u2028\u202e&amp;<b>bold</b>",
    "W" * 200,
    "{{FACTS}} 人 🏃",
)

__all__ = ["chromium"]


def quiet() -> Console:
    return Console(file=io.StringIO())


def go(page, view: str) -> None:
    page.evaluate("view => { location.hash = view }", view)
    page.wait_for_function("view => document.getElementById('main').dataset.ready === view", arg=view)


@contextmanager
def visit(chromium, folder, view: str = "#card", size: tuple[int, int] = DESKTOP):
    with opened(chromium, folder / "index.html", size, view) as page:
        page.wait_for_selector("main[data-ready^='#']")
        yield page


def arrived(page, view: str, person: str) -> None:
    """Waits until a person's view is there as a whole."""
    page.wait_for_function("id => document.querySelector('h1 code')?.textContent === id", arg=person)
    page.wait_for_function("view => document.getElementById('main').dataset.ready.startsWith('#' + view + '/')", arg=view)


def shown_ids(page) -> list[str]:
    """Ids on the cards of the grid, in their order on the page."""
    return page.locator(".grid .who").all_text_contents()


@pytest.fixture(scope="module")
def body():
    return load_body(BodyConfig())


@pytest.fixture(scope="module")
def two_releases(tmp_path_factory, body):
    """The site of a small release with photographs, beside another one."""
    root = tmp_path_factory.mktemp("two")
    people = write_people(f"{root}/people", body, images=3)
    releases = [write_release(f"{root}/{word}", "people", people, body, seed, noise=0.1) for seed, word in enumerate(("old", "new"))]
    config = SiteConfig(
        release=f"{root}/new#people", other=f"{root}/old#people", shard_set=f"{root}/people", out=f"{root}/site", pictures=3
    )
    build_site(config, quiet())
    return root / "site", releases


@pytest.fixture(scope="module")
def numbers(tmp_path_factory, body):
    """The site of 60 rows with hostile names and two datasets, without photographs."""
    root = tmp_path_factory.mktemp("numbers")
    names = [(f"photo_{i // 3:03d}", HOSTILE[i] if i < len(HOSTILE) else f"person {i}") for i in range(60)]
    rows = make_rows(names, datasets=("first", HOSTILE[0], "__proto__"))
    failed = QuarantineRow(dataset=HOSTILE[1], key="k", annotation_id=HOSTILE[0], reason=HOSTILE[1], message=HOSTILE[0])
    publish_rows(f"{root}/store", [rows.slice(0, 25), rows.slice(25)], body, quarantine=[failed])
    build_site(SiteConfig(release=f"{root}/store#made", out=f"{root}/site", pictures=0), quiet())
    return root / "site", rows


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1280px", "390px"])
def test_every_view_is_there_and_nothing_is_wider_than_the_screen(two_releases, chromium, size):
    folder, (_, new) = two_releases
    wanted = {
        "#card": (new.digest[:12], "How to cite it", "virtual camera", "pyarrow", "6 persons"),
        "#quality": ("Good: most persons above 0.5", "Drawn in advance", "Nothing: everybody"),
        "#gallery": ("6 persons", "Order"),
        "#compare": ("Who is in which", "Changed", "What changed most"),
        "#person/nobody/1": ("Not on this page",),
    }
    with visit(chromium, folder, size=size) as page:
        for view, texts in wanted.items():
            go(page, view)
            text = page.inner_text("main")
            assert all(t in text for t in texts), (view, text)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert page.locator("main h1").count() == 1 and "undefined" not in text and "false" not in text


def test_it_opens_from_s3_without_a_server(two_releases, chromium, s3_url, s3_server):
    """Objects come with the types that a browser wants: a page of octets would be downloaded."""
    (site, _), store, bucket = two_releases, Store(s3_url), s3_url.split("/")[2]
    client = boto3.client("s3", endpoint_url=s3_server)
    for path in (path for path in site.rglob("*") if path.is_file()):
        key = path.relative_to(site).as_posix()
        store.create(key, path.read_bytes())
        client.put_object_acl(Bucket=bucket, Key=f"root/{key}", ACL="public-read")
    page = chromium.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{s3_server}/{bucket}/root/index.html#gallery")
    page.wait_for_function("document.getElementById('main').dataset.ready === '#gallery'")
    page.wait_for_selector(".card")
    assert not errors
    page.close()


def test_a_visitor_goes_from_the_gallery_to_a_person_and_on(two_releases, chromium):
    folder, _ = two_releases
    with visit(chromium, folder, "#gallery") as page:
        ids = shown_ids(page)
        assert len(ids) == 6
        page.locator(".card a").first.click()
        arrived(page, "person", ids[0])
        assert "1 of 6" in page.inner_text(".steps")
        for view in ("From the side", "Turn it yourself", "From the camera", "Wireframe", "Marked joints"):
            page.get_by_role("button", name=view).click()
        assert page.locator(".marks circle").count() == 17 and page.locator(".marks").is_visible()
        assert page.locator(".canvas canvas").is_visible()
        page.get_by_label("Next person").click()
        arrived(page, "person", ids[1])
        page.locator("h1").click()
        page.keyboard.press("ArrowRight")
        arrived(page, "person", ids[2])
        link = page.url
        page.keyboard.press("Escape")
        page.wait_for_function("document.getElementById('main').dataset.ready === '#gallery'")
        page.goto("about:blank")
        page.goto(link)
        arrived(page, "person", ids[2])


def test_side_by_side_lists_whom_the_difference_lists_furthest_first(two_releases, chromium):
    folder, (old, new) = two_releases
    rows = pa.concat_tables(diff_rows(new, old, open_bodies(new, old)))
    rows = rows.filter(pa.array([change == CHANGED for change in rows["change"].to_pylist()])).sort_by([("mm", "descending")])
    assert len(rows) == 6
    with visit(chromium, folder, "#compare") as page:
        assert shown_ids(page) == rows["annotation_id"].to_pylist()
        figures = [float(text.split()[0]) for text in page.locator(".grid .score").all_text_contents()]
        np.testing.assert_allclose(figures, rows["mm"].to_numpy(), rtol=0.01)
        page.locator(".card a").first.click()
        arrived(page, "compare", rows["annotation_id"][0].as_py())
        assert page.locator(".pair .thumb").count() == 2 and "Change" in page.inner_text(".figures")
        for name in ("This release", "The other", "This release"):
            page.get_by_role("button", name=name, exact=True).click()


def test_search_filters_and_orders_find_what_numpy_finds(numbers, chromium):
    folder, rows = numbers
    ids, keys, score = rows["annotation_id"].to_pylist(), rows["key"].to_pylist(), rows["score"].to_numpy()
    flip, dataset = rows["flip_disagreement"].to_numpy(), np.array(rows["dataset"].to_pylist())
    with visit(chromium, folder, "#gallery", size=(1280, 3000)) as page:
        assert sorted(shown_ids(page)) == sorted(ids)
        page.get_by_label("Search").fill("PHOTO_01 person")
        wanted = [i for i in range(60) if "photo_01" in keys[i] and "person" in ids[i]]
        page.wait_for_function(f"document.querySelector('.found').textContent.startsWith('{len(wanted)} of')")
        assert sorted(shown_ids(page)) == sorted(ids[i] for i in wanted)
        page.get_by_label("Search").fill("")
        page.locator("#score-low").fill("0.3")
        page.locator("#score-high").fill("0.8")
        page.locator("#dataset").select_option("__proto__")
        page.locator("#order").select_option("flip_disagreement:down")
        mine = np.flatnonzero((score >= np.float32(0.3)) & (score <= np.float32(0.8)) & (dataset == "__proto__"))
        page.wait_for_function(f"document.querySelector('.found').textContent.startsWith('{len(mine)} of')")
        known = mine[~np.isnan(flip[mine])]
        found = shown_ids(page)
        assert len(known) >= 3 and [flip[ids.index(i)] for i in found[: len(known)]] == sorted(flip[known], reverse=True)
        assert sorted(found) == sorted(ids[i] for i in mine)


def test_hostile_names_stay_text(numbers, chromium):
    folder, rows = numbers
    with visit(chromium, folder, "#quality") as page:
        assert HOSTILE[0] in page.locator("main").text_content()
        for i, name in enumerate(HOSTILE):
            view = page.evaluate("([key, id]) => PSEUDOGT.persons.link('person', key, id)", [rows["key"][i].as_py(), name])
            page.evaluate("view => { location.hash = view }", view)
            arrived(page, "person", name)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("window.hacked") is None and page.locator("main script, main b:has-text('bold')").count() == 0


def test_of_a_licensed_body_the_persons_drawn_in_advance_can_be_turned(tmp_path, real_data, chromium):
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").symlink_to(real_data / "open_body" / "smpl_schema_6890.npz")
    config = BodyConfig(kind="smpl", smpl_dir=str(tmp_path))
    publish_rows(f"{tmp_path}/store", [make_rows([("p", str(i)) for i in range(4)], transl=(0, 0, 40))], load_body(config))
    build_site(SiteConfig(release=f"{tmp_path}/store#made", out=f"{tmp_path}/site", pictures=3, body=config), quiet())
    with visit(chromium, tmp_path / "site", "#gallery") as page:
        turned = page.evaluate("PSEUDOGT.load('release').then(site => site.drawn.map(drawn => drawn[1]))")
        for place, person in enumerate(shown_ids(page)):
            go(page, f"#person/p/{person}")
            assert page.locator(".canvas canvas").count() == (place in turned)
            assert ("may not be published" in page.inner_text(".hint")) == (place not in turned)


@pytest.mark.slow
def test_ten_thousand_persons_scroll_with_few_cards_in_the_page(tmp_path, body, chromium):
    names = [(f"photo_{i // 2:05d}", str(i)) for i in range(12_000)]
    shards = [make_rows(names[i : i + 1000], seed=i) for i in range(0, 12_000, 1000)]
    publish_rows(f"{tmp_path}/store", shards, body)
    build_site(SiteConfig(release=f"{tmp_path}/store#made", out=f"{tmp_path}/site", pictures=0), quiet())
    score = np.concatenate([rows["score"].to_numpy() for rows in shards])
    with visit(chromium, tmp_path / "site", "#gallery") as page:
        assert "10,000 of the release's 12,000 persons" in page.inner_text("main") and "10,000 persons" in page.inner_text(".found")
        page.locator("#order").select_option("score:up")
        most, seen = 0, set()
        height = page.evaluate("document.documentElement.scrollHeight")
        for place in np.linspace(0, height, 25):
            page.evaluate("y => new Promise(done => { scrollTo(0, y); setTimeout(() => requestAnimationFrame(done), 30); })", float(place))
            cards = page.locator(".grid .score").all_text_contents()
            assert cards == sorted(cards)
            most, seen = max(most, len(cards)), seen | set(shown_ids(page))
        assert 20 < most < 120 and len(seen) > 500
        assert page.evaluate("document.querySelectorAll('*').length") < 1500
        assert cards[-1] == f"{score.max():.2f}"
