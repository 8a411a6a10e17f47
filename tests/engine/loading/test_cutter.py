"""Training from person crops: the same boxes and targets as from whole photographs, and the same pixels up to compression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.datasets.base import DatasetConfig
from engine.errors import ConfigError
from engine.loading.augmentation import AugmentConfig, draw
from engine.loading.batches import BatchStream, LoadingConfig
from engine.loading.counter_rng import stable_key
from engine.loading.crops import crop_affines
from engine.loading.cutter import Cutter
from engine.loading.instances import INSTANCE
from engine.loading.sources import Source, SourceConfig
from engine.loading.targets import build_targets, fit_joints
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.person_crops import PersonCropConfig, person_crops
from schemas.crops import CropSpec
from schemas.sample import Sample

CROP = CropSpec(128, 96)
KEEP_ALL = PersonCropConfig(max_person_px=None, quality=100)


def loaded(source: Source, augment: AugmentConfig, fit) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    """Crop, record and targets of every person, by annotation id, each augmented by its id alone."""
    found = {}
    cutter = Cutter([source], CROP, augment, cache_bytes=0)
    for sample in range(len(source.shard_set.index(source.shard_set.manifest.shards[0]))):
        rows_B, names = source.records(sample)
        rows_B, who = rows_B.copy(), [name.rsplit("/", 1)[1] for name in names]
        fit(rows_B)
        augmentation = draw(augment, np.array([stable_key(name) for name in who], dtype=np.uint64))
        affine_B23 = crop_affines(rows_B["box"], CROP.hw, augmentation)
        crops, rejected = cutter.crops({(0, sample): list(range(len(rows_B)))}, rows_B, affine_B23, augmentation.colour_B3)
        assert not rejected
        targets = build_targets(rows_B, affine_B23, augmentation, CROP.hw, (8, 8, 6))
        for i, name in enumerate(who):
            found[name] = crops[i], rows_B[i], {field: values[i] for field, values in targets.items()}
    return found


def assert_equal(row: np.void, other: np.void) -> None:
    for field in INSTANCE.names:
        assert np.array_equal(row[field], other[field]), field


@pytest.fixture(scope="module")
def people(shard_sets, make_person) -> list:
    """Photographs whose persons have 3D truth; some stand half outside."""

    def photograph(number: int) -> tuple[Sample, bytes]:
        persons = [make_person(100 * number + k, "smpl24") for k in range(1 + number % 3)]
        return shard_sets.sample("people", number, persons), shard_sets.photo(number)

    return [photograph(number) for number in range(6)]


def written(folder: Path, shard_sets, people: list, config: PersonCropConfig | None) -> str:
    if config is not None:
        people = [(sample, image) for whole, data in people for sample, image, _ in person_crops(whole, data, config).crops]
    return shard_sets.write(folder, "people", [people])


@pytest.mark.parametrize(("config", "levels"), [(KEEP_ALL, 1.5), (PersonCropConfig(), 2.5), (PersonCropConfig(max_person_px=100), 3.0)])
def test_persons_are_the_same_from_crops_and_from_photographs(tmp_path, shard_sets, people, open_body, config, levels):
    sides = []
    for name, crops in (("whole", None), ("crops", config)):
        source = Source(SourceConfig(url=written(tmp_path / name, shard_sets, people, crops)), str(tmp_path), CROP, 100)
        sides.append(loaded(source, AugmentConfig(), lambda rows: fit_joints(rows, open_body)))
    whole, crops = sides
    assert whole.keys() == crops.keys() and len(whole) == 12
    for name, (image, row, targets) in whole.items():
        cropped, cropped_row, cropped_targets = crops[name]
        assert_equal(row, cropped_row)  # box, joints, camera: nothing moved, so nothing was rounded
        assert all(np.array_equal(value, cropped_targets[field]) for field, value in targets.items())
        assert np.abs(image.astype(int) - cropped).mean() < levels
        assert (image.any(2) != cropped.any(2)).mean() < 0.02  # black where the photograph ends, and nowhere else


def test_crops_too_narrow_for_the_augmentation_are_an_error_at_once(tmp_path, shard_sets, make_person, open_body):
    distant = make_person(3, "coco17", False).model_copy(update={"bbox_xywh": (180.0, 120.0, 20.0, 30.0)})
    url = written(tmp_path / "crops", shard_sets, [(shard_sets.sample("people", 0, [distant]), shard_sets.photo(0))], PersonCropConfig())
    for augment, wide in ((AugmentConfig(), False), (AugmentConfig(shift=0.3), True), (AugmentConfig(scale=0.5), True)):
        config = LoadingConfig(itw=(SourceConfig(url=url),), batch_size=1, augment=augment, cache_dir=str(tmp_path))
        with BatchStream(config, CROP, open_body) as stream:
            if not wide:
                assert next(stream.batches(0))["image"].any()
                continue
            with pytest.raises(ConfigError, match=r"person crop people-0000-0 .* larger person_crops.margin"):
                next(stream.batches(0))


def test_batches_of_person_crops_are_the_same_with_and_without_decoded_images_kept(tmp_path, shard_sets, people, open_body):
    url = written(tmp_path / "crops", shard_sets, people, PersonCropConfig())
    runs = []
    for cache_mib, threads in ((0, 1), (64, 2)):
        config = LoadingConfig(itw=(SourceConfig(url=url),), batch_size=4, decoded_cache_mib=cache_mib, threads=threads)
        with BatchStream(config, CROP, open_body) as stream:
            runs.append([batch for epoch in range(2) for batch in stream.batches(epoch)])
    assert len(runs[0]) == 6
    for a, b in zip(*runs, strict=True):
        assert a["ids"] == b["ids"] and torch.equal(a["image"], b["image"]) and torch.equal(a["joint_img"], b["joint_img"])


def test_real_photographs(real_data: Path, tmp_path: Path):
    dataset = DatasetConfig(name="coco", root=str(real_data / "coco2017"), split="train2017")
    sides = []
    for name, config in (("whole", None), ("exact", KEEP_ALL), ("small", PersonCropConfig())):
        ingest(IngestConfig(dataset=dataset, out=str(tmp_path / name), person_crops=config))
        source = Source(SourceConfig(url=str(tmp_path / name)), str(tmp_path), CROP, 100)
        sides.append(loaded(source, AugmentConfig(), lambda rows: None))
    whole, exact, small = sides
    assert len(whole) == len(exact) == len(small) == 86
    differences = {"exact": [], "small": []}
    for name, (image, row, targets) in whole.items():
        for side, found in (("exact", exact), ("small", small)):
            cropped, cropped_row, cropped_targets = found[name]
            assert_equal(row, cropped_row)
            assert np.abs(targets["joint_img"] - cropped_targets["joint_img"]).max() < 1e-3
            differences[side].append(np.abs(image.astype(int) - cropped).mean())
    assert np.median(differences["exact"]) < 1.5 and max(differences["exact"]) < 4
    assert np.median(differences["small"]) < 5
