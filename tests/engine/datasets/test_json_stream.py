"""JSON read as a stream: what json.loads reads, whatever lies at the buffer's edges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets import json_stream
from engine.datasets.json_stream import array_items, arrays, leaves, top_level
from engine.errors import MissingInput, RawDataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def _tiny_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few characters an edge."""
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 5)


def _file(folder: Path, content: Any, **options: Any) -> Path:
    path = folder / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, **options))
    return path


@settings(max_examples=60, deadline=None)
@given(images=st.lists(VALUES, max_size=5), others=st.dictionaries(st.text(max_size=3), VALUES, max_size=3), ascii_only=st.booleans())
def test_arrays_are_those_of_the_whole_file(tmp_path_factory: Any, images: list, others: dict, ascii_only: bool) -> None:
    path = _file(tmp_path_factory.mktemp("json"), {**others, "the images": images}, ensure_ascii=ascii_only, indent=1)
    assert list(array_items(path, "the images")) == images
    path.write_text(json.dumps(images))
    assert list(array_items(path, None)) == images


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=3))
def test_leaves_come_with_their_keys(tmp_path_factory: Any, content: dict) -> None:
    path = _file(tmp_path_factory.mktemp("json"), content)
    assert list(leaves(path, 2)) == [((a, b), value) for a, inner in content.items() for b, value in inner.items()]


def test_several_arrays_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, {"annotations": [1, 2], "info": {"deep": [[{}]]}, "images": [3]})
    assert list(arrays(path, ("images", "annotations"))) == [("annotations", 1), ("annotations", 2), ("images", 3)]
    assert top_level(path) == {"annotations": "[", "info": "{", "images": "["}


def test_numbers_that_are_not_finite_are_read(tmp_path: Path) -> None:
    a, b, c = array_items(_file(tmp_path, '{"x": [NaN, Infinity, -Infinity]}'), "x")
    assert math.isnan(a) and (b, c) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    "content",
    [
        '{"x": [1, 2',
        '{"x": [1, 2]',
        '{"x": [1 2]}',
        '{"x": [{"a": 1}, {"a"',
        '{"x": 5}',
        "",
        "<html>",
        '{"x": [%s]}' % ("9" * 5000),
        '{"y": []}',
        '{"x": []} 1',
    ],
)
def test_damage_is_named_with_the_file(tmp_path: Path, content: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(RawDataError, match=r"a\.json"):
        list(array_items(path, "x"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"x": ["\xff\xfe"]}')
    with pytest.raises(RawDataError, match="UTF-8"):
        list(array_items(path, "x"))
    with pytest.raises(MissingInput):
        list(array_items(tmp_path / "none.json", "x"))


def test_an_endless_element_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_CHARS", 50)
    with pytest.raises(RawDataError, match="longer than"):
        list(array_items(_file(tmp_path, {"x": ["y" * 200]}), "x"))
