"""Person crops: what is kept of a photograph, that it lies where it says, and that everybody is accounted for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.datasets.base import DatasetConfig
from engine.errors import CommitConflict, SampleRejected
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.person_crops import PersonCropConfig, in_photograph, person_crops, person_window
from engine.shards.reader import open_shard_set, read_samples
from schemas.sample import Instance, Sample
from schemas.skeletons import SKELETONS


def _samples(url: str) -> list[tuple[Sample, bytes]]:
    shard_set = open_shard_set(url)
    return [pair for entry in shard_set.manifest.shards for pair in read_samples(shard_set.fetch(entry), entry)]


def _person(number: int, bbox: tuple[float, float, float, float]) -> Instance:
    joints = len(SKELETONS["coco17"])
    return Instance(
        annotation_id=str(number), bbox_xywh=bbox, skeleton="coco17", joints_img=((1.0, 2.0),) * joints, joints_valid=(True,) * joints
    )


def _photograph(wh: tuple[int, int], *boxes: tuple[float, float, float, float]) -> tuple[Sample, bytes, np.ndarray]:
    """A smooth photograph with persons in it; its pixels as PIL decodes them."""
    coarse = np.random.default_rng(5).integers(0, 256, (5, 7, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(wh, Image.Resampling.BICUBIC).save(out, "JPEG", quality=95)
    persons = tuple(_person(i, box) for i, box in enumerate(boxes))
    sample = Sample(key="k", dataset="coco", image_path="k.jpg", width=wh[0], height=wh[1], instances=persons)
    return sample, out.getvalue(), np.asarray(Image.open(io.BytesIO(out.getvalue())))


@given(
    st.tuples(st.floats(-50, 500), st.floats(-50, 400), st.floats(1, 700), st.floats(1, 600)),
    st.tuples(st.integers(20, 700), st.integers(20, 500)),
    st.floats(1.8, 4),
    st.one_of(st.none(), st.integers(64, 400)),
)
def test_a_window_keeps_the_square_about_its_person_as_far_as_there_is_a_photograph(bbox, wh, margin, largest) -> None:
    config = PersonCropConfig(margin=margin, max_person_px=largest)
    x, y, w, h = bbox
    if x + w <= 0 or y + h <= 0 or x >= wh[0] or y >= wh[1]:
        with pytest.raises(SampleRejected, match="misses the photograph"):
            person_window(bbox, wh, config)
        return
    window = person_window(bbox, wh, config)
    size = max(h, 4 / 3 * w)
    for start, length, low, extent, whole in ((x, w, window.left, window.width, wh[0]), (y, h, window.top, window.height, wh[1])):
        centre, reach = start + length / 2, margin * size / 2
        assert low <= max(0, centre - reach) + 1e-6 and low + extent >= min(whole, centre + reach) - 1e-6
        assert low >= 0 and low + extent <= whole
    zoom = 1 if largest is None else min(1, largest / size)
    assert abs(window.stored_width - zoom * window.width) <= 1 and abs(window.stored_height - zoom * window.height) <= 1


def test_a_crop_lies_where_its_window_says() -> None:
    sample, image, pixels = _photograph((400, 300), (150, 100, 40, 60), (20, 30, 150, 250), (-30, 250, 80, 90))
    found = person_crops(sample, image, PersonCropConfig(max_person_px=100, quality=95))
    assert [crop.key for crop, _, _ in found.crops] == ["k-0", "k-1", "k-2"] and not found.quarantine
    for (crop, data, extension), person in zip(found.crops, sample.instances, strict=True):
        assert crop.instances == (person,) and (crop.width, crop.height, extension) == (400, 300, "jpg")
        stored = np.asarray(Image.open(io.BytesIO(data)))
        assert stored.shape == (*crop.stored_wh[::-1], 3)
        w = crop.window
        whole = in_photograph(stored, crop)
        inside = (slice(w.top, w.top + w.height), slice(w.left, w.left + w.width))
        assert whole.shape == pixels.shape and np.abs(whole[inside].astype(int) - pixels[inside]).mean() < 2.5
        whole[inside] = 0
        assert not whole.any()
    small, large = (crop.window for crop, _, _ in found.crops[:2])
    assert small.step == (1, 1) and large.step == pytest.approx((2.5, 2.5), rel=0.01)


def test_a_person_outside_the_photograph_is_quarantined_alone() -> None:
    sample, image, _ = _photograph((100, 80), (10, 10, 20, 30), (200, 10, 20, 30))
    found = person_crops(sample, image, PersonCropConfig())
    assert [crop.key for crop, _, _ in found.crops] == ["k-0"]
    (row,) = found.quarantine
    assert (row.key, row.annotation_id, row.reason, row.instances) == ("k", "1", "degenerate_box", 1)


def test_ingest_accounts_for_every_person_and_gives_the_same_bytes(coco, ingest_config, encode, tmp_path: Path) -> None:
    root = coco(5, persons=3)
    (root / "tiny/001.jpg").write_bytes(encode()[:-100])
    first = ingest(ingest_config(root, out="a", person_crops=PersonCropConfig()))
    second = ingest(ingest_config(root, out=f"memory://person-crops-{tmp_path.name}", person_crops=PersonCropConfig()))
    assert first.digest() == second.digest()
    assert (first.samples, first.instances, first.found_instances, first.quarantined) == (12, 12, 15, {"image_undecodable": 3})
    found = _samples(str(tmp_path / "a"))
    assert [sample.key for sample, _ in found] == [f"{i:03d}-{p}" for i in (0, 2, 3, 4) for p in range(3)]
    assert [sample.instances[0].annotation_id for sample, _ in found] == [str(100 * i + p) for i in (0, 2, 3, 4) for p in range(3)]


def test_crops_are_another_shard_set_than_photographs(coco, ingest_config) -> None:
    root = coco()
    ingest(ingest_config(root, person_crops=PersonCropConfig()))
    for other in (None, PersonCropConfig(margin=2.5), PersonCropConfig(quality=90)):
        with pytest.raises(CommitConflict, match="another config"):
            ingest(ingest_config(root, person_crops=other))


def test_a_dataset_that_annotates_beyond_the_photograph_loses_no_one(coco, ingest_config, tmp_path: Path) -> None:
    root = coco(1, persons=1)
    path = root / "annotations/person_keypoints_tiny.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [-20, -10, 90, 60]
    path.write_text(json.dumps(content))
    assert ingest(ingest_config(root, person_crops=PersonCropConfig())).instances == 1
    ((sample, image),) = _samples(str(tmp_path / "out"))
    assert (sample.window.left, sample.window.top, sample.window.width, sample.window.height) == (0, 0, 48, 32)
    assert Image.open(io.BytesIO(image)).size == sample.stored_wh


def test_real_coco(real_data: Path, tmp_path: Path) -> None:
    dataset = DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017")
    manifest = ingest(IngestConfig(dataset=dataset, out=str(tmp_path), samples_per_shard=20, person_crops=PersonCropConfig(), workers=0))
    assert (manifest.found_instances, manifest.samples, manifest.instances) == (172, 86, 86)
    assert (manifest.skipped, manifest.quarantined) == ({"crowd": 5, "no_keypoints": 81}, {})
    for sample, image in _samples(str(tmp_path)):
        assert Image.open(io.BytesIO(image)).size == sample.stored_wh
