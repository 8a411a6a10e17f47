import numpy as np
import pytest

from engine.loading.crops import apply_affine
from engine.loading.decode import Decoder
from engine.loading.persons import person_batches
from engine.shards.person_crops import PersonCropConfig, person_crops
from schemas.crops import CropSpec
from schemas.sample import Instance

HW = (128, 96)
CROP = CropSpec(*HW)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(max_batch=4)


@pytest.fixture(scope="module")
def crowd(shard_sets, make_person) -> list:
    return [
        (shard_sets.sample("coco", i, [make_person(5 * i + k, "coco17", False) for k in range(i % 4)]), shard_sets.photo(i))
        for i in range(11)
    ]


@pytest.mark.parametrize("size", [1, 3, 5, 64])
def test_batches_have_one_size_and_everybody_in_order(crowd, decoder, size):
    batches = list(person_batches(crowd, decoder, CROP, size))
    total = sum(i % 4 for i in range(11))
    assert [len(b) for b in batches] == [size] * (total // size) + ([total % size] if total % size else [])
    everybody = [(s.key, i.annotation_id) for s, _ in crowd for i in s.instances]
    assert [(s.key, i.annotation_id) for b in batches for s, i in zip(b.samples, b.instances, strict=True)] == everybody
    for b in batches:
        assert b.crops_NHW3.shape == (len(b), *HW, 3) and b.boxes_N4.shape == (len(b), 4) and b.affines_N23.shape == (len(b), 2, 3)
    crops = np.concatenate([b.crops_NHW3 for b in batches])
    assert (crops == np.concatenate([b.crops_NHW3 for b in person_batches(crowd, decoder, CROP, 2)])).all()
    assert all(crop.any() for crop in crops)


def test_affines_take_the_processed_box_to_the_crop(crowd, decoder):
    for batch in person_batches(crowd, decoder, CROP, 5):
        corners = np.stack([batch.boxes_N4[:, :2], batch.boxes_N4[:, :2] + batch.boxes_N4[:, 2:]], axis=1)
        assert np.allclose(apply_affine(batch.affines_N23, corners), [[[0, 0], [96, 128]]], atol=1e-9)


def test_what_cannot_be_cropped_is_accounted_for_and_nobody_else_suffers(crowd, decoder, shard_sets, make_person):
    samples = list(crowd)
    reference = {
        (s.key, i.annotation_id): c
        for b in person_batches(samples, decoder, CROP, 4)
        for s, i, c in zip(b.samples, b.instances, b.crops_NHW3, strict=True)
    }
    samples[3] = (samples[3][0], samples[3][1][:2000])
    samples[5] = (samples[5][0], b"")
    samples[6] = (samples[6][0], shard_sets.photo(6, (200, 150)))
    outside: Instance = make_person(99).model_copy(update={"bbox_xywh": (900.0, 10.0, 20.0, 20.0)})
    samples[7] = (samples[7][0].model_copy(update={"instances": (*samples[7][0].instances, outside)}), samples[7][1])
    batches = list(person_batches(samples, decoder, CROP, 4))
    rejected = sorted((r.key, r.annotation_id, r.reason, r.instances) for b in batches for r in b.rejected)
    assert rejected == [
        ("coco-0003", None, "undecodable", 3),
        ("coco-0005", None, "undecodable", 1),
        ("coco-0006", None, "size_mismatch", 2),
        ("coco-0007", "p99", "degenerate_box", 1),
    ]
    found = {(s.key, i.annotation_id): c for b in batches for s, i, c in zip(b.samples, b.instances, b.crops_NHW3, strict=True)}
    assert sum(len(s.instances) for s, _ in samples) == len(found) + sum(r[3] for r in rejected)
    assert all((crop == reference[name]).all() for name, crop in found.items())


def test_only_rejected_people_make_a_batch_of_none(shard_sets, make_person, decoder):
    (batch,) = person_batches([(shard_sets.sample("coco", 0, [make_person(0)]), b"junk")], decoder, CROP, 4)
    assert len(batch) == 0 and batch.crops_NHW3.shape == (0, *HW, 3) and batch.rejected[0].reason == "undecodable"
    assert list(person_batches([], decoder, CROP, 4)) == []


def test_person_crops_are_annotated_like_photographs(crowd, decoder):
    """Boxes and affines, and with them cameras and rows, are in the photograph's pixels whatever is stored."""
    config = PersonCropConfig(max_person_px=100)
    cropped = [(sample, image) for whole, data in crowd for sample, image, _ in person_crops(whole, data, config).crops]
    (whole,), (crops,) = (list(person_batches(samples, decoder, CROP, 64)) for samples in (crowd, cropped))
    assert not crops.rejected and crops.instances == whole.instances
    assert (crops.boxes_N4 == whole.boxes_N4).all() and (crops.affines_N23 == whole.affines_N23).all()
    assert np.abs(crops.crops_NHW3.astype(int) - whole.crops_NHW3).mean((1, 2, 3)).max() < 3
