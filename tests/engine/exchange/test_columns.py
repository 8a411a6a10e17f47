"""NumPy's files as streams of rows: against np.load and np.savez, and what hostile files do."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MissingInput, RawDataError, UnsafeInput
from engine.exchange import columns
from engine.exchange.columns import ColumnWriter, Npz, text


def test_a_row_put_out_of_order_comes_back_where_it_belongs(tmp_path: Path) -> None:
    writer = ColumnWriter({"pose": ("f4", (3,)), "valid": ("?", ())})
    for row in (4, 0):
        writer.put(row, {"pose": [row, 1, 2], "valid": True})
    writer.save_npz(tmp_path / "a.npz", rows=6)
    writer.save_npy(tmp_path / "a.npy", "pose", rows=6)
    writer.close()
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["valid"].tolist() == [True, False, False, False, True, False]
    assert arrays["pose"][4].tolist() == [4, 1, 2]
    assert not arrays["pose"][[1, 2, 3, 5]].any()
    assert np.array_equal(np.load(tmp_path / "a.npy"), arrays["pose"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), st.floats(width=32))))
def test_texts_and_numbers_survive(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.npz"
    writer = ColumnWriter({"value": ("f4", ())}, texts="name")
    for n, (name, value) in enumerate(rows):
        writer.put(n, {"value": value}, name)
    writer.save_npz(path)
    writer.close()
    arrays = np.load(path)
    assert arrays["name"].tolist() == [name for name, _ in rows]
    found = [
        (text(name), value)
        for chunk in Npz(path).chunks({"name": (), "value": ()}, texts=("name",))
        for name, value in zip(*chunk.values(), strict=True)
    ]
    assert [name for name, _ in found] == [name for name, _ in rows]
    assert np.array_equal([value for _, value in found], np.float32([value for _, value in rows]), equal_nan=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_chunks_are_numpys_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save, order: str) -> None:
    monkeypatch.setattr(columns, "_CHUNK_BYTES", 1000)
    pose = np.asarray(np.random.default_rng(0).normal(size=(57, 24, 3)), order=order)
    save(tmp_path / "a.npz", pose=pose, names=np.array([f"n{i}" for i in range(57)]), other=np.zeros(3))
    chunks = list(Npz(tmp_path / "a.npz").chunks({"pose": (24, 3), "names": ()}, texts=("names",)))
    assert len(chunks) > 5
    assert np.array_equal(np.concatenate([chunk["pose"] for chunk in chunks]), pose)
    assert np.concatenate([chunk["names"] for chunk in chunks])[-1] == "n56"
    np.save(tmp_path / "a.npy", pose)
    assert np.array_equal(np.concatenate([chunk[""] for chunk in Npz(tmp_path / "a.npy").chunks({"": (24, 3)})]), pose)


def _npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def _rows(path: Path, **shapes: tuple[int, ...]) -> list[dict]:
    return list(Npz(path).chunks(shapes or {"a": (2,)}))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(UnsafeInput, match="pickled code"):
        _rows(_npz(tmp_path / "a.npz", a=np.array([{}, []], object)))
    np.save(tmp_path / "a.npy", np.array([None, 1], object))
    with pytest.raises(UnsafeInput, match="pickled code"):
        list(Npz(tmp_path / "a.npy").chunks({"": ()}))


def test_arrays_of_another_shape_kind_or_length(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a.npz", a=np.zeros((5, 2)), b=np.zeros(4), c=np.array(["x"] * 5), d=np.zeros((5, 2), complex), e=np.float64(1))
    assert len(_rows(path)[0]["a"]) == 5
    with pytest.raises(RawDataError, match=r"rows of shape \(3,\)"):
        _rows(path, a=(3,))
    with pytest.raises(RawDataError, match="same length"):
        _rows(path, a=(2,), b=())
    with pytest.raises(RawDataError, match="of numbers, found"):
        _rows(path, c=())
    with pytest.raises(RawDataError, match="complex"):
        _rows(path, d=(2,))
    with pytest.raises(RawDataError, match="'e'"):
        _rows(path, e=())
    with pytest.raises(RawDataError, match="expected an array 'pose', found a, b"):
        _rows(path, pose=(72,))


def test_no_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        Npz(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"neither")
    with pytest.raises(RawDataError, match="expected NumPy's"):
        Npz(tmp_path / "a.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_and_many_flipped_bytes_are_told(tmp_path: Path, compressed: bool) -> None:
    path, wanted = tmp_path / "a.npz", np.arange(40.0).reshape(20, 2)
    (np.savez_compressed if compressed else np.savez)(path, a=wanted)
    data = path.read_bytes()
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        with pytest.raises(RawDataError):
            _rows(path)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        with suppress(RawDataError, UnsafeInput):
            assert np.array_equal(_rows(path)[0]["a"], wanted)  # a byte that nothing hangs on, such as a time of day


def test_headers_that_lie(tmp_path: Path) -> None:
    def lying(name: str, shape: tuple, kind: str = "<f8", data: bytes = b"", compress: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", compress) as archive, archive.open("a.npy", "w") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
            out.write(data)
        return tmp_path / name

    with pytest.raises(RawDataError, match="bytes for"):
        _rows(lying("few.npz", (10, 2), data=bytes(16)))
    with pytest.raises(RawDataError, match="bytes for"):
        _rows(lying("more.npz", (1, 2), data=bytes(160)))
    with pytest.raises(UnsafeInput, match="at most"):
        _rows(lying("rows.npz", (10**12, 2)))
    with pytest.raises(UnsafeInput, match="at most"):
        _rows(lying("wide.npz", (2, 10**9)))
    with pytest.raises((RawDataError, UnsafeInput)):
        _rows(lying("negative.npz", (-5, -2), data=bytes(80)))
    with pytest.raises(UnsafeInput, match="at most"):
        _rows(lying("names.npz", (1,), "<U100000000"), a=())
    with pytest.raises(RawDataError, match="compression"):
        _rows(lying("odd.npz", (1, 2), data=bytes(16), compress=zipfile.ZIP_BZIP2))


def test_a_zip_of_too_many_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for n in range(1001):
            archive.writestr(f"{n}.npy", b"")
    with pytest.raises(UnsafeInput, match="1001"):
        Npz(tmp_path / "a.npz")
