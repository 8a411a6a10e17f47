"""Shards read back: whole and exact, by any reader, and no damage goes unseen."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MissingInput, ShardCorrupt
from engine.shards.ingest import ingest
from engine.shards.reader import open_shard_set, read_at, read_samples, read_verified_samples
from engine.shards.staging import Staging
from engine.shards.tar import header, members
from engine.shards.writer import write_shard
from schemas.manifests import ShardIndexRow, ShardPlan
from schemas.records import sha256_hex
from schemas.sample import Instance, Sample


def _sample(key: str, persons: int = 1) -> Sample:
    person = {"bbox_xywh": (1, 2, 3, 4), "skeleton": "coco17", "joints_img": ((1.0, 2.0),) * 17, "joints_valid": (True,) * 17}
    instances = tuple(Instance(annotation_id=str(p), **person) for p in range(persons))
    return Sample(key=key, dataset="coco", image_path=f"{key}.jpg", width=10, height=10, instances=instances)


SAMPLES = [(_sample(f"k{i}", i % 3), bytes([i]) * (400 + 97 * i), "png" if i % 4 == 0 else "jpg") for i in range(10)]
TAR, INDEX = write_shard(SAMPLES)
PLAN = ShardPlan(index=0, url="memory://x/000000.tar", sha256=sha256_hex(TAR), size_bytes=len(TAR), samples=10, instances=9)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_samples(TAR, PLAN) == [(sample, image) for sample, image, _ in SAMPLES]
    path = tmp_path / "shard.tar"
    path.write_bytes(TAR)
    rows = [ShardIndexRow.model_validate_json(line) for line in INDEX.splitlines()]
    assert [read_at(path, row) for row in rows] == read_samples(TAR)
    assert [row.instances for row in rows] == [i % 3 for i in range(10)]


@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from(["jpg", "png"]), st.integers(0, 3)), max_size=8))
def test_a_tar_is_what_webdataset_writes(images: list[tuple[int, str, int]]) -> None:
    samples = [(_sample(f"k{i}", persons), bytes([i + 1]) * size, kind) for i, (size, kind, persons) in enumerate(images)]
    out = io.BytesIO()
    with webdataset.TarWriter(out, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
        for sample, image, kind in samples:
            tar.write({"__key__": sample.key, kind: image, "json": sample.to_bytes()})
    data, index = write_shard(samples)
    assert data == out.getvalue()
    rows = [ShardIndexRow.model_validate_json(line) for line in index.splitlines()]
    assert index == b"".join(row.to_bytes() + b"\n" for row in rows)


def test_a_member_that_no_reader_would_take_is_not_written() -> None:
    for name in ("../a.jpg", "a.pkl", "a b.jpg", "k" * 97 + ".jpg", "é.jpg"):
        with pytest.raises(ValueError, match="expected <key>"):
            header(name, 5)
    assert header("k" * 96 + ".jpg", 5)


def test_bytes_depend_on_the_samples_alone() -> None:
    assert write_shard(SAMPLES[::-1]) == (TAR, INDEX)
    with tarfile.open(fileobj=io.BytesIO(TAR)) as tar:
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in tar} == {(0, 0, 0, 0o444, "")}


def test_plain_webdataset_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(TAR)
    found = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [(s["__key__"], s.get("jpg") or s.get("png"), s["json"]) for s in found] == [
        (s.key, image, s.to_bytes()) for s, image, _ in SAMPLES
    ]


def _boundaries() -> tuple[int, int, int, int]:
    """Starts of: the header of sample 5's first member, its payload, its padding, the header of its second member."""
    first, second = members(TAR)[10:12]
    return first.offset - 512, first.offset, first.offset + first.size, second.offset - 512


HEADER, PAYLOAD, PADDING, SECOND = _boundaries()


def _flip(at: int) -> bytes:
    return TAR[:at] + bytes([TAR[at] ^ 1]) + TAR[at + 1 :]


DAMAGE = {
    "cut between samples": TAR[:HEADER],
    "cut inside a sample": TAR[:SECOND],
    "cut inside a header": TAR[: HEADER + 100],
    "cut inside a payload": TAR[: PAYLOAD + 100],
    "cut inside padding": TAR[: PADDING + 3],
    "a flipped header byte": _flip(HEADER + 130),
    "a flipped payload byte": _flip(PAYLOAD + 5),
    "wrong length": TAR + b"\0" * 512,
    "another shard": write_shard(SAMPLES[:9])[0],
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_against_the_plan(damage: str) -> None:
    with pytest.raises(ShardCorrupt, match=r"memory://x/000000.tar: expected (sha256|\d+ bytes)"):
        read_samples(DAMAGE[damage], PLAN)


@pytest.mark.parametrize("damage", [d for d in DAMAGE if d not in ("a flipped payload byte", "wrong length", "another shard")])
def test_damaged_structure_is_seen_without_a_plan(damage: str) -> None:
    with pytest.raises(ShardCorrupt):
        read_samples(DAMAGE[damage])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(TAR) - 1))
def test_any_cut_is_seen_without_a_plan(end: int) -> None:
    if len(TAR) - end < 8192 and not TAR[end:].strip(b"\0") and end % 512 == 0 and end >= members(TAR)[-1].offset + 512 + 1024:
        return  # tar rounds its end mark up to 10 KiB; what follows the two zero blocks is no content
    try:
        found = read_samples(TAR[:end])
    except ShardCorrupt:
        return
    assert found == read_samples(TAR)


def _tar(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


A = _sample("a").to_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_tar(("../a.jpg", b"x"), ("../a.json", A)), "is not <key>"),
        (_tar(("/a.jpg", b"x"), ("/a.json", A)), "is not <key>"),
        (_tar(("d/a.jpg", b"x"), ("d/a.json", A)), "is not <key>"),
        (_tar(("a.pkl", b"x"), ("a.json", A)), "is not <key>"),
        (_tar(("a.jpg", b"x"), kind=tarfile.SYMTYPE), "expected a regular file"),
        (_tar(("a.jpg", b""), kind=tarfile.DIRTYPE), "regular file|is not <key>"),
        (_tar(("a.jpg", b""), ("a.json", A)), "not a plausible size"),
        (_tar(("a.jpg", b"x")), "no partner"),
        (_tar(("a.jpg", b"x"), ("b.json", A)), "side by side"),
        (_tar(("a.jpg", b"x"), ("a.png", b"x")), "side by side"),
        (_tar(("a.jpg", b"x"), ("a.json", A), ("a.jpg", b"x"), ("a.json", A)), "there twice"),
        (_tar(("b.jpg", b"x"), ("b.json", A)), "is about sample a"),
        (_tar(("a.jpg", b"x"), ("a.json", b"{}")), "is not a Sample"),
        (_tar(("a.jpg", b"x"), ("a.json", b"\xff")), "is not a Sample"),
        (_tar(("x" * 99 + ".jpg", b"x")), "is not <key>"),
    ],
)
def test_a_tar_that_is_no_shard_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ShardCorrupt, match=message):
        read_samples(data)


def test_an_absurd_size_is_refused() -> None:
    info = tarfile.TarInfo("a.json")
    info.size = 1 << 32
    with pytest.raises(ShardCorrupt, match="not a plausible size"):
        read_samples(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)


def test_counts_are_held_against_the_plan() -> None:
    with pytest.raises(ShardCorrupt, match="expected 10 samples with 8 instances, found 10 with 9"):
        read_samples(TAR, PLAN.model_copy(update={"instances": 8}))


@pytest.mark.parametrize("scheme", ["", "memory://shards-of-"])
def test_a_shard_set_is_verified_as_it_is_read(coco, ingest_config, tmp_path: Path, scheme: str) -> None:
    config = ingest_config(coco(), out=scheme + tmp_path.name)
    ingest(config)
    shard_set = open_shard_set(config.out + "/manifest.json")
    assert pickle.loads(pickle.dumps(shard_set)).digest == shard_set.digest == shard_set.manifest.digest()
    for entry in shard_set.manifest.shards:
        whole = read_samples(shard_set.fetch(entry), entry)
        path = shard_set.local_path(entry, tmp_path / "cache")
        assert [read_at(path, row) for row in shard_set.index(entry)] == whole
        plan = ShardPlan(
            index=0, url=shard_set.shard_url(entry), **entry.model_dump(include={"sha256", "size_bytes", "samples", "instances"})
        )
        with Staging().open(plan) as tar:
            assert read_verified_samples(tar, plan) == whole

    first, second, _ = shard_set.manifest.shards
    data = shard_set.store.get(first.path)
    for key, damaged in ((first.path, data[:-1] + b"x"), (second.path, data[:-512]), (first.index_path, b"{}")):
        shard_set.store.delete(key)
        shard_set.store.create(key, damaged)
    for entry, read in ((first, shard_set.fetch), (second, shard_set.fetch), (first, shard_set.index)):
        with pytest.raises(ShardCorrupt, match="fetch or ingest it again"):
            read(entry)


def test_a_damaged_copy_is_fetched_again(coco, ingest_config, tmp_path: Path) -> None:
    config = ingest_config(coco(2), out=f"memory://copies-{tmp_path.name}")
    ingest(config)
    shard_set = open_shard_set(config.out)
    (entry,) = shard_set.manifest.shards
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"{entry.sha256}.tar").write_bytes(b"half")
    assert shard_set.local_path(entry, cache).read_bytes() == shard_set.fetch(entry)
    assert [p.name for p in cache.iterdir()] == [f"{entry.sha256}.tar"]


def test_no_shard_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"no shard set .*jobs/ingest.py"):
        open_shard_set(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ShardCorrupt, match="not a manifest"):
        open_shard_set(str(tmp_path))
