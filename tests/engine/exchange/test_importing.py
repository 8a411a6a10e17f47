"""Imports account for every instance and tell of every fit, can be cut anywhere, and refuse what belongs to another body."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError, RawDataError
from engine.exchange.importing import MOST_LEFT_OVER
from engine.releases.store import open_release
from engine.releases.verify import verify_release
from engine.shards.reader import read_samples
from engine.storage import Store
from tests.engine.exchange.conftest import World
from tests.engine.exchange.extremes import rows_of
from tests.engine.exchange.independent import compare, write_neuralannot


def _fits(world: World, folder: Path) -> tuple[Path, dict]:
    """A file of everybody, by somebody else's writer, and its content."""
    path = write_neuralannot(folder, world.persons)
    return path, json.loads(path.read_text())


def test_everybody_is_accounted_for(world: World, tmp_path: Path) -> None:
    path, fits = _fits(world, tmp_path)
    names = list(fits)
    del fits[names[0]]
    fits[names[1]]["smpl_param"]["pose"][5] = float("nan")
    fits[names[2]]["smpl_param"]["shape"] = [0.0] * 9
    fits[names[3]]["cam_param"]["focal"] = [-5, 5]
    fits[names[4]]["smpl_param"]["trans"][2] = -50.0
    fits[names[5]]["smpl_param"]["shape"] = [1e39] * 10
    fits["777777"] = fits[names[6]]
    fits["888888"] = {"smpl_param": 3}
    path.write_text(json.dumps(fits))
    release = world.load("neuralannot", path, tmp_path / "store")
    verify_release(release, deep=True)
    m = release.manifest
    assert (m.planned, m.annotated, m.skipped) == (90, 84, {"no_fit": 1})
    counts = {"behind_camera": 1, "invalid_camera": 1, "invalid_record": 1, "non_finite": 2, "unmatched_fit": 0}
    assert m.quarantined == counts
    rows = {row.annotation_id: row for row in release.quarantine()}
    assert {rows[name].reason for name in names[1:6]} == {"non_finite", "invalid_record", "invalid_camera", "behind_camera"}
    assert all(rows[name].instances == 1 for name in names[1:6])
    assert (rows["777777"].reason, rows["777777"].instances) == ("unmatched_fit", 0)
    assert (rows["888888"].reason, rows["888888"].instances) == ("invalid_record", 0)
    assert m.lineage.keys() >= {"annotator.import", "shard_set", "body", "raw"} and not any("checkpoint" in key for key in m.lineage)


def test_two_fits_of_one_person(world: World, tmp_path: Path) -> None:
    path, fits = _fits(world, tmp_path)
    name = next(iter(fits))
    other = json.dumps({**fits[name], "smpl_param": {**fits[name]["smpl_param"], "shape": [9.0] * 10}})
    path.write_text(json.dumps(fits)[:-1] + f', "{name}": {other}}}')
    release = world.load("neuralannot", path, tmp_path / "store")
    assert release.manifest.annotated == 90 and release.manifest.quarantined == {"duplicate_fit": 0}
    betas = dict(zip(release.table()["annotation_id"].to_pylist(), release.table()["betas"].to_pylist(), strict=True))
    assert betas[name] != [9.0] * 10, "the first one counts"


def test_many_fits_of_nobody(world: World, tmp_path: Path) -> None:
    path, fits = _fits(world, tmp_path)
    one = next(iter(fits.values()))
    path.write_text(json.dumps(fits | {f"nobody{n}": one for n in range(MOST_LEFT_OVER + 7)}))
    release = world.load("neuralannot", path, tmp_path / "store")
    verify_release(release, deep=True)
    rows = release.quarantine()
    assert len(rows) == MOST_LEFT_OVER + 1 and rows[-1].message == "and 7 more of the file"
    assert release.quarantined["shard"].to_pylist() == [2] * len(rows), "the last shard's"


def test_without_cameras_the_boxes_cameras_show_the_same(world: World, tmp_path: Path) -> None:
    """These persons' joints are annotated where the boxes' own virtual cameras see them: that is the translation to be found."""
    path, fits = _fits(world, tmp_path)
    for fit in fits.values():
        del fit["smpl_param"]["trans"]
    path.write_text(json.dumps(fits))
    release = world.load("neuralannot", path, tmp_path / "store")
    assert release.manifest.annotated == 90
    found = rows_of(release, world.persons)
    apart = compare(world.skin, world.persons, [found[p.name] for p in world.persons])
    assert apart.px_N.max() < 0.5 and np.median(apart.px_N) < 0.05, "what is left is float32 of the joints, at up to 56 m"
    assert apart.mm_N.max() < 0.1


def test_cut_after_a_shard_it_goes_on(world: World, tmp_path: Path) -> None:
    path, fits = _fits(world, tmp_path)
    fits["777777"] = next(iter(fits.values()))
    path.write_text(json.dumps(fits))
    whole = world.load("neuralannot", path, tmp_path / "store")
    for kept in (1, 2, 3):
        other = tmp_path / f"cut{kept}"
        shutil.copytree(tmp_path / "store", other)
        shutil.rmtree(other / "releases")
        for number in range(kept, 3):
            (other / f"runs/{whole.manifest.plan_digest}/shards/{number:06d}.json").unlink()
        again = world.load("neuralannot", path, other)
        assert again.digest == whole.digest
        verify_release(again, deep=True)


def test_submitted_again_it_does_nothing(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, fits = _fits(world, tmp_path)
    first = world.load("neuralannot", path, tmp_path / "store")
    again = world.load("neuralannot", path, tmp_path / "store")
    assert (again.digest, again.manifest.version) == (first.digest, 1) and "nothing to do" in capsys.readouterr().out
    fits.popitem()
    path.write_text(json.dumps(fits))
    assert world.load("neuralannot", path, tmp_path / "store").manifest.version == 2, "another file is another version"
    assert open_release(str(tmp_path / "store"), "them", 1).digest == first.digest


def test_another_body_is_refused(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (file,) = world.export("neuralannot", folder).files
    record = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(record | {"body": "smpl", "body_digest": "0" * 64}))
    for source in (folder, folder / file.path):
        with pytest.raises(ConfigError, match="the files belong to the body 'smpl'"):
            world.load("neuralannot", source, tmp_path / "store")
    shutil.copy(folder / file.path, folder / "mine_SMPL_NeuralAnnot.json")
    mine = folder / "mine_SMPL_NeuralAnnot.json"
    assert world.load("neuralannot", mine, tmp_path / "store", body={"kind": "open"}).manifest.annotated == 90, "not its file"


def test_nothing_says_whose_body_it_is(world: World, tmp_path: Path) -> None:
    path, _ = _fits(world, tmp_path)
    with pytest.raises(ConfigError, match=r"say --body\.kind=smpl"):
        world.load("neuralannot", path, tmp_path / "store", body=None)
    folder = tmp_path / "out"
    (file,) = world.export("neuralannot", folder).files
    (folder / file.path).rename(tmp_path / file.path)
    with pytest.raises(ConfigError, match=r"say --body\.kind=smpl"):
        world.load("neuralannot", tmp_path / file.path, tmp_path / "store", body=None)
    assert not Store(str(tmp_path / "store")).list()


def test_fits_of_nobody_are_not_published(world: World, tmp_path: Path) -> None:
    path, fits = _fits(world, tmp_path)
    first = world.load("neuralannot", path, tmp_path / "store")
    path.write_text(json.dumps({f"nobody{n}": fit for n, fit in enumerate(fits.values())}))
    with pytest.raises(RawDataError, match="found a fit for none of its 90; nothing was"):
        world.load("neuralannot", path, tmp_path / "store")
    assert open_release(str(tmp_path / "store"), "them").digest == first.digest


def test_what_is_refused_leaves_nothing(world: World, tmp_path: Path) -> None:
    path, _ = _fits(world, tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RawDataError):
        world.load("neuralannot", path, tmp_path / "store")
    path.write_bytes(b"")
    with pytest.raises(RawDataError, match="found 0 bytes"):
        world.load("neuralannot", path, tmp_path / "store")
    assert not Store(str(tmp_path / "store")).list()


def test_an_option_of_another_format_is_refused(world: World, tmp_path: Path) -> None:
    path, _ = _fits(world, tmp_path)
    with pytest.raises(ConfigError, match=r"webdataset\.\w+: an option of format 'webdataset', but the format is 'neuralannot'"):
        world.load("neuralannot", path, tmp_path / "store", webdataset={"max_shard_mb": 5})


def test_an_edited_file_is_told_from_an_exported_one(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (file,) = world.export("neuralannot", folder).files
    text = (folder / file.path).read_text()
    (folder / file.path).write_text(text.replace("0.", "1.", 1))
    with pytest.raises(RawDataError, match=r"damaged or edited since its export; remove export\.json"):
        world.load("neuralannot", folder, tmp_path / "store")
    (folder / "export.json").write_text("{}")
    with pytest.raises(RawDataError, match="expected the record of an export"):
        world.load("neuralannot", folder, tmp_path / "store")


def test_a_file_without_persons_and_a_cut_one(world: World, tmp_path: Path) -> None:
    path, _ = _fits(world, tmp_path)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(RawDataError, match="download may be incomplete"):
        world.load("neuralannot", path, tmp_path / "store")
    path.write_text("{}")
    with pytest.raises(RawDataError, match="found none"):
        world.load("neuralannot", path, tmp_path / "store")
    assert not Store(str(tmp_path / "store")).list("releases")


def test_rows_join_the_images_as_annotations_do(world: World, tmp_path: Path) -> None:
    path, _ = _fits(world, tmp_path)
    release = world.load("neuralannot", path, tmp_path / "store")
    for entry in world.shard_set.manifest.shards:
        people = {(s.key, i.annotation_id) for s, _ in read_samples(world.shard_set.fetch(entry), entry) for i in s.instances}
        rows = release.rows(entry.sha256)
        assert set(zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True)) == people


@pytest.mark.parametrize("name", ["a#b@v3", "a#b@tag", "ab"])
def test_a_name_without_a_version_is_wanted(world: World, tmp_path: Path, name: str) -> None:
    from engine.exchange.config import ImportConfig
    from engine.exchange.importing import import_release

    path, _ = _fits(world, tmp_path)
    with pytest.raises(ConfigError, match="expected ROOT#NAME"):
        import_release(ImportConfig(format="neuralannot", source=str(path), shard_set=world.shard_set.url, name=name))
