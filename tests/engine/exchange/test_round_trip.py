"""What is written is read again to the last bit, whatever the persons; strangers' readers find it too."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.exchange.base import ExportInfo, Fit, Person
from engine.exchange.registry import format_module
from engine.releases.verify import verify_release
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample, Window
from schemas.skeletons import COCO17
from tests.engine.exchange import independent
from tests.engine.exchange.conftest import World
from tests.engine.exchange.independent import Body3D, compare

OURS = ("neuralannot", "coco_json", "webdataset", "huggingface")
JPEG = b"\xff\xd8\xff\xe0 some picture"
QUALITY = (
    "reprojection_error",
    "visible_fraction",
    "keypoint_similarity",
    "valid_joints",
    "latent_norm",
    "flip_disagreement",
    "truncation",
)


def _floats(size: int, low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, size, elements=st.floats(np.float32(low).item(), np.float32(high).item(), width=32))


PARAMETERS = st.tuples(
    _floats(72, -7, 7), _floats(10, -1e6, 1e6), _floats(3, -1e4, 1e4), _floats(2, 1e-3, 1e7), _floats(2, -1e6, 1e6),
    st.one_of(st.just(np.full(32, np.nan, np.float32)), _floats(32, -100, 100)),
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@st.composite
def _persons(draw: st.DrawFn) -> list[Person]:
    found, ids = [], draw(st.lists(TEXT | st.integers(0, 10**14).map(str), min_size=1, max_size=5, unique=True))
    images = sorted(draw(st.integers(0, 2)) for _ in ids)
    for identity, image in zip(ids, images, strict=True):
        box = (*draw(st.tuples(*[st.floats(-1e5, 1e5)] * 2)), *draw(st.tuples(*[st.floats(1e-3, 1e5)] * 2)))
        joints = draw(hnp.arrays(np.float64, (17, 2), elements=st.floats(-1e6, 1e6)))
        instance = Instance(
            annotation_id=identity, bbox_xywh=box, skeleton="coco17", joints_img=joints.tolist(), joints_valid=draw(_floats(17, 0, 1)) > 0.5
        )
        window = Window(left=3, top=5, width=40, height=20, stored_width=20, stored_height=20) if image else None
        sample = Sample(
            key=f"{image:012d}", dataset="d", image_path=f"a/{image}.jpg", width=64, height=48, instances=(instance,), window=window
        )
        quality = {name: draw(st.sampled_from([np.nan, 0.25])) for name in QUALITY} | {"valid_joints": 3, "score": 0.5}
        pose, betas, transl, focal, princpt, latent = draw(PARAMETERS)
        found.append(Person(sample, instance, pose, betas, transl, focal, princpt, quality, latent, JPEG))
    return found


INFO = ExportInfo("r v0001", "0" * 64, "d", "train", "open", "0" * 64, 1, "0" * 64, lambda: None)


@pytest.mark.parametrize("name", OURS)
def test_every_number_survives(name: str) -> None:
    module = format_module(name)

    @settings(max_examples=25, deadline=None)
    @given(_persons())
    def holds(persons: list[Person]) -> None:
        with TemporaryDirectory() as folder:
            writer = module.open_writer(Path(folder), module.Options(), INFO)
            for person in persons:
                writer.add(person)
            assert all((Path(folder) / path).stat().st_size for path in writer.close())
            fits = {(fit.annotation_id, fit.image): fit for fit in module.open_reader(Path(folder), module.Options(), None).fits()}
        assert len(fits) == len(persons)
        for person in persons:
            fit = fits[person.instance.annotation_id, None if name == "neuralannot" else person.sample.key]
            assert isinstance(fit, Fit)
            for part in ("pose_72", "betas_10", "transl_3", "focal_2", "princpt_2"):
                np.testing.assert_array_equal(np.float32(getattr(fit, part)), getattr(person, part), part)
            if module.CAPABILITIES.latent and np.isfinite(person.latent_32).all():
                np.testing.assert_array_equal(np.float32(fit.latent_32), person.latent_32)
            else:
                assert fit.latent_32 is None

    holds()


@pytest.mark.parametrize("name", OURS)
def test_a_release_goes_out_and_comes_back(world: World, tmp_path: Path, name: str) -> None:
    record = world.export(name, tmp_path / "out")
    assert (record.annotated, record.written, record.skipped) == (90, 90, {})
    back = world.load(name, tmp_path / "out", tmp_path / "store")
    verify_release(back, deep=True)
    assert {**back.manifest.skipped, **back.manifest.quarantined} == {}
    ours, theirs = world.release.table(), back.table()
    carried = set(PSEUDO_GT_SCHEMA.names) - ({"latent", "latent_norm", "score"} if not format_module(name).CAPABILITIES.latent else set())
    for column in sorted(carried):
        np.testing.assert_array_equal(np.array(theirs[column].to_pylist()), np.array(ours[column].to_pylist()), column)  # NaN is NaN


def _coco_json(folder: Path) -> dict[str, Body3D]:
    (path,) = folder.glob("person_*.json")
    content = json.loads(path.read_text())
    images = {image["id"]: image for image in content["images"]}
    (category,) = content["categories"]
    assert category["keypoints"][:4] == ["nose", "left_eye", "right_eye", "left_ear"] and len(images) == len(content["images"])
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])
    found = {}
    for annotation in content["annotations"]:
        assert isinstance(annotation["id"], int) and len(annotation["keypoints"]) == 51
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3])
        image, smpl, camera = images[annotation["image_id"]], annotation["smpl_param"], annotation["cam_param"]
        values = [np.array(smpl[name]) for name in ("pose", "shape", "trans")] + [np.array(camera[name]) for name in ("focal", "princpt")]
        size = (image["width"], image["height"])
        found[str(annotation["id"])] = Body3D(str(annotation["id"]), image["file_name"], size, tuple(annotation["bbox"]), *values)
    return found


def _webdataset(folder: Path) -> dict[str, Body3D]:
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    found = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        record, values = json.loads(sample["json"]), np.load(io.BytesIO(sample["npz"]), allow_pickle=False)
        assert sample["jpg"].startswith(b"\xff\xd8") and record["key"] == sample["__key__"]
        for n, person in enumerate(record["instances"]):
            parts = [values[name][n] for name in ("pose", "betas", "transl", "focal", "princpt")]
            size = (record["width"], record["height"])
            found[person["annotation_id"]] = Body3D(person["annotation_id"], record["image_path"], size, tuple(person["bbox_xywh"]), *parts)
    return found


def _huggingface(folder: Path) -> dict[str, Body3D]:
    found = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            assert row["image"]["bytes"].startswith(b"\xff\xd8")
            for person in row["persons"]:
                parts = [np.array(person[name]) for name in ("pose", "betas", "transl", "focal", "princpt")]
                name = person["annotation_id"]
                found[name] = Body3D(name, row["image_path"], (row["width"], row["height"]), tuple(person["bbox"]), *parts)
    return found


READERS: dict[str, Callable[[Path], dict[str, Body3D]]] = {
    "coco_json": _coco_json, "webdataset": _webdataset, "huggingface": _huggingface,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_strangers_reader_sees_the_same_bodies(world: World, tmp_path: Path, name: str) -> None:
    options = {"max_shard_mb": 0.02} if name != "coco_json" else {}
    world.export(name, tmp_path / "out", **options)
    found = READERS[name](tmp_path / "out")
    assert found.keys() == {person.name for person in world.persons}
    assert [found[p.name].image for p in world.persons] == [p.image for p in world.persons]
    np.testing.assert_allclose([found[p.name].box for p in world.persons], [p.box for p in world.persons])
    apart = compare(world.skin, world.persons, [found[p.name] for p in world.persons])
    assert apart.px_N.max() < 0.01 and apart.mm_N.max() < 0.01
    if name != "coco_json":
        assert len(list((tmp_path / "out").rglob("*.tar" if name == "webdataset" else "*.parquet"))) > 1


def test_neuralannots_reader_sees_the_same_bodies(world: World, tmp_path: Path) -> None:
    record = world.export("neuralannot", tmp_path / "out")
    found = independent.read_neuralannot(tmp_path / "out" / record.files[0].path, world.persons)
    apart = compare(world.skin, world.persons, [found[p.name] for p in world.persons])
    assert apart.px_N.max() < 0.1 and apart.mm_N.max() < 0.1


def test_a_hub_dataset_loads_with_its_own_library(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    world.export("huggingface", tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(found) == 36 and found[0]["image"].size == (4, 4)
    person = found.features["persons"].feature
    assert person["pose"].length == 72 and person["score"].dtype == "float32"
    assert sum(len(row["persons"]) for row in found.remove_columns("image")) == 90


def test_without_images(world: World, tmp_path: Path) -> None:
    world.export("huggingface", tmp_path / "out", images=False)
    (path,) = (tmp_path / "out" / "data").iterdir()
    assert "image" not in pq.read_schema(path).names


def test_a_name_written_before_is_rejected(world: World, tmp_path: Path) -> None:
    module, person = format_module("neuralannot"), _one(world)
    writer = module.open_writer(tmp_path, module.Options(), INFO)
    writer.add(person)
    with pytest.raises(Exception, match="written before") as raised:
        writer.add(replace(person, sample=person.sample.model_copy(update={"key": "another"})))
    assert raised.value.reason == "duplicate_id"


def _one(world: World) -> Person:
    from engine.exchange.export import persons

    return next(persons(world.release, world.shard_set))


def test_what_is_not_a_number_of_coco_is_numbered(tmp_path: Path, world: World) -> None:
    module, person = format_module("coco_json"), _one(world)
    writer = module.open_writer(tmp_path, module.Options(), INFO)
    names = ["7", "007", "seven", "-7", "٧", "7" * 30]
    for name in names:
        writer.add(replace(person, instance=person.instance.model_copy(update={"annotation_id": name})))
    (path,) = writer.close()
    annotations = json.loads((tmp_path / path).read_text())["annotations"]
    assert [a["annotation_id"] for a in annotations] == names and annotations[0]["id"] == 7
    assert [a["id"] for a in annotations[1:]] == [10**12 + n for n in range(5)]
    assert len(COCO17) * 3 == len(annotations[0]["keypoints"])
