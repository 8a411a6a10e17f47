"""Whole inspections: every planted contradiction is counted, nothing else is, and what is broken breaks nothing."""

from __future__ import annotations

import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from rich.console import Console

from engine.datasets.base import DatasetConfig, VideoFrame
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError, MissingInput
from engine.inspection.config import InspectConfig, SheetConfig
from engine.inspection.findings import Findings
from engine.inspection.images import Images
from engine.inspection.photographs import EndOfAnnotation, Photograph, raw_source
from engine.inspection.record import InspectionReport
from engine.inspection.run import inspect
from engine.shards.images import ImageConfig
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.person_crops import PersonCropConfig
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts.catalogue import LAYOUTS
from engine.synthetic.shots import make_shots
from tests.engine.inspection.builders import annotation, encoded, write_coco


def _inspect(**fields) -> InspectionReport:
    return inspect(InspectConfig(**fields), Console(file=io.StringIO()))


def _coco(root: Path) -> DatasetConfig:
    return DatasetConfig(name="coco", root=str(root), split="val")


def _counts(report: InspectionReport) -> dict[str, int]:
    return {finding.name: finding.count for finding in report.findings}


@pytest.fixture(scope="module")
def mannequin() -> Mannequin:
    return Mannequin()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A sound image, and one of everything that can be wrong with an image or a person."""
    sound, wh = encoded(seed=1), (96, 64)
    images = {
        1: ("a_sound.jpg", sound, wh),
        2: ("b_missing.jpg", None, wh),
        3: ("c_empty.jpg", b"", wh),
        4: ("d_page.jpg", b"<html>not found</html>", wh),
        5: ("e_noise.jpg", b"\xff\xd8\xff\xe0" + bytes(50), wh),
        6: ("f_cut.jpg", encoded(seed=6)[:-200], wh),
        7: ("g_swapped.jpg", encoded(seed=7), wh[::-1]),
        8: ("h_differs.jpg", encoded((100, 64), seed=8), wh),
        9: ("i_turned.jpg", encoded((64, 96), seed=9, orientation=6), wh),
        10: ("j_untold.jpg", encoded(seed=10, orientation=3), wh),
        11: ("k_copy.jpg", sound, wh),
        12: ("l_png.png", encoded(seed=12, kind="PNG"), wh),
        13: ("m_persons.jpg", encoded(seed=13), wh),
        14: ("n_nobody.jpg", None, wh),
    }
    people = [annotation(100 + i, i) for i in images if i < 14 and i != 7]
    people.append(annotation(100 + 7, 7, bbox=[5, 5, 50, 60]))
    people += [
        annotation(201, 13, bbox=[15, 8, 90, 45]),
        annotation(202, 13, keypoints=[v for i in range(17) for v in ((200 if i == 9 else 20 + i), 12 + i, 1)]),
        annotation(203, 13, iscrowd=1),
        annotation(204, 13, keypoints=[0] * 51, num_keypoints=0),
        annotation(205, 13, keypoints=annotation(113, 13)["keypoints"]),
        annotation(206, 1, keypoints=[30, 30, 2] * 17),
    ]
    return write_coco(tmp_path / "coco", images, people)


PLANTED = {
    "image_missing": 1, "image_empty": 1, "unsupported_format": 1, "image_undecodable": 1, "image_cut_short": 1, "size_swapped": 1,
    "size_differs": 1, "orientation_ambiguous": 1, "same_content": 1, "person_twice": 1, "box_leaves_image": 1, "joint_outside_image": 1,
    "joint_outside_box": 1, "joints_coincide": 1,
}  # fmt: skip


def test_everything_that_was_planted_is_counted(broken: Path, tmp_path: Path) -> None:
    report = _inspect(dataset=_coco(broken), out=str(tmp_path / "out"), sheet=SheetConfig(images=12, choose="worst", cell_px=96))
    found = _counts(report)
    assert found == PLANTED
    where = {finding.name: finding.examples[0].key for finding in report.findings}
    assert (where["image_missing"], where["size_swapped"], where["same_content"]) == ("b_missing", "g_swapped", "k_copy")
    assert (report.images.images, report.images.examined) == (13, 13)
    assert report.images.formats == {"JPEG": 8, "PNG": 1} and report.images.orientations == {"3": 1, "6": 1}
    assert report.persons.skipped == {"crowd": 1, "no_keypoints": 1} and report.persons.persons == 17
    assert {size.width for size in report.images.sizes} == {96, 100}

    out = tmp_path / "out"
    assert InspectionReport.from_bytes((out / "report.json").read_bytes()) == report
    page = (out / "report.html").read_text()
    assert all(name in page for name in PLANTED) and "sheets/worst-1.jpg" in page
    sheet = np.asarray(Image.open(out / "sheets" / "worst-1.jpg"))
    assert sheet.shape[1] == 4 * (96 + 6) and sheet.shape[0] > 3 * 96


def test_it_replaces_itself_and_changes_nothing(broken: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}
    config = {"dataset": _coco(broken), "out": str(tmp_path / "out")}
    first = _inspect(**config, sheet=SheetConfig(images=3, choose="random"))
    again = _inspect(**config, sheet=SheetConfig(images=3, cell_px=100), workers=1)
    assert first == again
    assert [path.name for path in (tmp_path / "out" / "sheets").iterdir()] == ["even-1.jpg"]
    assert before == {path: path.read_bytes() for path in broken.rglob("*") if path.is_file()}


def test_images_are_examined_as_asked(broken: Path) -> None:
    none = _inspect(dataset=_coco(broken), examine_images="none")
    assert none.images.examined == 0 and none.images.images == 13 and "no image was examined" in none.notes[0]
    assert not {"image_missing", "size_differs"} & set(_counts(none))
    assert sum(size.images for size in none.images.sizes) == 13
    some = _inspect(dataset=_coco(broken), examine_images="sample", sample=5)
    assert some.images.examined == 5 and "5 of 13" in some.notes[0]
    assert _inspect(dataset=_coco(broken), examine_images="sample", sample=5) == some
    every = _inspect(dataset=_coco(broken), examine_images="sample", sample=50)
    assert _counts(every) == _counts(_inspect(dataset=_coco(broken)))


@pytest.mark.parametrize("crops", [None, PersonCropConfig(max_person_px=64)])
def test_a_shard_set_has_what_was_ingested(broken: Path, tmp_path: Path, crops: PersonCropConfig | None) -> None:
    manifest = ingest(IngestConfig(dataset=_coco(broken), out=str(tmp_path / "shards"), samples_per_shard=4, person_crops=crops, workers=0))
    report = _inspect(shards=str(tmp_path / "shards"), out=str(tmp_path / "out"), sheet=SheetConfig(images=4, cell_px=96))
    assert (report.images.images, report.persons.persons) == (manifest.samples, manifest.instances)
    assert report.persons.skipped == manifest.skipped
    assert report.persons.unreadable == Counter(row.reason for row in manifest.quarantine)
    assert report.persons.unreadable_persons == sum(manifest.quarantined.values())
    assert not {"size_differs", "size_swapped", "orientation_ambiguous", "image_cut_short"} & set(_counts(report))
    assert (tmp_path / "out" / "sheets" / "even-1.jpg").stat().st_size > 2000


def test_a_damaged_shard_is_a_finding(broken: Path, tmp_path: Path) -> None:
    manifest = ingest(IngestConfig(dataset=_coco(broken), out=str(tmp_path / "shards"), samples_per_shard=4, workers=0))
    first, *_, last = (tmp_path / "shards" / entry.path for entry in manifest.shards)
    data = bytearray(first.read_bytes())
    data[700] ^= 1
    first.write_bytes(data)
    last.unlink()
    report = _inspect(shards=str(tmp_path / "shards"))
    assert _counts(report)["shard_damaged"] == 2
    left = sum(entry.instances for entry in manifest.shards[1:-1])
    assert report.persons.persons == left > 0


def test_exactly_one_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found neither"):
        _inspect()
    with pytest.raises(ConfigError, match="found both"):
        _inspect(dataset=_coco(tmp_path), shards=str(tmp_path))
    with pytest.raises(MissingInput):
        _inspect(shards=str(tmp_path))


def test_an_annotation_that_ends_early_is_told_with_what_came_before(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real file of a 2D set breaks off within its annotations, of which the loader has seen some."""
    path = broken / "annotations" / "person_keypoints_val.json"
    content = json.loads(path.read_text())
    text = json.dumps({"images": content["images"], "annotations": content["annotations"]})
    path.write_text(text[: int(len(text) * 0.8)])
    events = list(raw_source(open_dataset(_coco(broken))).events())
    assert isinstance(events[-1], EndOfAnnotation) and "expected JSON" in events[-1].message
    report = _inspect(dataset=_coco(broken))
    assert _counts(report)["annotation_ends"] == 1 and 0 < report.persons.persons < 17


def test_real_photographs_counted_by_hand(real_data: Path) -> None:
    root = real_data / "coco2017"
    report = _inspect(dataset=DatasetConfig(name="coco", root=str(root), split="train2017"))
    content = json.loads((root / "annotations" / "person_keypoints_train2017.json").read_text())
    kept = [a for a in content["annotations"] if not a["iscrowd"] and any(v > 0 for v in a["keypoints"][2::3])]
    assert report.persons.persons == len(kept) == 86
    assert report.persons.skipped == {"crowd": 5, "no_keypoints": 81}
    assert report.images.images == len({a["image_id"] for a in kept})
    names = content["categories"][0]["keypoints"]
    ours = {"left_": "L_", "right_": "R_"}
    for joint, name in enumerate(names):
        side, _, part = name.rpartition("_")
        key = f"{ours.get(side + '_', '')}{part.capitalize()}"
        assert report.persons.joints[0].valid[key] == sum(a["keypoints"][3 * joint + 2] > 0 for a in kept), key
    heights = np.array([a["bbox"][3] for a in kept])
    assert report.persons.small_boxes == (heights < 64).sum()
    assert report.persons.box_heights_px.median == np.percentile(heights, 50, method="nearest")
    an_image = Counter(Counter(a["image_id"] for a in kept).values())
    assert {n: count for n, count in report.persons.an_image.items() if n != "10+"} == {str(n): c for n, c in an_image.items() if n < 10}
    used = {a["image_id"] for a in kept}
    sizes = []
    for image in content["images"]:
        if image["id"] in used:
            with Image.open(root / "train2017" / image["file_name"]) as opened:
                sizes.append(opened.size)
    assert report.images.distinct_sizes == len(set(sizes))
    assert report.images.widths.largest == max(w for w, _ in sizes)
    assert not [finding for finding in report.findings if finding.level == "wrong"]
    assert all(side.agree == side.of > 20 for side in report.persons.sides.values())


LAYOUT_OPTIONS = {
    "coco_wholebody": {"coco": {"annotations": "wholebody"}},
    "crowdpose": {},
    "human36m": {"human36m": {"train": {"subjects": (1,), "every_nth": 5, "cameras": (1, 2, 3, 4)}}},
    "instavariety": {},
    "lspet": {},
    "mpii": {},
    "muco": {},
    "photos_video": {"photos": {"boxes": "boxes.json"}},
}


@pytest.mark.parametrize("name", LAYOUT_OPTIONS)
def test_every_layout_is_found_sound_and_counted(name: str, mannequin: Mannequin, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    shots = make_shots(mannequin, 3, 3, people=layout.people, hw=(192, 192), views=layout.views)
    truth = layout.write(tmp_path / "data", shots)
    dataset = DatasetConfig(name=layout.dataset, root=str(tmp_path / "data"), split=layout.split, **LAYOUT_OPTIONS[name])
    report = _inspect(dataset=dataset, out=str(tmp_path / "out"), sheet=SheetConfig(images=2, cell_px=96))
    assert not [finding for finding in report.findings if finding.level == "wrong"]
    persons, skipped = report.persons.persons, sum(report.persons.skipped.values())
    assert persons == sum(len(image.persons) for image in truth) and report.images.images == len(truth)
    assert skipped == (3 if name == "mpii" else 0), report.persons.skipped
    labelled = Counter(joint for image in truth for person in image.persons for joint in person.joints_img)
    (joints,) = report.persons.joints
    assert {joint: count for joint, count in joints.valid.items() if count} == {j: labelled[j] for j in joints.valid if labelled[j]}
    assert (report.images.videos == len(truth)) == (name == "photos_video")
    if report.persons.space is not None:
        assert report.persons.space.reprojection_px.largest < 0.5
    assert (tmp_path / "out" / "sheets" / "even-1.jpg").stat().st_size > 2000


def test_a_video_that_is_gone_or_too_short(mannequin: Mannequin, tmp_path: Path) -> None:
    layout, root = LAYOUTS["photos_video"], tmp_path / "data"
    layout.write(root, make_shots(mannequin, 3, 4, people=(1, 1), hw=(192, 192)))
    dataset = open_dataset(DatasetConfig(name="photos", root=str(root), split="all", **LAYOUT_OPTIONS["photos_video"]))
    (photograph, *_) = (event for event in raw_source(dataset).events() if isinstance(event, Photograph))
    video = photograph.image.path
    damaged, gone = root / "damaged.mp4", root / "gone.mp4"
    damaged.write_bytes(video.read_bytes()[:200])
    findings = Findings()
    images = Images(findings, ImageConfig())
    cases = [(video, 0), (video, 3), (video, 4000), (damaged, 0), (gone, 0)]
    photographs = [replace(photograph, key=f"k{i}", image=VideoFrame(path, frame)) for i, (path, frame) in enumerate(cases)]
    with ThreadPoolExecutor(2) as pool:
        images.examine(photographs, pool)
    found = {finding.name: [example.key for example in finding.examples] for finding in findings.found()}
    assert found == {"frame_beyond_video": ["k2"], "video_undecodable": ["k3"], "image_missing": ["k4"]}


def test_lspet_counted_from_its_matrix(real_data: Path) -> None:
    report = _inspect(dataset=DatasetConfig(name="lspet", root=str(real_data / "lspet"), split="train"))
    joints = scipy.io.loadmat(real_data / "lspet" / "joints.mat")["joints"]
    valid = joints[:, 2] == 1
    assert list(report.persons.joints[0].valid.values()) == valid.sum(1).tolist()
    assert report.persons.valid_joints == {str(n): c for n, c in sorted(Counter(valid.sum(0).tolist()).items())}
    files = sorted((real_data / "lspet" / "images").glob("*.jpg"))
    missing = next(finding for finding in report.findings if finding.name == "image_missing")
    assert (missing.count, report.images.formats) == (10_000 - len(files), {"JPEG": len(files)})
    assert [finding.name for finding in report.findings if finding.level == "wrong"] == ["image_missing"]
    sizes = [Image.open(path).size for path in files]
    assert report.images.widths.median == np.percentile([w for w, _ in sizes], 50, method="nearest")
    assert report.images.distinct_sizes == len(set(sizes))
