"""What all loaders share: paths that stay inside, keys, JSON that names its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.datasets.base import DatasetConfig, SkippedInstances, make_instance, read_json, safe_key
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Instance


def test_images_stay_below_the_root(tmp_path: Path) -> None:
    dataset = open_dataset(DatasetConfig(name="coco", root=f"file://{tmp_path}", split="train2017"))
    assert dataset.image_file("a/b.jpg") == tmp_path / "a/b.jpg"
    for outside in ("/etc/passwd", "../b.jpg", "a/../../b.jpg", "a\0b", ""):
        with pytest.raises(UnsafeInput, match="outside the dataset's root"):
            dataset.image_file(outside)
    with pytest.raises(MissingInput, match="not a folder"):
        open_dataset(DatasetConfig(name="coco", root=str(tmp_path / "none"), split="train2017"))
    with pytest.raises(ConfigError, match="copy or mount"):
        open_dataset(DatasetConfig(name="coco", root="s3://bucket/coco", split="train2017"))


def test_json_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ("{", "<html>", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(RawDataError, match=r"a\.json: expected JSON"):
            read_json(path)
    for unreadable in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(MissingInput, match="cannot be read"):
            read_json(unreadable)


def test_keys_are_plain_or_the_fallback() -> None:
    assert [safe_key(name, "7") for name in ("im_01-a", "a b", "ä", "", "x" * 91)] == ["im_01-a", "7", "7", "7", "7"]


def test_odd_numbers_cost_their_person() -> None:
    fields = {
        "annotation_id": "1",
        "bbox_xywh": (0, 0, 9, 9),
        "skeleton": "lsp14",
        "joints_img": ((1, 2),) * 14,
        "joints_valid": (True,) * 14,
    }
    assert isinstance(make_instance(**fields), Instance)
    for change in (
        {"bbox_xywh": (0, 0, float("nan"), 9)},
        {"bbox_xywh": (0, 0, 0, 9)},
        {"joints_img": ((1, 2),) * 13},
        {"annotation_id": ""},
    ):
        assert make_instance(**(fields | change)) == SkippedInstances("invalid_annotation")
