import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from engine.errors import MissingInput, ReleaseError, ShardCorrupt
from engine.loading.sources import Source, SourceConfig
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.store import open_release
from schemas.crops import CropSpec

CROP = CropSpec(128, 96)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, shard_sets, make_person) -> str:
    shards = [
        [
            (
                shard_sets.sample("itw", s * 4 + i, [make_person(10 * (4 * s + i) + k, "coco17", False) for k in range(1 + i % 3)]),
                shard_sets.photo(i),
            )
            for i in range(4)
        ]
        for s in range(3)
    ]
    return shard_sets.write(tmp_path_factory.mktemp("itw"), "itw", shards, "itw2d")


@pytest.fixture(scope="module")
def release_root(tmp_path_factory, shard_sets, photographs, open_body):
    """Pseudo-GT whose translation tells the person; every fourth person of an odd number is missing."""
    root = tmp_path_factory.mktemp("releases")

    def annotate(sample, instance):
        number = int(instance.annotation_id[1:])
        if number % 20 == 11 or sample.key.endswith("0004"):
            return None
        return {"pose": [0.01] * 72, "betas": [0.1] * 10, "transl": [number, 0.0, 30.0], "focal": [900.0, 900.0], "princpt": [200.0, 150.0]}

    shard_sets.release(root, photographs, open_body, annotate)
    return root


def test_a_source_without_a_release_uses_every_instance(tmp_path, photographs):
    source = Source(SourceConfig(url=photographs), str(tmp_path), CROP, 100)
    assert source.instances == 21 and source.without_row == 0
    assert [shard.tolist() for shard in source.shape.instances_per_shard] == [[1, 2, 3, 1]] * 3
    records, ids = source.records(5)
    assert ids == ["itw/itw-0005/p50", "itw/itw-0005/p51"] and (records["joints_valid"].sum(axis=1) == 18).all()
    assert source.image(5)[:3] == b"\xff\xd8\xff"
    assert set(source.digests) == {"shard_set/itw/train"}
    source.close()


def test_records_are_the_same_from_memory_and_from_the_shard(tmp_path, photographs):
    kept, parsed = (Source(SourceConfig(url=photographs), str(tmp_path), CROP, n) for n in (4, 0))
    for _ in range(2):
        for sample in range(12):
            (a, ids_a), (b, ids_b) = kept.records(sample), parsed.records(sample)
            assert ids_a == ids_b and a.tobytes() == b.tobytes()


def test_joining_a_release_keeps_the_persons_with_a_row(tmp_path, photographs, release_root):
    config = SourceConfig(url=photographs, release=f"{release_root}#test")
    source = Source(config, str(tmp_path), CROP, 100)
    missing = {"p11", "p31", "p51", "p71", "p91", "p111"}  # p11, p31 ... exist only where an image has two persons
    everybody = {
        name.rsplit("/", 1)[1]
        for sample in range(12)
        for name in Source(SourceConfig(url=photographs), str(tmp_path), CROP, 0).records(sample)[1]
    }
    expected = {name for name in everybody if name not in missing and name != "p40"}
    found = {}
    for sample in range(12):
        records, ids = source.records(sample)
        assert len(records) == source.shape.instances_per_shard[sample // 4][sample % 4]
        found |= {name.rsplit("/", 1)[1]: row for name, row in zip(ids, records, strict=True)}
    assert set(found) == expected and source.without_row == len(everybody) - len(expected)
    for name, row in found.items():
        assert row["transl"][0] == int(name[1:]) and row["has_fit"] == 1 and row["is_3d"] == 0 and np.allclose(row["focal"], 900)
    assert set(source.digests) == {"shard_set/itw/train", "release/test/v1"}
    assert source.release.digest in source.shape.digest


def test_joining_a_derived_release_leaves_out_what_its_filter_left_out(tmp_path, photographs, release_root):
    shutil.copytree(release_root, tmp_path / "store")
    parent = open_release(str(tmp_path / "store"), "test")
    derive(parent, "part", Expression("annotation_id in ['p0', 'p21', 'p70', 'p110', 'p11']", "truth"))
    whole, part = (
        Source(SourceConfig(url=photographs, release=f"{tmp_path}/store#{name}"), str(tmp_path), CROP, 100) for name in ("test", "part")
    )
    found = {}
    for sample in range(12):
        records, ids = part.records(sample)
        found |= dict(zip(ids, records, strict=True))
        there = dict(zip(*reversed(whole.records(sample)), strict=True))
        assert all(record.tobytes() == there[name].tobytes() for name, record in zip(ids, records, strict=True))
    assert {name.rsplit("/", 1)[1] for name in found} == {"p0", "p21", "p70", "p110"}
    assert part.instances == 4 and part.without_row == whole.without_row + whole.instances - 4
    assert part.shape.digest != whole.shape.digest


def test_a_release_of_other_shards_is_refused(tmp_path, shard_sets, make_person, release_root):
    other = shard_sets.write(tmp_path / "other", "itw", [[(shard_sets.sample("itw", 0, [make_person(0)]), shard_sets.photo(9))]])
    with pytest.raises(ReleaseError):
        Source(SourceConfig(url=other, release=f"{release_root}#test"), str(tmp_path), CROP, 100)


def test_what_is_missing_or_damaged_is_named(tmp_path, shard_sets, make_person):
    with pytest.raises(MissingInput):
        Source(SourceConfig(url=str(tmp_path / "nowhere")), str(tmp_path), CROP, 100)
    url = shard_sets.write(tmp_path / "set", "itw", [[(shard_sets.sample("itw", 0, [make_person(0)]), shard_sets.photo(9))]])
    tar = tmp_path / "set" / "shards" / "000000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(bytes(data))
    source = Source(SourceConfig(url=url), str(tmp_path), CROP, 100)
    with pytest.raises(ShardCorrupt, match="sha256"):
        source.image(0)


def test_a_config_that_contradicts_itself_is_refused():
    with pytest.raises(ValidationError, match="ROOT#NAME"):
        SourceConfig(url="x", release="y")
    with pytest.raises(ValidationError, match="leave out"):
        SourceConfig(url="x", release="y#z", supervise="2d")
    with pytest.raises(ValidationError, match="no release is given"):
        SourceConfig(url="x", take="score > 0.5")
    with pytest.raises(ValidationError, match="unknown name 'scor'"):
        SourceConfig(url="x", release="y#z", take="scor > 0.5")
    with pytest.raises(ValidationError, match="expected a number"):
        SourceConfig(url="x", release="y#z", loss_weight="score > 0.5")


def test_a_filter_takes_rows_and_a_weight_counts_them(tmp_path, photographs, release_root):
    wanted = SourceConfig(
        url=photographs, release=f"{release_root}#test@v1", take="annotation_id not in ['p0', 'p10']", loss_weight="1 / (1 + valid_joints)"
    )
    source, plain = (
        Source(config, str(tmp_path), CROP, 100) for config in (wanted, SourceConfig(url=photographs, release=f"{release_root}#test"))
    )
    assert (source.instances, source.not_taken, source.without_row) == (plain.instances - 2, 2, plain.without_row)
    assert source.shape.digest != plain.shape.digest, "other rows are another order"
    rows = {row["annotation_id"]: row for row in plain.release.table().to_pylist()}
    for sample in range(12):
        for row, name in zip(*source.records(sample), strict=True):
            person = name.rsplit("/", 1)[1]
            assert person not in ("p0", "p10") and np.isclose(row["fit_weight"], 1 / (1 + rows[person]["valid_joints"]))
    assert all(row["fit_weight"] == 1 for sample in range(12) for row in plain.records(sample)[0])


def test_a_weight_that_is_none_is_told_with_its_person(tmp_path, photographs, release_root):
    config = SourceConfig(url=photographs, release=f"{release_root}#test", loss_weight="score - 2")
    with pytest.raises(ReleaseError, match=r"loss_weight 'score - 2' is -\d.* for itw-0000/p0"):
        Source(config, str(tmp_path), CROP, 100)


def test_a_remote_shard_set_is_read_through_verified_local_copies(tmp_path, photographs):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(photographs, "/loading-remote", recursive=True)
    remote, local = (Source(SourceConfig(url=url), str(tmp_path / "cache"), CROP, 100) for url in ("memory://loading-remote", photographs))
    assert not (tmp_path / "cache").exists()  # fetched when first needed
    for sample in range(12):
        assert remote.image(sample) == local.image(sample)
        assert remote.records(sample)[0].tobytes() == local.records(sample)[0].tobytes()
    assert len(list((tmp_path / "cache").iterdir())) == 3
    memory.rm("/loading-remote", recursive=True)
