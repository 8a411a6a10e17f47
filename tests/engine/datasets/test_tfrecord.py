"""TFRecord files and Examples against TensorBoard's records and Google's protobuf; hostile files cost an error."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.summary.writer.record_writer import RecordWriter

from engine.datasets import tfrecord
from engine.datasets.tfrecord import Example, masked_crc32c, records
from engine.errors import MissingInput, RawDataError
from engine.synthetic.layouts.tfrecord import encode_example, write_records

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=32, allow_nan=False)
FEATURE = st.one_of(
    st.tuples(st.just("int64"), st.lists(INT64, max_size=12)),
    st.tuples(st.just("float"), st.lists(FLOAT, max_size=12)),
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=300), max_size=5)),
)
FEATURES = st.dictionaries(st.text(max_size=12), FEATURE, max_size=6)


def _example_type(packed: bool = True) -> Any:
    """tensorflow/core/example/{feature,example}.proto, described to protobuf here; `packed` as the numbers are written."""
    file = descriptor_pb2.FileDescriptorProto(name=f"example_{packed}.proto", package=f"p{int(packed)}", syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    prefix = f".p{int(packed)}."

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    for name, scalar in (("BytesList", kind.TYPE_BYTES), ("FloatList", kind.TYPE_FLOAT), ("Int64List", kind.TYPE_INT64)):
        value = message(name).field.add(name="value", number=1, type=scalar, label=kind.LABEL_REPEATED)
        if scalar != kind.TYPE_BYTES:
            value.options.packed = packed
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, inner) in enumerate((("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1):
        feature.field.add(name=name, number=number, type=kind.TYPE_MESSAGE, type_name=prefix + inner, label=1, oneof_index=0)
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=kind.TYPE_MESSAGE, type_name=prefix + "Feature", label=1)
    features.field.add(name="feature", number=1, type=kind.TYPE_MESSAGE, type_name=prefix + "Features.FeatureEntry", label=3)
    message("Example").field.add(name="features", number=1, type=kind.TYPE_MESSAGE, type_name=prefix + "Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{prefix[1:]}Example"))


PACKED, UNPACKED = _example_type(True), _example_type(False)


def _example(data: bytes) -> Example:
    return Example(memoryview(data))


def _values(example: Example, data: bytes, name: str, kind: str, count: int) -> list:
    if kind == "bytes":
        return [data[a:b] for a, b in example.spans(name, count)]
    return (example.floats if kind == "float" else example.ints)(name, (count,)).tolist()


@settings(max_examples=80, deadline=None)
@given(features=FEATURES, packed=st.booleans())
def test_what_protobuf_writes_is_read(features: dict[str, tuple[str, list]], packed: bool) -> None:
    message = (PACKED if packed else UNPACKED)()
    for name, (kind, values) in features.items():
        getattr(message.features.feature[name], f"{kind}_list").value.extend(values)
        getattr(message.features.feature[name], f"{kind}_list").SetInParent()
    data = message.SerializeToString()
    example = _example(data)
    assert set(example) == set(features)
    for name, (kind, values) in features.items():
        assert name in example
        assert _values(example, data, name, kind, len(values)) == values
        with pytest.raises(RawDataError, match="expected"):
            _values(example, data, name, kind, len(values) + 1)


@settings(max_examples=60, deadline=None)
@given(features=FEATURES)
def test_protobuf_reads_what_the_writer_writes(features: dict[str, tuple[str, list]]) -> None:
    dtypes = {"int64": np.int64, "float": np.float32}
    data = encode_example({name: v if kind == "bytes" else np.array(v, dtypes[kind]) for name, (kind, v) in features.items()})
    message = PACKED.FromString(data)
    assert set(message.features.feature) == set(features)
    for name, (kind, values) in features.items():
        assert list(getattr(message.features.feature[name], f"{kind}_list").value) == values


@settings(max_examples=150, deadline=None)
@given(features=FEATURES, cut=st.integers(0, 400), flip=st.integers(0, 400), value=st.integers(0, 255))
def test_damage_is_an_error_or_other_values_and_nothing_else(features: dict, cut: int, flip: int, value: int) -> None:
    message = PACKED()
    for name, (kind, values) in features.items():
        getattr(message.features.feature[name], f"{kind}_list").value.extend(values)
    data = bytearray(message.SerializeToString()[: cut or None])
    if data:
        data[flip % len(data)] = value
    try:
        example = _example(bytes(data))
    except RawDataError:
        return
    for name in example:
        for read in (example.floats, example.ints):
            with contextlib.suppress(RawDataError):
                assert read(name, (3,)).shape == (3,)
        with contextlib.suppress(RawDataError):
            assert all(0 <= a <= b <= len(data) for a, b in example.spans(name))


def test_later_entries_and_kinds_count_and_parts_of_a_list_are_joined() -> None:
    def entry(name: str, *lists: tuple[int, bytes]) -> bytes:
        feature = b"".join(bytes([number << 3 | 2, len(values)]) + values for number, values in lists)
        inner = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(feature)]) + feature
        return b"\x0a" + bytes([len(inner)]) + inner

    def message(*entries: bytes) -> bytes:
        joined = b"".join(entries)
        return b"\x0a" + bytes([len(joined)]) + joined

    packed = b"\x0a\x02\x07\x08"
    data = message(
        entry("a", (3, packed)), entry("b", (2, b"\x0a\x00"), (3, packed), (3, b"\x08\x09")), entry("a", (3, b"\x08\x05")), b"\x10\x05"
    )
    data += message(entry("c"))
    reference = PACKED.FromString(data)
    assert list(reference.features.feature["b"].int64_list.value) == [7, 8, 9]
    example = _example(data)
    assert example.ints("b", (3,)).tolist() == [7, 8, 9]
    assert example.ints("a", (1,)).tolist() == list(reference.features.feature["a"].int64_list.value) == [5]
    assert "c" not in example and "d" not in example and "b" in example


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a" + b"\xff" * 12, "more than 10 bytes"),
        (b"\x0a\xff", "does not end"),
        (b"\x0a\x05\x0a\x09abc", "ends at byte"),
        (b"\x0a\x04\x0a\x02\x12\x07", "ends at byte"),
        (b"\x08\x01", "expected wire type 2 for Features"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x02\x00", "field 0"),
        (b"\x0a\x05\x0a\x03\x0a\x01\xff", "UTF-8"),
        (b"\x0a\x0a\x0a\x08\x12\x06\x12\x04\x08\x01\x08\x01", "a list of float holds an item of wire type 0"),
    ],
)
def test_a_hostile_message_says_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(RawDataError, match=message):
        _example(data)


def test_a_feature_of_another_kind_or_size_is_named() -> None:
    data = encode_example({"n": np.array([1, -1]), "x": np.zeros((2, 3)), "image": [b"a"]})
    example = _example(data)
    assert example.ints("n", (2,)).tolist() == [1, -1] and example.floats("x", (2, 3)).dtype == np.float32
    for ask, message in (
        (lambda: example.ints("x", (6,)), "feature x: expected a list of int64, found float"),
        (lambda: example.floats("nothing", (1,)), "feature nothing: expected a list of float, found none"),
        (lambda: example.floats("x", (2, 2)), "feature x: expected 4 floats, found 6"),
        (lambda: example.ints("n", (1,)), "feature n: expected 1 integers, found another number"),
        (lambda: example.ints("n", (3,)), "feature n: expected 3 integers, found 2"),
        (lambda: example.spans("image", 2), "feature image: expected 2 byte strings, found 1"),
    ):
        with pytest.raises(RawDataError, match=message):
            ask()
    with pytest.raises(RawDataError, match="does not end"):
        _example(encode_example({"n": np.array([1])})[:-1] + b"\x81").ints("n", (1,))


def test_a_message_of_too_many_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "MAX_FIELDS", 100)
    with pytest.raises(RawDataError, match="more than 100 fields"):
        _example(encode_example({"image": [b""] * 200}))


def test_records_are_those_of_another_reader_and_writer(tmp_path: Path) -> None:
    payloads = [b"", b"one", bytes(range(256)) * 5, b"\0" * 7]
    path = tmp_path / "ours.tfrecord"
    assert write_records(path, payloads) == 4
    reader, theirs = PyRecordReader_New(str(path)), []
    for _ in payloads:
        reader.GetNext()
        theirs.append(reader.record())
    assert theirs == payloads
    with open(tmp_path / "theirs.tfrecord", "wb") as file:
        writer = RecordWriter(file)
        for payload in payloads:
            writer.write(payload)
    data = (tmp_path / "theirs.tfrecord").read_bytes()
    assert data == path.read_bytes()
    found = list(records(tmp_path / "theirs.tfrecord"))
    assert [bytes(r.payload) for r in found] == payloads == [data[r.offset : r.offset + len(r.payload)] for r in found]
    assert all(r.intact for r in found) and [r.number for r in found] == [0, 1, 2, 3]


def test_the_checksum_is_that_of_rfc_3720() -> None:
    for data, crc in ((b"\0" * 32, 0x8A9136AA), (b"123456789", 0xE3069283), (b"", 0)):
        assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def _head(length: int) -> bytes:
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", masked_crc32c(head))


def test_a_broken_sequence_of_records_ends_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    write_records(path, [b"x" * 40, b"y" * 40])
    whole = path.read_bytes()

    def read(data: bytes) -> list[bytes]:
        path.write_bytes(data)
        return [bytes(r.payload) for r in records(path) if r.intact]

    for data, message in (
        (whole[:-1], "record 1 has 40 bytes, the file ends before"),
        (whole[:60], "ends within the header of record 1"),
        (whole[:56] + b"\x29" + whole[57:], "the length of record 1 fails its checksum; the file is damaged at byte 56"),
        (gzip.compress(whole), "is gzip-compressed"),
        (b"<html>not found</html>", "it is no TFRecord file"),
        (_head(1 << 50) + b"x" * 90, "at most"),
        (_head(1 << 20) + b"x" * 90, "the file ends before"),
    ):
        with pytest.raises(RawDataError, match=message):
            read(data)
    assert read(whole[:20] + b"!" + whole[21:]) == [b"y" * 40]
    assert read(b"") == []
    with pytest.raises(MissingInput, match="cannot be read"):
        list(records(tmp_path / "absent.tfrecord"))
