"""Pickles: numpy data of any age comes through, anything that names code is refused before it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from engine.datasets.pickles import read_pickle
from engine.errors import RawDataError, UnsafeInput
from engine.synthetic.threedpw import python2_pickle


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_values_and_containers_come_through(tmp_path: Path, protocol: int) -> None:
    value = {
        "f8": np.arange(6.0).reshape(2, 3),
        "f4": np.float32(1.5),
        "bool": np.array([True, False]),
        "fortran": np.asfortranarray(np.eye(3)),
        "objects": np.array([[1, "a"], None], dtype=object),
        "bytes": b"\xff\x00",
        "set": {1, 2},
        "nested": [("x", 1.0), {"y": np.int64(3)}],
    }
    found = read_pickle(_write(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert found.keys() == value.keys()
    for key in ("f8", "f4", "bool", "fortran", "objects"):
        np.testing.assert_array_equal(found[key], value[key])
    assert (found["bytes"], found["set"], found["nested"]) == (value["bytes"], value["set"], value["nested"])


def test_a_python_2_pickle_of_an_array(tmp_path: Path) -> None:
    """Bytes as Python 2 and numpy 1 wrote them: array([1., 2.]) in protocol 2, data as a raw str."""
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + np.array([1.0, 2.0]).tobytes() + b"tb."
    )
    np.testing.assert_array_equal(read_pickle(_write(tmp_path, data)), [1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "touch {marker}"), "posix.system"),
        (Call(eval, "1"), "builtins.eval"),
        (Call(getattr, "x", "load"), "builtins.getattr"),
        (Call(np.load, "x.npy"), "numpy.load"),
        (Call(os.open, "x", 0), "posix.open"),
    ],
)
def test_a_hostile_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, call: Call, name: str) -> None:
    marker = tmp_path / "ran"
    call.call = (call.call[0], tuple(a.format(marker=marker) if isinstance(a, str) else a for a in call.call[1]))
    path = _write(tmp_path, pickle.dumps({"poses": np.zeros(3), "x": call}))
    with pytest.raises(UnsafeInput, match=name) as error:
        read_pickle(path)
    assert str(path) in str(error.value)
    assert not marker.exists()


def test_allowed_names_cannot_be_bent(tmp_path: Path) -> None:
    codec = Call(__import__("_codecs").encode, "x", "zlib")
    with pytest.raises(UnsafeInput, match="codec 'zlib'"):
        read_pickle(_write(tmp_path, pickle.dumps(codec)))
    huge = Call(np._core.multiarray._reconstruct, np.ndarray, (1 << 40,), b"b")
    with pytest.raises(UnsafeInput, match="shape"):
        read_pickle(_write(tmp_path, pickle.dumps(huge)))


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps({"a": np.zeros(100)})[:60]])
def test_a_broken_pickle_says_so(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RawDataError, match="not a readable pickle"):
        read_pickle(_write(tmp_path, data))


def test_python_2_s_default_protocol(tmp_path: Path) -> None:
    """Protocol 0 is text; bytes beyond it are escaped, as in UP-3D's fits."""
    value = {"pose": np.linspace(-3, 3, 72), "f": 5000.0, "rt": np.zeros(3), "name": "it's \xe9"}
    data = python2_pickle(value, protocol=0)
    assert data.startswith(b"(d") and b"cnumpy.core.multiarray\n_reconstruct" in data
    found = read_pickle(_write(tmp_path, data))
    np.testing.assert_array_equal(found["pose"], value["pose"])
    assert (found["f"], found["name"]) == (5000.0, value["name"])


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop.pkl").symlink_to("loop.pkl")
    for path in (tmp_path, tmp_path / "loop.pkl"):
        with pytest.raises(RawDataError, match=str(path)):
            read_pickle(path)
