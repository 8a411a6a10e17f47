"""The catalogue: everybody added comes back once, sorted and joined, or is in the quarantine with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.datasets.base import ImageFile, ImageSlice, ImageSource, RawItem, SkippedInstances, Unreadable, VideoFrame
from engine.errors import StorageError
from engine.shards.catalogue import Catalogue, chunks, open_catalogue
from engine.shards.picture import Picture, Source
from schemas.sample import Instance

ROOT = Path("/data/set")


def _person(annotation_id: str, x: float = 1.5) -> Instance:
    joints = ((1.0, 2.0),) * 17
    return Instance(annotation_id=annotation_id, bbox_xywh=(x, 2, 3, 4), skeleton="coco17", joints_img=joints, joints_valid=(True,) * 17)


def _item(key: str, *ids: str, path: str | None = None, size: tuple[int | None, int | None] = (64, 48), **fields) -> RawItem:
    image_path = path or f"{key}.jpg"
    values = {"image": ImageFile(ROOT / image_path), "width": size[0], "height": size[1]} | fields
    return RawItem(key=key, image_path=image_path, instances=tuple(map(_person, ids)), **values)


def _read(*found) -> tuple[list[Picture], Catalogue]:
    with open_catalogue("set", ROOT, None) as catalogue:
        for one in found:
            catalogue.add(one)
        catalogue.sort()
        pictures = list(catalogue.pictures())
        assert catalogue.images() >= len(pictures)
    return pictures, catalogue


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x/", "y/"]), st.integers(0, 3), st.booleans()), max_size=30),
    st.randoms(use_true_random=False),
)
def test_everybody_comes_back_once_or_is_condemned(rows: list[tuple[str, str, int, bool]], random) -> None:
    found = [_item(key, str(n), path=f"{folder}{key}.jpg", size=(64, 48) if known else (None, None)) for key, folder, n, known in rows]
    pictures, catalogue = _read(*found)
    kept = [(p.image_path, person.annotation_id) for p in pictures for person in p.persons]
    condemned = sum(row.instances for row in catalogue.quarantine)
    assert len(kept) == len(set(kept)) and len(kept) + condemned == catalogue.found == len(rows)
    assert {row.reason for row in catalogue.quarantine} <= {"duplicate_id", "contradictory_image"}
    assert {p.image_path for p in pictures} == {item.image_path for item in found}
    keys = [p.key for p in pictures]
    assert len(keys) == len(set(keys)) and [key[:1] for key in keys] == sorted(key[:1] for key in keys)
    random.shuffle(found)
    assert {(p.key, p.image_path) for p in _read(*found)[0]} == {(p.key, p.image_path) for p in pictures}


def test_persons_of_one_key_are_joined_in_the_order_they_came() -> None:
    pictures, catalogue = _read(_item("b", "9"), _item("a", "5", "6"), _item("b", "1"), _item("c"), _item("b", "7"))
    assert [(p.key, [person.annotation_id for person in p.persons]) for p in pictures] == [("a", ["5", "6"]), ("b", ["9", "1", "7"])]
    assert (catalogue.found, catalogue.quarantine) == (5, [])
    assert pictures[0].persons[0].bbox_xywh == (1.5, 2.0, 3.0, 4.0)
    assert Instance.model_validate_json(pictures[0].persons[0].json) == _person("5")


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (ImageFile(ROOT / "d/a.jpg"), Source("file", "d/a.jpg")),
        (ImageSlice(ROOT / "x.tfrecord", 1 << 40, 7), Source("slice", "x.tfrecord", 1 << 40, 7)),
        (VideoFrame(ROOT / "v.mp4", 12), Source("frame", "v.mp4", 12)),
        (ImageFile(Path("/elsewhere/a.jpg")), Source("file", "/elsewhere/a.jpg")),
    ],
)
def test_every_kind_of_source_comes_back(image: ImageSource, source: Source) -> None:
    ((picture,), _) = _read(_item("a", "1", image=image, size=(None, None)))
    assert (picture.source, picture.annotated_wh) == (source, None)
    assert source.below(str(ROOT)) == str(image.path)


def test_what_contradicts_is_condemned_person_by_person() -> None:
    moved = _item("a", "4", image=ImageFile(ROOT / "elsewhere.jpg"))
    pictures, catalogue = _read(_item("a", "1"), _item("a", "2", size=(640, 480)), moved, _item("a", "1"), _item("a", "3"))
    assert [person.annotation_id for p in pictures for person in p.persons] == ["1", "3"]
    assert [(row.reason, row.annotation_id, row.key) for row in catalogue.quarantine] == [
        ("contradictory_image", "2", "a"),
        ("contradictory_image", "4", "a"),
        ("duplicate_id", "1", "a"),
    ]
    assert "expected the image a.jpg of 64x48 px" in catalogue.quarantine[0].message and "640x480" in catalogue.quarantine[0].message


def test_images_of_one_name_in_two_folders_are_two_images() -> None:
    long = "k" * 90
    pictures, catalogue = _read(
        _item("a", "1", path="y/a.jpg"), _item("a", "1", path="x/a.jpg"), *(_item(long, "1", path=f"{p}.jpg") for p in "xy")
    )
    (first, second, third, fourth) = pictures
    assert [p.image_path for p in pictures] == ["x/a.jpg", "y/a.jpg", "x.jpg", "y.jpg"] and not catalogue.quarantine
    assert first.key == "a" and second.key.startswith("a-") and len(second.key) == 14
    assert third.key == long and len(fourth.key) == 90
    taken = _item(second.key, "1")
    _, catalogue = _read(_item("a", "1", path="y/a.jpg"), _item("a", "1", path="x/a.jpg"), taken)
    assert [(row.reason, row.instances) for row in catalogue.quarantine] == [("ambiguous_key", 1)]


@pytest.mark.parametrize(
    "item",
    [
        _item("../a", "1", "2"),
        _item("", "1", "2"),
        _item("k" * 91, "1", "2"),
        _item("a", "1", "2", path="\ud800.jpg"),
        _item("é", "1", "2"),
    ],
)
def test_names_that_cannot_be_stored_cost_their_image(item: RawItem) -> None:
    pictures, catalogue = _read(item, _item("b", "1"))
    assert [p.key for p in pictures] == ["b"]
    assert [(row.reason, row.instances) for row in catalogue.quarantine] == [("invalid_name", 2)]
    assert catalogue.quarantine[0].to_bytes()


@pytest.mark.parametrize(
    "fields",
    [{"size": (10**400, 48)}, {"size": (64, -1)}, {"image": VideoFrame(ROOT / "a.mp4", 1 << 63)}],
    ids=["size", "negative", "frame"],
)
def test_numbers_that_no_image_has_cost_their_image(fields: dict) -> None:
    pictures, catalogue = _read(_item("a", "1", "2", **fields), _item("b", "3"))
    assert [p.key for p in pictures] == ["b"] and catalogue.found == 3
    (row,) = catalogue.quarantine
    assert (row.key, row.reason, row.instances) == ("a", "invalid_image", 2) and len(row.message) <= 300


def test_what_loaders_rule_out_is_counted() -> None:
    _, catalogue = _read(SkippedInstances("crowd", 3), SkippedInstances("crowd"), Unreadable("seq-1", "annotation_unreadable", "cut", 5))
    assert (catalogue.found, dict(catalogue.skipped)) == (9, {"crowd": 4})
    (row,) = catalogue.quarantine
    assert (row.key, row.reason, row.message, row.instances) == ("seq-1", "annotation_unreadable", "cut", 5)


def test_no_sample_outgrows_what_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.shards.catalogue._MOST_JSON", 2500)
    ((picture,), catalogue) = _read(*(_item("a", str(i)) for i in range(9)))
    assert len(picture.persons) + len(catalogue.quarantine) == 9 and {row.reason for row in catalogue.quarantine} == {"too_many_persons"}
    assert sum(len(person.json) for person in picture.persons) <= 2500


def test_chunks_are_runs_in_the_order_of_keys() -> None:
    pictures, _ = _read(*(_item(f"{i:02d}", "1") for i in range(7)), _item("00", "1", path="other/00.jpg"), _item("00-0", "1"))
    found = [[p.key for p in chunk] for chunk in chunks(pictures, 4)]
    assert [len(keys) for keys in found] == [4, 4, 1]
    assert all(keys == sorted(keys) for keys in found)


def test_a_catalogue_leaves_nothing_and_names_a_full_disk(tmp_path: Path) -> None:
    with open_catalogue("set", ROOT, str(tmp_path / "new")) as catalogue:
        catalogue.add(_item("a", "1"))
        catalogue.sort()
        assert list((tmp_path / "new").iterdir())
    assert not list((tmp_path / "new").iterdir())
    message = r"the catalogue of the annotations cannot be kept: .*`staging`"
    with pytest.raises(StorageError, match=message), open_catalogue("set", ROOT, str(tmp_path)) as catalogue:
        catalogue._database.execute("PRAGMA max_page_count = 20")
        for i in range(4000):
            catalogue.add(_item(f"{i}", "1"))
