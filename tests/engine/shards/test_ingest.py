"""Ingest: everybody is accounted for, bytes are the same on every way there, and a finished shard set is left alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.datasets.base import DatasetConfig
from engine.errors import CommitConflict, RawDataError
from engine.shards.images import ImageConfig
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.storage import Store
from schemas.sample import Sample


def _samples(url: str) -> list[tuple[Sample, bytes]]:
    shard_set = open_shard_set(url)
    return [pair for entry in shard_set.manifest.shards for pair in read_samples(shard_set.fetch(entry), entry)]


def test_a_sample_is_its_annotation_and_its_file_s_bytes(coco, ingest_config) -> None:
    root = coco(5)
    config = ingest_config(root)
    manifest = ingest(config)
    assert (manifest.samples, manifest.instances, [s.samples for s in manifest.shards]) == (5, 10, [2, 2, 1])
    assert (manifest.dataset, manifest.split, manifest.supervision) == ("coco", "tiny", "itw2d")
    for i, (sample, image) in enumerate(_samples(config.out)):
        assert (sample.key, sample.width, sample.height, sample.image_path) == (f"{i:03d}", 48, 32, f"tiny/{i:03d}.jpg")
        assert [p.annotation_id for p in sample.instances] == [str(100 * i), str(100 * i + 1)]
        assert image == (root / f"tiny/{i:03d}.jpg").read_bytes()


def test_broken_images_are_quarantined_with_all_their_persons(coco, ingest_config, encode) -> None:
    root = coco(8, persons=3)
    (root / "tiny/000.jpg").write_bytes(encode()[:-100])
    (root / "tiny/002.jpg").unlink()
    (root / "tiny/003.jpg").write_bytes(encode(kind="GIF"))
    (root / "tiny/004.jpg").write_bytes(encode((50, 50)))
    (root / "tiny/005.jpg").write_bytes(b"")
    (root / "tiny/006.jpg").unlink()
    (root / "tiny/006.jpg").mkdir()
    manifest = ingest(ingest_config(root))
    assert {row.key: row.reason for row in manifest.quarantine} == {
        "000": "image_undecodable",
        "002": "image_missing",
        "003": "unsupported_format",
        "004": "size_mismatch",
        "005": "image_empty",
        "006": "image_unreadable",
    }
    assert all(row.instances == 3 and row.annotation_id is None and f"tiny/{row.key}.jpg: " in row.message for row in manifest.quarantine)
    assert (manifest.found_instances, manifest.instances, sum(manifest.quarantined.values())) == (24, 6, 18)
    assert [entry.path for entry in manifest.shards] == ["shards/000000.tar", "shards/000003.tar"]


@pytest.mark.parametrize(("annotated", "shown"), [((32, 48), "upright"), ((48, 32), "stored")])
def test_a_box_stays_on_its_person_whatever_the_orientation(coco, ingest_config, annotated, shown) -> None:
    """A white square on black, annotated in the frame the annotators saw."""
    root = coco(1, persons=1)
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[4:12, 30:40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "tiny/000.jpg", exif=exif, quality=95)
    seen = Image.open(root / "tiny/000.jpg")
    mask = np.asarray((ImageOps.exif_transpose(seen) if shown == "upright" else seen).convert("L")) > 128
    y, x = np.nonzero(mask)
    path = root / "annotations/person_keypoints_tiny.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": annotated[0], "height": annotated[1]}
    content["annotations"][0]["bbox"] = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
    path.write_text(json.dumps(content))
    config = ingest_config(root)
    ingest(config)
    ((sample, image),) = _samples(config.out)
    left, top, width, height = (int(v) for v in sample.instances[0].bbox_xywh)
    stored = np.asarray(Image.open(io.BytesIO(image)).convert("L")) > 128
    assert stored.shape == (sample.height, sample.width) == annotated[::-1]
    assert stored[top : top + height, left : left + width].all()
    assert stored.sum() == width * height
    assert sample.exif_orientation == (6 if shown == "upright" else 1)


def test_two_runs_with_other_workers_and_places_give_the_same_bytes(coco, ingest_config, tmp_path: Path) -> None:
    root = coco()
    first = ingest(ingest_config(root, out="a", workers=1))
    root.rename(tmp_path / "moved")
    second = ingest(ingest_config(tmp_path / "moved", out=f"memory://ingest-{tmp_path.name}", workers=4))
    assert first.digest() == second.digest()
    assert [s.sha256 for s in first.shards] == [s.sha256 for s in second.shards]


def test_submitted_again_it_does_nothing(coco, ingest_config) -> None:
    root = coco()
    config = ingest_config(root)
    manifest = ingest(config)
    for image in (root / "tiny").iterdir():
        image.unlink()
    said: list[str] = []
    assert ingest(config, said.append) == manifest
    assert said == []


def test_an_interrupted_run_is_completed(coco, ingest_config) -> None:
    config = ingest_config(coco())
    whole = ingest(config)
    store = Store(config.out)
    for key in ("manifest.json", whole.shards[1].path, whole.shards[2].index_path):
        store.delete(key)
    again = ingest(config)
    assert again.digest() == whole.digest()
    assert len(_samples(config.out)) == 6


def test_another_config_or_other_annotations_are_refused(coco, ingest_config) -> None:
    root = coco()
    config = ingest_config(root)
    ingest(config)
    for other in (ingest_config(root, samples_per_shard=3), ingest_config(root, images=ImageConfig(ambiguous_orientation="upright"))):
        with pytest.raises(CommitConflict, match="another config or of other annotation files"):
            ingest(other)
    path = root / "annotations/person_keypoints_tiny.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CommitConflict, match="never overwritten"):
        ingest(config)


def test_a_half_finished_run_of_another_dataset_is_not_taken_over(coco, ingest_config, encode) -> None:
    root = coco()
    config = ingest_config(root)
    ingest(config)
    Store(config.out).delete("manifest.json")
    (root / "tiny/000.jpg").write_bytes(encode(seed=77))
    with pytest.raises(CommitConflict, match=r"000000.tar: holds other bytes"):
        ingest(config)


def test_nothing_left_is_an_error(coco, ingest_config) -> None:
    root = coco(2)
    for image in (root / "tiny").iterdir():
        image.write_bytes(b"no image")
    config = ingest_config(root)
    with pytest.raises(RawDataError, match=r"not one of 4 persons can be kept; .*'unsupported_format': 4"):
        ingest(config)
    assert not Store(config.out).exists("manifest.json")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("file_name", "000.png", "has the key 000, the same as"), ("id", 0, "two persons with one annotation id")],
)
def test_ambiguous_names_are_errors(coco, ingest_config, field: str, value, message: str) -> None:
    root = coco(2)
    path = root / "annotations/person_keypoints_tiny.json"
    content = json.loads(path.read_text())
    content["images" if field == "file_name" else "annotations"][1][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RawDataError, match=message):
        ingest(ingest_config(root))


def test_real_coco(real_data: Path, tmp_path: Path) -> None:
    config = IngestConfig(
        dataset=DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017"), out=str(tmp_path), samples_per_shard=20
    )
    manifest = ingest(config)
    assert (manifest.found_instances, manifest.instances, manifest.skipped, manifest.quarantined) == (
        172,
        86,
        {"crowd": 5, "no_keypoints": 81},
        {},
    )
    for sample, image in _samples(config.out):
        assert Image.open(io.BytesIO(image)).size == (sample.width, sample.height)
