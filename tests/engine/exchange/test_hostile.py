"""Files from strangers: what is damaged costs itself or stops with a message; nothing is run, nothing leaves its folder."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import EngineError, RawDataError, ShardCorrupt
from engine.exchange.base import Fit, Unmapped
from engine.exchange.registry import format_module
from engine.exchange.webdataset_tars import npz_bytes
from tests.engine.exchange.conftest import World

GOOD = {
    "smpl_param": {"pose": [0.1] * 72, "shape": [0.2] * 10, "trans": [0, 0, 9]},
    "cam_param": {"focal": [1000, 1000], "princpt": [5, 6]},
}


def _read(name: str, path: Path) -> list[Fit | Unmapped]:
    module = format_module(name)
    return list(module.open_reader(path, module.Options(), None).fits())


def _with(**smpl: object) -> dict:
    return {**GOOD, "smpl_param": {**GOOD["smpl_param"], **smpl}}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ([1, 2], "AttributeError"),
        (None, "AttributeError"),
        (_with(pose=[0.0] * 71), "expected 72 numbers, found 71"),
        (_with(pose="lots"), "ValueError"),
        (_with(shape=None), "expected pose and shape"),
        (_with(shape={"a": 1}), "TypeError"),
        (_with(pose=[[0.0]] * 71 + [[0.0, 1.0]]), "ValueError"),
        (_with(trans=[10**400, 0, 0]), "OverflowError"),
        ({"cam_param": GOOD["cam_param"]}, "expected pose and shape"),
        ({**GOOD, "cam_param": 7}, "AttributeError"),
    ],
    ids=["list", "null", "short", "text", "absent", "mapping", "ragged", "overflow", "no smpl", "camera is a number"],
)
def test_an_odd_record_costs_itself(tmp_path: Path, record: object, problem: str) -> None:
    path = tmp_path / "x_SMPL_NeuralAnnot.json"
    path.write_text(json.dumps({"1": record, "2": GOOD}))
    odd, good = _read("neuralannot", path)
    assert isinstance(odd, Unmapped) and odd.annotation_id == "1" and odd.reason == "invalid_record" and problem in odd.message
    assert isinstance(good, Fit) and good.annotation_id == "2"
    path = tmp_path / "x_keypoints_smpl.json"
    annotation = record if isinstance(record, dict) else {"smpl_param": record}
    path.write_text(json.dumps({"images": [], "annotations": [{"id": 1, **annotation}, {"id": 2, **GOOD}, {"id": 3}, 5]}))
    found = _read("coco_json", path)
    assert [type(person) for person in found][-1] is Fit and found[-1].annotation_id == "2"
    assert all(isinstance(person, Unmapped) for person in found[:-1])


def test_what_is_tolerated(tmp_path: Path) -> None:
    """Integers for ids cannot be in JSON's keys, but nested lists, integers for numbers, other keys, NaN and a missing translation can."""
    path = tmp_path / "a.json"
    nested = {**_with(pose=[[1, 2, 3]] * 24), "fit_err": 3.5}
    bare = {"smpl_param": {"pose": [0.5] * 72, "shape": [1e9] * 10}, "cam_param": GOOD["cam_param"]}
    flat = {"pose": [0.5] * 72, "shape": [0] * 10}
    path.write_text(json.dumps({"1": nested, "2": _with(pose=[float("nan")] * 72), "3": bare, "4": flat}))
    one, two, three, four = _read("neuralannot", path)
    np.testing.assert_array_equal(one.pose_72, np.tile([1, 2, 3], 24))
    assert np.isnan(two.pose_72).all() and two.focal_2 is not None
    assert three.transl_3 is three.focal_2 is three.princpt_2 is None and three.betas_10[0] == 1e9
    assert four.focal_2 is None


@pytest.mark.parametrize("text", ["", "{", '{"1": {"smpl_param": {"pose": [0.', "[]", '{"1": 5} trailing', "\xff\xfe", '{"1" 5}'])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    for name, file in (("neuralannot", "a_SMPL_NeuralAnnot.json"), ("coco_json", "a_keypoints_smpl.json")):
        (tmp_path / file).write_bytes(text.encode("latin1"))
        with pytest.raises(RawDataError, match="expected"):
            _read(name, tmp_path / file)


def test_an_empty_folder(tmp_path: Path) -> None:
    for name in ("neuralannot", "coco_json", "webdataset", "huggingface"):
        with pytest.raises(EngineError, match="expected"):
            _read(name, tmp_path)


def _objects() -> bytes:
    out = io.BytesIO()
    np.savez(out, pose=np.array([print], dtype=object), allow_pickle=True)
    return out.getvalue()


def _bomb() -> bytes:
    """A kilobyte that says it is 100 MB of zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pose.npy", bytes(100 << 20))
    return out.getvalue()


def _huge_header() -> bytes:
    out, member = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 60, 72)})
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pose.npy", member.getvalue())
    return out.getvalue()


def _wrong_shape() -> bytes:
    sizes = {"pose": 71, "betas": 10, "transl": 3, "focal": 2, "princpt": 2}
    return npz_bytes({name: np.zeros((1, size), np.float32) for name, size in sizes.items()})


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_objects, "Python objects"),
        (_bomb, "at most"),
        (_huge_header, "expected"),
        (_wrong_shape, "expected pose of shape"),
        (lambda: b"not a zip", "expected an npz"),
        (lambda: _wrong_shape()[:-30], "expected an npz"),
        (lambda: npz_bytes({}), "expected pose of shape"),
    ],
    ids=["objects", "bomb", "huge header", "wrong shape", "no zip", "cut short", "empty"],
)
def test_an_odd_npz_costs_its_sample(world: World, tmp_path: Path, make: Callable[[], bytes], problem: str) -> None:
    world.export("webdataset", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(path) as old, tarfile.open(tmp_path / "odd.tar", "w", format=tarfile.USTAR_FORMAT) as new:
        for n, member in enumerate(old):
            data = make() if n == 2 else old.extractfile(member).read()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    odd, *rest = _read("webdataset", tmp_path / "odd.tar")
    assert isinstance(odd, Unmapped) and problem in odd.message and odd.image
    assert len(rest) > 80 and all(isinstance(person, Fit) for person in rest)


@pytest.mark.parametrize("name", ["../escaped.json", "/etc/escaped.json", "a/b.json", "a.exe", "b"])
def test_a_tar_with_other_members_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(ShardCorrupt, match=r"a\.tar: .*member name"):
        _read("webdataset", tmp_path / "a.tar")


def test_a_tar_with_a_link_or_cut_short_is_refused(world: World, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    world.export("webdataset", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.tar")
    (tmp_path / "short.tar").write_bytes(path.read_bytes()[:40000])
    (tmp_path / "empty.tar").write_bytes(b"")
    for name in ("link", "short", "empty"):
        with pytest.raises(ShardCorrupt, match=name):
            _read("webdataset", tmp_path / f"{name}.tar")


def test_parquet_that_is_none_or_odd(world: World, tmp_path: Path) -> None:
    world.export("huggingface", tmp_path / "out")
    (path,) = (tmp_path / "out" / "data").iterdir()
    data = path.read_bytes()
    (tmp_path / "short.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.parquet").write_text("hello")
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "columns.parquet")
    for name in ("short", "text", "columns"):
        with pytest.raises(RawDataError, match=name):
            _read("huggingface", tmp_path / f"{name}.parquet")
    person = {"annotation_id": "7", "pose": [0.0] * 3, "betas": None}
    pq.write_table(pa.table({"key": ["a", "b", "c"], "persons": [[person], None, []]}), tmp_path / "odd.parquet")
    (odd,) = _read("huggingface", tmp_path / "odd.parquet")
    assert (odd.annotation_id, odd.image, odd.reason) == ("7", "a", "invalid_record")
    pq.write_table(pa.table({"key": [1], "persons": [3]}), tmp_path / "numbers.parquet")
    (odd,) = _read("huggingface", tmp_path / "numbers.parquet")
    assert odd.reason == "invalid_record"


def test_parquet_with_damaged_pages(world: World, tmp_path: Path) -> None:
    """Every byte may be another: what is read is fits, or a message."""
    world.export("huggingface", tmp_path / "out", images=False)
    (path,) = (tmp_path / "out" / "data").iterdir()
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(4, len(data), 25):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        path.write_bytes(bytes(changed))
        try:
            assert all(isinstance(person, Fit | Unmapped) for person in _read("huggingface", path))
        except EngineError as error:
            assert str(path) in str(error)
