import threading
from collections import Counter

import cv2
import numpy as np
import pytest
import torch

from engine.errors import ConfigError, ReleaseError, ShardCorrupt
from engine.loading.augmentation import AugmentConfig
from engine.loading.batches import BatchStream, LoadingConfig
from engine.loading.boxes import processed_box
from engine.loading.crops import crop_affine, warp
from engine.loading.sources import SourceConfig
from schemas.crops import CropSpec
from schemas.skeletons import shared_joints

HW = (128, 96)
ITEMS = 8


@pytest.fixture(scope="module")
def sets(tmp_path_factory, shard_sets, make_person) -> dict[str, str]:
    """Two MoCap-like sets, an ITW set with a broken photograph in it, and one without."""
    root = tmp_path_factory.mktemp("sets")

    def items(name: str, shards: int, skeleton: str, with_3d: bool, people: int, **person):
        def image(n: int):
            persons = [make_person(seed_of(name, n, k), skeleton, with_3d, **person) for k in range(1 + n % ITEMS % people)]
            return shard_sets.sample(name, n, persons), shard_sets.photo(n)

        return [[image(s * ITEMS + i) for i in range(ITEMS)] for s in range(shards)]

    broken = items("broken", 1, "coco17", False, 3)
    broken[0][2] = (broken[0][2][0], broken[0][2][1][: len(broken[0][2][1]) // 2])
    return {
        "studio": shard_sets.write(root / "studio", "studio", items("studio", 3, "h36m17", True, 1)),
        "street": shard_sets.write(root / "street", "street", items("street", 1, "smpl24", True, 2, gender="female"), "itw3d"),
        "photos": shard_sets.write(root / "photos", "photos", items("photos", 3, "coco17", False, 3), "itw2d"),
        "broken": shard_sets.write(root / "broken", "broken", broken, "itw2d"),
    }


def seed_of(name: str, number: int, person: int) -> int:
    return sum(map(ord, name)) * 1000 + number * 7 + person


def config(sets, mocap=("studio", "street"), itw=("photos",), **changes) -> LoadingConfig:
    return LoadingConfig(**{
        "mocap": tuple(SourceConfig(url=sets[name]) for name in mocap),
        "itw": tuple(SourceConfig(url=sets[name]) for name in itw),
        "batch_size": 12,
    } | changes)  # fmt: skip


def run(loading: LoadingConfig, body, epoch=0, start=0, **options) -> list[dict]:
    with BatchStream(loading, CropSpec(*HW), body, **options) as stream:
        return list(stream.batches(epoch, start))


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if k != "ids" else a[k] == b[k] for k in a)


def test_batches_are_half_and_half_with_the_promised_tensors(sets, open_body):
    with BatchStream(config(sets), CropSpec(*HW), open_body) as stream:
        batches = list(stream.batches(0))
        assert len(batches) == stream.steps_per_epoch == 7  # the photos are 45 people, 6 a batch
        assert set(stream.digests) == {"shard_set/studio/train", "shard_set/street/train", "shard_set/photos/train"}
        assert [row["instances"] for row in stream.summary] == [24, 12, 45]
    for batch in batches:
        half = [name.split("/")[0] in ("studio", "street") for name in batch["ids"]]
        assert half == [True] * 6 + [False] * 6
        assert batch["image"].shape == (12, 3, *HW) and batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert batch["joint_img"].shape == (12, 33, 3) and batch["smpl_pose_valid"].shape == (12, 72)
        assert all(value.dtype == torch.float32 for name, value in batch.items() if name not in ("ids", "image"))
        assert batch["is_3d"].tolist() == [1] * 6 + [0] * 6
        assert batch["smpl_joint_valid"][:6].all() and not batch["smpl_joint_valid"][6:].any()
        studio = torch.tensor([name.startswith("studio") for name in batch["ids"][:6]])
        assert torch.equal(batch["smpl_shape_valid"][:6], studio.float())  # the street's betas are of another gender's body
    photos = Counter(name for batch in batches for name in batch["ids"][6:])
    assert len(photos) == 42 and max(photos.values()) == 1


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_the_global_batch(sets, open_body, world):
    single = run(config(sets), open_body)
    ranks = [run(config(sets), open_body, rank=rank, world_size=world) for rank in range(world)]
    half = 6 // world
    for step, whole in enumerate(single):
        parts = [rank[step] for rank in ranks]
        assert [name for cut in (slice(half), slice(half, None)) for part in parts for name in part["ids"][cut]] == whole["ids"]
        for name in ("image", "joint_img", "smpl_pose"):
            assert torch.equal(torch.cat([part[name][:half] for part in parts] + [part[name][half:] for part in parts]), whole[name])


def test_resuming_anywhere_equals_going_on_whatever_the_threads_and_caches(sets, open_body):
    whole = run(config(sets), open_body, epoch=3)
    changed = config(sets, threads=3, prefetch_batches=5, decoded_cache_mib=64, cached_instances=7)
    for start in (0, 2, 6):
        resumed = run(changed, open_body, epoch=3, start=start)
        assert len(resumed) == 7 - start and all(same(a, b) for a, b in zip(whole[start:], resumed, strict=True))
    assert not same(whole[0], run(config(sets), open_body, epoch=4)[0])
    assert not same(whole[0], run(config(sets, seed=1), open_body, epoch=3)[0])


def test_a_run_goes_through_the_epochs_without_a_break(sets, open_body):
    with BatchStream(config(sets, prefetch_batches=4), CropSpec(*HW), open_body) as stream:
        found = list(stream.run(5, 16))
    expected = [*run(config(sets), open_body, start=5), *run(config(sets), open_body, epoch=1), *run(config(sets), open_body, epoch=2)[:2]]
    assert len(found) == 11 and all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_a_second_epoch_is_the_same_from_memory(sets, open_body):
    with BatchStream(config(sets, decoded_cache_mib=64), CropSpec(*HW), open_body) as stream:
        list(stream.batches(0))
        warm = list(stream.batches(1))
    assert all(same(a, b) for a, b in zip(run(config(sets), open_body, epoch=1), warm, strict=True))


def test_a_repeated_person_is_augmented_anew(sets, open_body):
    batches = run(config(sets, mocap=("street",)), open_body)
    crops: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, image in zip(batch["ids"], batch["image"], strict=True):
            crops.setdefault(name, []).append(image)
    repeated = [images for name, images in crops.items() if name.startswith("street") and len(images) > 1]
    assert repeated and not any(torch.equal(images[0], images[1]) for images in repeated)


def test_the_crop_is_that_of_the_stored_image(sets, open_body, shard_sets, make_person):
    batch = run(config(sets, augment=AugmentConfig.off()), open_body)[0]
    for name, image in zip(batch["ids"], batch["image"], strict=True):
        dataset, key, _ = name.split("/")
        if dataset != "studio":
            continue
        number = int(key.split("-")[1])
        bgr = cv2.imdecode(np.frombuffer(shard_sets.photo(number), np.uint8), cv2.IMREAD_COLOR)
        person = make_person(seed_of("studio", number, 0), "h36m17")
        box = processed_box(person.bbox_xywh, shard_sets.image_wh, HW)
        expected = warp(np.ascontiguousarray(bgr[:, :, ::-1]), crop_affine(box, HW), HW)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def test_spins_square_crop_is_served_by_the_same_path(sets, open_body, shard_sets, make_person):
    """Pixels and joint targets of the square 1.2 times the longer side, each computed here from the photograph and the annotation."""
    side = 96
    with BatchStream(config(sets, augment=AugmentConfig.off()), CropSpec(side, side, "spin"), open_body) as stream:
        batch = next(iter(stream.batches(0)))
    assert batch["image"].shape[1:] == (3, side, side)
    studio = [(i, int(name.split("/")[1].split("-")[1])) for i, name in enumerate(batch["ids"]) if name.startswith("studio")]
    assert studio
    for i, number in studio:
        person = make_person(seed_of("studio", number, 0), "h36m17")
        x, y, w, h = person.bbox_xywh
        zoom = side / (1.2 * max(w, h))
        affine = np.array([[zoom, 0, side / 2 - zoom * (x + w / 2)], [0, zoom, side / 2 - zoom * (y + h / 2)]])
        bgr = cv2.imdecode(np.frombuffer(shard_sets.photo(number), np.uint8), cv2.IMREAD_COLOR)
        expected = cv2.warpAffine(bgr, affine, (side, side))[:, :, ::-1]
        assert np.abs(batch["image"][i].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2
        source, target = shared_joints("h36m17", "pose2pose33")
        cells = (np.array(person.joints_img)[list(source)] * zoom + affine[:, 2]) * [6 / side, 8 / side]
        np.testing.assert_allclose(batch["joint_img"][i, list(target), :2].numpy(), cells, atol=1e-3)


def test_a_truncated_photograph_costs_only_its_own_people(sets, open_body):
    loading = config(sets, itw=("broken",), augment=AugmentConfig(colour=0))
    with BatchStream(loading, CropSpec(*HW), open_body) as stream:
        batches = list(stream.batches(0)) + list(stream.batches(1))
        assert list(stream.rejected) == ["broken/broken-0002"] and "cut short" in stream.rejected["broken/broken-0002"]
    lost = 0
    for batch in batches:
        for i, name in enumerate(batch["ids"]):
            bad = "broken-0002" in name
            lost += bad
            assert batch["image"][i].any() != bad and batch["joint_valid"][i].any() != bad and batch["joint_trunc"][i].any() != bad
    assert lost > 0


def test_supervision_can_be_limited_to_2d(sets, open_body):
    loading = config(sets, mocap=("studio",)).model_copy(update={"itw": (SourceConfig(url=sets["street"], supervise="2d"),)})
    for batch in run(loading, open_body):
        assert not batch["is_3d"][6:].any() and not batch["smpl_joint_valid"][6:].any() and not batch["smpl_pose_valid"][6:].any()
        assert batch["joint_valid"][6:].any() and batch["is_3d"][:6].all()


@pytest.mark.parametrize("rule, taught", [("joints_only", False), ("betas_too", True), ("neutral", True)])
def test_betas_of_another_gender_are_taught_by_the_sources_rule(sets, open_body, rule: str, taught: bool):
    loading = config(sets).model_copy(update={"mocap": (SourceConfig(url=sets["street"], gendered_shape=rule),)})
    for batch in run(loading, open_body):
        assert (batch["smpl_shape_valid"][:6] == taught).all() and batch["smpl_shape"][:6].any() == taught
        assert batch["smpl_pose_valid"][:6].all() and batch["smpl_joint_valid"][:6].all()


def test_pseudo_gt_supervises_the_photographs(sets, open_body, shard_sets, tmp_path):
    def annotate(sample, instance):
        x, y, w, h = instance.bbox_xywh
        pose = [np.pi, 0.0, 0.0] + [0.05] * 69
        return {"pose": pose, "betas": [0.2] * 10, "transl": [0.0, 0.0, 30.0], "focal": [12 * h, 12 * h], "princpt": [x + w / 2, y + h / 2]}

    shard_sets.release(tmp_path, sets["photos"], open_body, annotate)
    joined = SourceConfig(url=sets["photos"], release=f"{tmp_path}#test")
    loading = config(sets).model_copy(update={"itw": (joined,)})
    with BatchStream(loading, CropSpec(*HW), open_body) as stream:
        assert "release/test/v1" in stream.digests
        for batch in stream.batches(0):
            itw = slice(6, 12)
            assert not batch["is_3d"][itw].any() and not batch["joint_cam"][itw].any()
            assert batch["smpl_joint_valid"][itw].all() and batch["smpl_pose_valid"][itw].all() and batch["smpl_shape_valid"][itw].all()
            assert torch.allclose(batch["smpl_shape"][itw], torch.tensor(0.2))
            assert batch["smpl_joint_trunc"][itw].mean() > 0.6 and batch["joint_valid"][itw].any()


def test_two_sets_of_one_name_are_both_on_record(sets, open_body, shard_sets, make_person, tmp_path):
    person = make_person(1, "coco17", False)
    more = shard_sets.write(tmp_path / "more", "photos", [[(shard_sets.sample("photos", 99, [person]), shard_sets.photo(9))]], "itw2d")
    twice = (*config(sets).itw, SourceConfig(url=more), SourceConfig(url=sets["photos"]))
    with BatchStream(config(sets).model_copy(update={"itw": twice}), CropSpec(*HW), open_body) as stream:
        photos = {name: digest for name, digest in stream.digests.items() if "/photos/" in name}
        other = stream.sources[-2].shard_set.digest
    assert photos == {"shard_set/photos/train": stream.sources[-1].shard_set.digest, f"shard_set/photos/train@{other[:12]}": other}


def test_a_release_of_another_body_is_refused(sets, open_body, shard_sets, tmp_path):
    class Other:
        name, digest = "open", "f" * 64

    shard_sets.release(
        tmp_path,
        sets["photos"],
        Other(),
        lambda *_: {"pose": [0.0] * 72, "betas": [0.0] * 10, "transl": [0.0, 0, 3], "focal": [1.0, 1], "princpt": [0.0, 0]},
    )
    joined = SourceConfig(url=sets["photos"], release=f"{tmp_path}#test")
    with pytest.raises(ReleaseError, match="same body"):
        BatchStream(config(sets).model_copy(update={"itw": (joined,)}), CropSpec(*HW), open_body)


def test_one_half_alone_fills_the_batch(sets, open_body):
    batches = run(config(sets, mocap=()), open_body)
    assert len(batches) == 3 and all(len(batch["ids"]) == 12 for batch in batches)


def test_a_batch_that_cannot_be_cut_is_refused(sets, open_body):
    with pytest.raises(ConfigError, match="multiple of 8"):
        BatchStream(config(sets), CropSpec(*HW), open_body, world_size=4)


def test_leaving_early_and_closing_end_the_threads(sets, open_body):
    before = threading.active_count()
    with BatchStream(config(sets, threads=2, prefetch_batches=4), CropSpec(*HW), open_body) as stream:
        for _ in range(3):
            stream_batches = stream.batches(0)
            next(stream_batches)
            stream_batches.close()
        assert len(list(stream.batches(0))) == 7
    assert threading.active_count() == before


def test_a_damaged_shard_stops_the_training_loop_with_its_name(sets, open_body, shard_sets, make_person, tmp_path):
    url = shard_sets.write(tmp_path, "itw", [[(shard_sets.sample("itw", i, [make_person(i)]), shard_sets.photo(i)) for i in range(8)]])
    with BatchStream(config(sets).model_copy(update={"itw": (SourceConfig(url=url),)}), CropSpec(*HW), open_body) as stream:
        tar = tmp_path / "shards" / "000000.tar"
        tar.write_bytes(tar.read_bytes()[:-100])
        with pytest.raises(ShardCorrupt, match=r"000000\.tar"):
            list(stream.batches(0))
