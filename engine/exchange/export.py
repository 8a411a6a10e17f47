"""Exports: a release's rows and the annotations they belong to, shard by shard, into files of another format.

A folder is written in full beside its place and moved there, or uploaded with export.json last, so that a folder with that record is
whole. Nothing grows with the number of persons but what a format itself has to hold.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa

from engine.body.config import BodyConfig
from engine.disk import disk_errors
from engine.errors import AlreadyExists, CommitConflict, ConfigError, ReleaseError, SampleRejected
from engine.exchange.base import ExportInfo, LoadBody, Person
from engine.exchange.config import ExportConfig, chosen_options
from engine.exchange.registry import format_module
from engine.exchange.sidecar import NAME, ExportRecord, describe_file
from engine.releases.parallel import in_parallel
from engine.releases.store import Release, open_reference
from engine.shards.reader import ShardSet, open_shard_set, read_samples
from engine.storage import Store
from schemas.manifests import ShardCommit, ShardEntry

_QUALITY = (
    "reprojection_error", "visible_fraction", "keypoint_similarity", "valid_joints", "latent_norm", "flip_disagreement", "truncation",
    "score",
)  # fmt: skip
_VECTORS = ("pose", "betas", "transl", "focal", "princpt", "latent")
_READ_AHEAD = 2


def export(config: ExportConfig) -> ExportRecord:
    """Write the folder `config.out`; its record.

    ConfigError when the folder is taken or the format has no writer, ReleaseError when the release is not of the shard set.
    """
    module = format_module(config.format, needs="open_writer")
    options = chosen_options(config)
    release, shard_set = open_reference(config.release), open_shard_set(config.shard_set)
    m = release.manifest
    load = body_loader(config.body, m.body, m.lineage["body"])
    if config.body != BodyConfig():
        load()
    info = ExportInfo(
        release=f"{m.name} v{m.version:04d}", digest=release.digest, dataset=m.dataset, split=m.split, body_name=m.body,
        body_digest=m.lineage["body"], annotated=m.annotated, shard_set_digest=m.lineage["shard_set"],
        load_body=load,
    )  # fmt: skip
    target = Store(config.out)
    if target.protocol == "file":
        final = Path(target.path(NAME)).parent
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise ConfigError(f"{config.out}: exists already; exports never overwrite: choose another folder or remove it")
        folder = final.parent / f".partial-{final.name}-{uuid.uuid4().hex[:12]}"
        with disk_errors(final, 0, "choose another folder"):
            try:
                folder.mkdir(parents=True)
            except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
                raise ConfigError(f"{config.out}: cannot be created: {error.strerror}: {error.filename}; choose another folder") from None
    else:
        if target.exists(NAME):
            raise ConfigError(f"{config.out}: holds an export already; exports never overwrite: choose another folder or remove it")
        folder = Path(mkdtemp(prefix="export-"))
    try:
        writer = module.open_writer(folder, options, info)
        written, skipped = 0, Counter()
        for person in persons(release, shard_set, writer.wants_images):
            try:
                writer.add(person)
                written += 1
            except SampleRejected as rejected:
                skipped[rejected.reason] += 1
        record = ExportRecord(
            format=config.format, options=options.model_dump(mode="json"), release=info.release, release_digest=info.digest,
            dataset=m.dataset, split=m.split, body=m.body, body_digest=info.body_digest, lineage=m.lineage, annotated=m.annotated,
            written=written, skipped=dict(sorted(skipped.items())), files=tuple(describe_file(folder, path) for path in writer.close()),
        )  # fmt: skip
        if written + sum(skipped.values()) != m.annotated:
            raise ReleaseError(f"{release.where}: expected {m.annotated} rows, found {written + sum(skipped.values())}")
        (folder / NAME).write_bytes(record.to_bytes() + b"\n")
        if target.protocol == "file":
            if final.exists():
                final.rmdir()
            os.rename(folder, final)
        else:
            _upload(folder, target, [*(file.path for file in record.files), NAME])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def export_command(config: ExportConfig) -> None:
    """`export`, and a line on what became of whom."""
    record = export(config)
    size = sum(file.size_bytes for file in record.files)
    left = "".join(f", {n} left out: {reason}" for reason, n in record.skipped.items())
    print(
        f"export: {record.release} as {record.format}: {record.written} of {record.annotated} persons{left}, {len(record.files)} files, "
        f"{size / 1e6:.1f} MB in {config.out}",
        flush=True,
    )


def body_loader(config: BodyConfig, name: str, digest: str) -> LoadBody:
    """Loads the body of these parameters, once. ConfigError when the config means another one."""

    @cache
    def load():
        from engine.body.smpl import load_body  # torch

        body = load_body(config)
        if (body.name, body.digest) != (name, digest):
            raise ConfigError(f"body: the release's is {name!r} with digest {digest}, the config's {body.name!r} with {body.digest}")
        return body

    return load


def persons(release: Release, shard_set: ShardSet, with_images: bool = False) -> Iterator[Person]:
    """Every row of a release with its annotation, in the release's order; a shard is read ahead.

    ReleaseError when the release was not made from the shard set, or has a row of nobody.
    """
    entries = {entry.sha256: entry for entry in shard_set.manifest.shards}

    def read(commit: ShardCommit) -> list[Person]:
        entry = entries.get(commit.source_sha256)
        if entry is None:
            raise ReleaseError(
                f"{release.where}: made from the shard set {release.manifest.lineage.get('shard_set')}; "
                f"{shard_set.url} is {shard_set.digest} and lacks the shard {commit.source_sha256}"
            )
        return list(_shard_persons(release, shard_set, entry, with_images)) if commit.annotated else []

    for found in in_parallel(read, release.commits(), _READ_AHEAD):
        yield from found


def _shard_persons(release: Release, shard_set: ShardSet, entry: ShardEntry, with_images: bool) -> Iterator[Person]:
    rows = release.rows(entry.sha256)
    samples = {sample.key: (sample, image if with_images else None) for sample, image in read_samples(shard_set.fetch(entry), entry)}
    vectors = [_matrix(rows[name]) for name in _VECTORS]
    quality = [rows[name].to_numpy() for name in _QUALITY]
    for i, (key, identity) in enumerate(zip(rows["key"].to_pylist(), rows["annotation_id"].to_pylist(), strict=True)):
        sample, image = samples.get(key, (None, None))
        instance = next((found for found in sample.instances if found.annotation_id == identity), None) if sample else None
        if instance is None:
            raise ReleaseError(f"{release.where}: a row of person {identity} of sample {key}, who is not in {shard_set.shard_url(entry)}")
        pose, betas, transl, focal, princpt, latent = (values[i] for values in vectors)
        figures = {name: values[i].item() for name, values in zip(_QUALITY, quality, strict=True)}
        yield Person(sample, instance, pose, betas, transl, focal, princpt, figures, latent, image)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)


def _upload(folder: Path, target: Store, paths: list[str]) -> None:
    """Create every file; one that an interrupted upload left is accepted if it is the same."""
    for path in paths:
        try:
            target.create_file(path, folder / path)
        except AlreadyExists:
            if target.get(path) != (folder / path).read_bytes():
                raise CommitConflict(f"{target.url}/{path}: holds other bytes than this export made; choose another folder") from None
