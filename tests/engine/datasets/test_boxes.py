"""Boxes files: three forms of the same persons, and what odd entries and damaged files cost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.datasets.base import SkippedInstances
from engine.datasets.boxes import BoxedPerson, read_boxes
from engine.errors import RawDataError
from schemas.skeletons import COCO17

FLAT = [v for i in range(17) for v in (10.0 + i, 20.0 + i, i % 3)]
TRIPLES = [FLAT[i : i + 3] for i in range(0, 51, 3)]


def _read(path: Path, content: Any) -> list[BoxedPerson | SkippedInstances]:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(read_boxes(path, COCO17))


def _reasons(found: list[BoxedPerson | SkippedInstances]) -> Counter[str]:
    return Counter(item.reason for item in found if isinstance(item, SkippedInstances))


def test_the_three_forms_say_the_same(tmp_path: Path) -> None:
    annotation = {"id": "anna", "image_id": 7, "bbox": [1, 2, 30, 40]}
    (coco,) = _read(tmp_path / "a.json", {"images": [{"id": 7, "file_name": "a/b.jpg"}], "annotations": [annotation]})
    (short,) = _read(tmp_path / "b.json", {"a/b.jpg": [{"id": "anna", "bbox": [1, 2, 30, 40]}]})
    (table,) = _read(tmp_path / "c.csv", "\ufeffid,image,x,y,width,height\r\nanna,a/b.jpg,1,2,30,40\r\n")
    assert coco == short == table
    assert isinstance(coco, BoxedPerson) and coco[:3] == ("a/b.jpg", "anna", (1, 2, 30, 40)) and not any(coco.joints.valid)


def test_keypoints_flat_or_as_triples_or_by_the_names_of_the_category(tmp_path: Path) -> None:
    def coco(given: Any, **category: Any) -> Any:
        images = [{"id": 7, "file_name": "b.jpg", "width": 64, "height": 48}]
        annotations = [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "keypoints": given}]
        content = {"images": images, "annotations": annotations}
        return content | ({"categories": [{"id": 1, "name": "person", **category}]} if category else {})

    found = [
        *_read(
            tmp_path / "a.json", {"b.jpg": [{"bbox": [1, 2, 30, 40], "keypoints": FLAT}, {"bbox": [1, 2, 30, 40], "keypoints": TRIPLES}]}
        ),
        *_read(tmp_path / "b.json", coco(FLAT)),
        *_read(tmp_path / "c.json", coco(FLAT, keypoints=[])),
        *_read(tmp_path / "e.json", coco(FLAT, keypoints=True)),
    ]
    for person in found:
        assert isinstance(person, BoxedPerson)
        assert list(person.joints.valid) == [i % 3 > 0 for i in range(17)]
        assert [tuple(place) for place in person.joints.places] == [(10 + i, 20 + i) if i % 3 else (0, 0) for i in range(17)]
    assert isinstance(found[2], BoxedPerson) and found[2].size_wh == (64, 48)
    (person,) = _read(tmp_path / "d.json", coco([5, 6, 2, 7, 8, 2], keypoints=["right_wrist", "nose"]))
    assert isinstance(person, BoxedPerson)
    there = {name: tuple(place) for name, place, ok in zip(COCO17.joints, *person.joints, strict=True) if ok}
    assert there == {"R_Wrist": (5, 6), "Nose": (7, 8)}


def test_odd_entries_cost_themselves(tmp_path: Path) -> None:
    box = [1, 2, 30, 40]
    good = {"image_id": 7, "bbox": box, "category_id": 1}
    odd = [{"bbox": box[:3]}, {"bbox": None}, {"bbox": ["a"] * 4}, {"bbox": [float("nan"), 2, 3, 4]}, {"keypoints": FLAT[:-1]}, {"id": [1]}]
    annotations = [good, *({**good, **change} for change in odd), 5, {"bbox": box, "category_id": 1}]
    annotations += [good | {"iscrowd": 1}, good | {"category_id": 2}, good | {"image_id": 8}, good | {"image_id": 9}]
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9}, None]
    categories = [{"id": 1, "name": "Person"}, {"id": 2, "name": "dog"}]
    found = _read(tmp_path / "a.json", {"images": images, "annotations": annotations, "categories": categories})
    assert _reasons(found) == {"invalid_annotation": 8, "crowd": 1, "other_category": 1, "unknown_image": 2}
    assert [p.id for p in found if isinstance(p, BoxedPerson)] == ["1"]
    found = _read(tmp_path / "b.json", {"a.jpg": [{"bbox": box}, *odd, "x"], "b.jpg": [], "": [{"bbox": box}]})
    assert _reasons(found) == {"invalid_annotation": 8} and len(found) == 9
    found = _read(tmp_path / "c.csv", "image,x,y,width,height\na.jpg,1,2,3\na.jpg,1,2,3,x\na.jpg,1,2,3,inf\n,1,2,3,4\na.jpg,1,2,3,4,5\n")
    assert _reasons(found) == {"invalid_annotation": 4} and isinstance(found[-1], BoxedPerson) and found[-1].id == "5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "expected a boxes file, .json or .csv"),
        ("a.json", "[]", "expected an object with the arrays images and annotations"),
        ("a.json", '{"a.jpg": {"bbox": [1, 2, 3, 4]}}', "expected an object"),
        ("a.json", '{"a.jpg": [{"bbox": [1, 2, 3', "expected JSON"),
        ("a.csv", "a.jpg,1,2,3,4\n", "expected the columns image, x, y, width, height in its first line, found no image, x, y"),
        ("a.csv", "", "expected the columns"),
        ("a.csv", "image,x,y,width,height\n" + "1" * 70_000, "a line has more than 65536 characters"),
    ],
)
def test_a_file_of_no_form_says_what_was_expected(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(RawDataError, match=message):
        _read(tmp_path / name, content)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    for name in ("a.csv", "a.json"):
        (tmp_path / name).write_bytes(b"image,x,y,width,height\n\xff\xfe,1,2,3,4\n")
        with pytest.raises(RawDataError, match="expected"):
            list(read_boxes(tmp_path / name, COCO17))
