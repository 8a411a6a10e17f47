"""Ingest: everybody is accounted for, bytes are the same on every way there, and a finished shard set is left alone."""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine import faults
from engine.datasets.base import (
    DatasetConfig,
    Found,
    ImageFile,
    ImageSlice,
    RawDataset,
    RawItem,
    SkippedInstances,
    Unreadable,
    VideoFrame,
)
from engine.datasets.registry import DATASETS
from engine.errors import CommitConflict, MissingInput, RawDataError
from engine.shards.dry_run import count_ingest
from engine.shards.images import ImageConfig
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.person_crops import PersonCropConfig
from engine.shards.reader import open_shard_set, read_samples
from engine.shards.shard_job import ShardJob, make_shard
from engine.storage import Store
from schemas.sample import Instance, Sample, Supervision
from tests.engine.datasets.test_video import number_of, write_video


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


def test_two_runs_in_other_places_give_the_same_bytes(coco, ingest_config, tmp_path: Path) -> None:
    root = coco()
    first = ingest(ingest_config(root, out="a"))
    root.rename(tmp_path / "moved")
    second = ingest(ingest_config(tmp_path / "moved", out=f"memory://ingest-{tmp_path.name}", workers=None))
    assert first.digest() == second.digest()
    assert [s.sha256 for s in first.shards] == [s.sha256 for s in second.shards]


def test_submitted_again_it_does_nothing(coco, ingest_config) -> None:
    root = coco()
    config = ingest_config(root)
    said: list[str] = []
    manifest = ingest(config, said.append)
    assert (
        len(said) == 3 and "coco/tiny: 1 annotation files" in said[0] and said[1].startswith("ingest: 1/3 shards · 2/6 images · 4 persons")
    )
    assert said[2].endswith("0:00 to go · quarantined: nothing")
    for image in (root / "tiny").iterdir():
        image.unlink()
    said.clear()
    assert ingest(config, said.append) == manifest
    assert len(said) == 1


@pytest.mark.parametrize("gone", ["tar", "index", "record"])
def test_what_is_gone_is_made_again(coco, ingest_config, gone: str) -> None:
    config = ingest_config(coco())
    whole = ingest(config)
    store = Store(config.out)
    (record,) = (key for key in store.list("ingest") if key.endswith("/000001.json"))
    for key in ("manifest.json", {"tar": whole.shards[1].path, "index": whole.shards[1].index_path, "record": record}[gone]):
        store.delete(key)
    again = ingest(config)
    assert again.digest() == whole.digest()
    assert len(_samples(config.out)) == 6
    assert store.exists(record)


_POINTS = {
    "ingest_image 000": [],
    "ingest_image 003": [0],
    "after_tar 000001": [0],
    "after_shard_record 000001": [0, 1],
    "before_shard_manifest ": [0, 1, 2],
}
"""Where the process dies -> shards that are done by then."""


@pytest.mark.parametrize("point", _POINTS)
def test_a_killed_ingest_goes_on_without_looking_at_what_is_done(coco, ingest_config, tmp_path: Path, point: str) -> None:
    root = coco()
    undisturbed = ingest(ingest_config(root, out="undisturbed"))
    config = ingest_config(root)
    name, match = point.split(" ")
    child = multiprocessing.get_context("fork").Process(
        target=_die, args=(config, {"point": name, "match": match, "action": "kill"}, tmp_path)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not Store(config.out).exists("manifest.json")
    for shard in _POINTS[point]:
        for image in (2 * shard, 2 * shard + 1):
            (root / f"tiny/{image:03d}.jpg").write_bytes(b"changed since")
    manifest = ingest(config)
    assert manifest.digest() == undisturbed.digest()
    assert [image for _, image in _samples(config.out)] == [image for _, image in _samples(str(tmp_path / "undisturbed"))]


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


@pytest.mark.parametrize("data", [None, b"no image"])
def test_a_photograph_that_changed_under_a_shard_without_a_record_is_a_conflict(coco, ingest_config, encode, data: bytes | None) -> None:
    root = coco()
    config = ingest_config(root)
    ingest(config)
    store = Store(config.out)
    for key in ("manifest.json", *store.list("ingest")):
        store.delete(key)
    for name in ("000", "001"):
        (root / f"tiny/{name}.jpg").write_bytes(data or encode(seed=77))
    with pytest.raises(CommitConflict, match=r"000000.tar: (holds other bytes|is there, but not one).*give another out"):
        ingest(config)


def test_nothing_left_is_an_error(coco, ingest_config) -> None:
    root = coco(2)
    for image in (root / "tiny").iterdir():
        image.write_bytes(b"no image")
    config = ingest_config(root)
    with pytest.raises(RawDataError, match=r"not one of 4 persons can be kept; .*'unsupported_format': 4"):
        ingest(config)
    assert not Store(config.out).exists("manifest.json")


class _Listed(RawDataset):
    """A dataset whose annotations are a test's own."""

    supervision: ClassVar[Supervision] = "itw2d"
    found: ClassVar[list[Found]] = []

    def annotation_files(self) -> list[Path]:
        return []

    def items(self) -> Iterator[Found]:
        yield from self.found


@pytest.fixture
def listed(tmp_path: Path, monkeypatch) -> Callable[..., IngestConfig]:
    """listed(*found, **fields) -> config of an ingest that finds this below `tmp_path`, two images a shard."""
    monkeypatch.setitem(DATASETS, "photos", _Listed)

    def make(*found: Found, **fields) -> IngestConfig:
        monkeypatch.setattr(_Listed, "found", list(found))
        dataset = DatasetConfig(name="photos", root=str(tmp_path), split="all")
        return IngestConfig(**({"dataset": dataset, "out": str(tmp_path / "out"), "samples_per_shard": 2, "workers": 0} | fields))

    return make


def _person(annotation_id: str, bbox: tuple[float, ...] = (1, 2, 20, 20)) -> Instance:
    return Instance(
        annotation_id=annotation_id, bbox_xywh=bbox, skeleton="coco17", joints_img=((1.5, 2.0),) * 17, joints_valid=(True,) * 17
    )


def test_everybody_is_accounted_for_from_every_kind_of_source(listed, encode, tmp_path: Path) -> None:
    record = b"head" + encode(seed=1) + encode(seed=2, kind="PNG") + b"tail"
    cut = 4 + len(encode(seed=1))
    (tmp_path / "x.tfrecord").write_bytes(record)
    (tmp_path / "a.jpg").write_bytes(encode(seed=3))
    write_video(tmp_path / "v.mp4", 12)
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    inside, outside = (1, 2, 20, 20), (200, 2, 20, 20)
    slices = [ImageSlice(tmp_path / "x.tfrecord", 4, cut - 4), ImageSlice(tmp_path / "x.tfrecord", cut, len(record) - 4 - cut)]
    config = listed(
        RawItem("v-2", "v.mp4#2", VideoFrame(tmp_path / "v.mp4", 2), None, None, (_person("1", inside), _person("2", outside))),
        SkippedInstances("crowd", 4),
        RawItem("r-1", "x.tfrecord#1", slices[1], 48, 32, (_person("1"),)),
        RawItem("a", "a.jpg", ImageFile(tmp_path / "a.jpg"), 48, 32, (_person("1"),)),
        RawItem("r-0", "x.tfrecord#0", slices[0], None, None, (_person("1"),)),
        Unreadable("part", "annotation_unreadable", "cut short", 3),
        RawItem("a", "a.jpg", ImageFile(tmp_path / "a.jpg"), 48, 32, (_person("2"), _person("1"))),
        RawItem("v-9", "v.mp4#9", VideoFrame(tmp_path / "v.mp4", 9), 96, 64, (_person("1"),)),
        RawItem("v-99", "v.mp4#99", VideoFrame(tmp_path / "v.mp4", 99), 96, 64, (_person("1"), _person("2"))),
        RawItem("w-0", "junk.mp4#0", VideoFrame(tmp_path / "junk.mp4", 0), None, None, (_person("1"),)),
        RawItem("z", "a.jpg", ImageFile(tmp_path / "a.jpg"), None, None, (_person("1", outside),)),
    )
    counted = count_ingest(config)
    assert (counted.persons, counted.images, counted.shards, counted.missing) == (19, 8, 4, 0)
    assert (counted.skipped, counted.quarantined) == ({"crowd": 4}, {"annotation_unreadable": 3, "duplicate_id": 1})
    assert not (tmp_path / "out").exists()
    manifest = ingest(config)
    assert (manifest.found_instances, manifest.instances) == (19, 6)
    assert manifest.skipped == {"crowd": 4, "degenerate_box": 2}
    assert manifest.quarantined == {"annotation_unreadable": 3, "duplicate_id": 1, "frame_missing": 2, "video_undecodable": 1}
    samples = {sample.key: (sample, image) for sample, image in _samples(config.out)}
    assert list(samples) == ["a", "r-0", "r-1", "v-2", "v-9"]
    assert [p.annotation_id for p in samples["a"][0].instances] == ["1", "2"] and len(samples["v-2"][0].instances) == 1
    assert (samples["r-0"][1], samples["r-1"][1]) == (encode(seed=1), encode(seed=2, kind="PNG"))
    for key in ("v-2", "v-9"):
        sample, image = samples[key]
        assert number_of(np.asarray(Image.open(io.BytesIO(image)))) == int(key[2:])
        assert (sample.width, sample.height, sample.image_path) == (96, 64, f"v.mp4#{key[2:]}")
    again = listed(*_Listed.found[::-1], out=str(tmp_path / "again"))
    assert ingest(again).shards[1:] == manifest.shards[1:]  # in `a`, the order of persons is that of the annotation


def test_a_dry_run_tells_what_is_missing_and_what_is_made(coco, ingest_config) -> None:
    root = coco(5, persons=3)
    config = ingest_config(root)
    size = sum(path.stat().st_size for path in (root / "tiny").iterdir())
    missing = root / "tiny/001.jpg"
    size -= missing.stat().st_size
    missing.unlink()
    counted = count_ingest(config)
    assert (counted.persons, counted.images, counted.missing, counted.persons_on_missing, counted.image_bytes) == (15, 5, 1, 3, size)
    assert (counted.shards, counted.shards_made, counted.finished) == (3, 0, False)
    manifest = ingest(config)
    again = count_ingest(config)
    assert (again.shards_made, again.finished) == (3, True)
    assert "  to keep            12  on 4 images" in again.lines()[1]
    assert manifest.instances == 12


def test_person_crops_of_a_damaged_photograph_are_its_own_quarantine(coco, ingest_config, encode) -> None:
    root = coco(3)
    data = encode(kind="PNG", wh=(48, 32))
    at = data.index(b"IDAT")
    (size,) = struct.unpack_from(">I", data, at - 4)
    chunk = b"IDAT" + bytes(size)
    damaged = data[: at - 4] + struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at + 8 + size :]
    (root / "tiny/001.jpg").write_bytes(damaged)
    manifest = ingest(ingest_config(root, person_crops=PersonCropConfig()))
    assert (manifest.found_instances, manifest.instances, manifest.quarantined) == (6, 4, {"image_undecodable": 2})
    assert ingest(ingest_config(root, out="whole")).quarantined == {}
    strict = ingest(ingest_config(root, out="strict", images=ImageConfig(check="decode")))
    assert strict.quarantined == {"image_undecodable": 2}


def test_a_machine_without_the_raw_dataset_says_so(tmp_path: Path) -> None:
    job = ShardJob(0, str(tmp_path / "out"), "ingest/x", str(tmp_path / "nowhere"), "coco", (), ImageConfig(), None)
    with pytest.raises(MissingInput, match="nowhere: not a folder on this machine; every machine"):
        make_shard(job)


def _die(config: IngestConfig, fault: dict, folder: Path) -> None:
    os.environ["PSEUDOGT_FAULTS"], os.environ["PSEUDOGT_FAULTS_DIR"] = json.dumps([fault]), str(folder)
    importlib.reload(faults)
    ingest(config)


def test_real_coco(real_data: Path, tmp_path: Path) -> None:
    config = IngestConfig(
        dataset=DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017"),
        out=str(tmp_path),
        samples_per_shard=20,
        workers=0,
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
