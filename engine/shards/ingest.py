"""A raw dataset's split to a shard set: every person found is in a shard, skipped with a reason or quarantined with a reason.

A shard is a run of the dataset's images in the order of their keys, cut before anything is known of their bytes, so
shards do not depend on one another, on the number of workers or on how far an earlier run came. The manifest is
written last: without it there is no shard set, and submitting again completes one. With it, nothing is done.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import Field

from engine.config import Config
from engine.datasets.base import DatasetConfig, RawDataset, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import AlreadyExists, CommitConflict, MissingInput, RawDataError, SampleRejected
from engine.shards.images import ImageConfig, settle
from engine.shards.person_crops import Crop, PersonCropConfig, person_crops
from engine.shards.reader import MANIFEST, open_shard_set
from engine.shards.writer import write_shard
from engine.storage import Store, join
from schemas.manifests import QuarantineRow, ShardEntry, ShardSetManifest
from schemas.records import canonical_json, sha256_hex
from schemas.sample import Sample


class IngestConfig(Config):
    """One split of a raw dataset to one shard set."""

    dataset: DatasetConfig = Field(description="the raw dataset")
    out: str = Field(description="URL of the shard set's folder")
    samples_per_shard: int = Field(512, ge=1, description="images of the raw dataset a shard; the unit of work and of retry of annotation")
    images: ImageConfig = Field(ImageConfig(), description="which images are accepted")
    person_crops: PersonCropConfig | None = Field(
        None, description="null: photographs are stored whole, byte for byte. Else a sample is one person's crop of a photograph"
    )
    workers: int = Field(2, ge=1, description="threads that check images; changes no byte of the result")


@dataclass
class _Ledger:
    """Everything the manifest says beside the shards."""

    found: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    images: hashlib._Hash = field(default_factory=hashlib.sha256)
    last_key: str = ""


@dataclass(frozen=True)
class _Settled:
    """One image's fate, and the size its file had (None: no file)."""

    item: RawItem
    file_bytes: int | None
    samples: tuple[Crop, ...]
    """What goes into the shard: the photograph, or a crop for each person."""
    quarantine: tuple[QuarantineRow, ...] = ()


def ingest(config: IngestConfig, say: Callable[[str], None] = lambda line: None) -> ShardSetManifest:
    """The shard set of a config, made now or found. `say` gets a line of progress a shard.

    ConfigError / MissingInput / RawDataError / UnsafeInput name what is wrong with the raw dataset; CommitConflict if
    `out` holds a shard set of another config or of other annotations; RawDataError if no sample survives.
    """
    dataset = open_dataset(config.dataset)
    annotations = {str(path.relative_to(dataset.root)): _file_sha256(path) for path in dataset.annotation_files()}
    config_digest = _config_digest(config, dataset, annotations)
    store = Store(config.out)
    if store.exists(MANIFEST):
        return _existing(config.out, config_digest)

    ledger, entries, stored = _Ledger(), [], "images" if config.person_crops is None else "crops"
    with ThreadPoolExecutor(config.workers) as pool:
        settle_item = partial(_settle, dataset.name, config)
        for number, items in enumerate(_chunks(dataset, config.samples_per_shard, ledger)):
            entry = _write(store, number, list(pool.map(settle_item, items)), ledger)
            if entry:
                entries.append(entry)
                say(f"shard {number:06d}: {entry.samples} {stored}, {entry.instances} persons, {entry.size_bytes / 1e6:.1f} MB")
    quarantined: Counter[str] = Counter()
    for row in ledger.quarantine:
        quarantined[row.reason] += row.instances
    if not entries:
        raise RawDataError(
            f"{dataset.name}/{dataset.split} in {dataset.root}: not one of {ledger.found} persons can be kept; "
            f"skipped {dict(ledger.skipped)}, quarantined {dict(quarantined)}"
        )
    manifest = ShardSetManifest(
        dataset=dataset.name,
        split=dataset.split,
        supervision=dataset.supervision,
        shards=tuple(entries),
        samples=sum(entry.samples for entry in entries),
        instances=sum(entry.instances for entry in entries),
        found_instances=ledger.found,
        skipped=dict(ledger.skipped),
        quarantined=dict(quarantined),
        quarantine=tuple(ledger.quarantine),
        raw_digest=sha256_hex(canonical_json({"annotations": annotations, "images": ledger.images.hexdigest()})),
        config_digest=config_digest,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        store.create(MANIFEST, manifest.to_bytes())
    except AlreadyExists:
        return _existing(config.out, config_digest)
    return manifest


def _config_digest(config: IngestConfig, dataset: RawDataset, annotations: dict[str, str]) -> str:
    """Of what decides the result: options and annotation files, but not where things lie or how many threads read them."""
    settings = {
        "dataset": dataset.name,
        "split": dataset.split,
        "settings": dataset.settings(),
        "samples_per_shard": config.samples_per_shard,
        "images": config.images.model_dump(mode="json"),
        "annotations": annotations,
    }
    if config.person_crops is not None:
        settings["person_crops"] = config.person_crops.model_dump(mode="json")
    return sha256_hex(canonical_json(settings))


def _existing(url: str, config_digest: str) -> ShardSetManifest:
    manifest = open_shard_set(url).manifest
    if manifest.config_digest != config_digest:
        raise CommitConflict(
            f"{join(url, MANIFEST)}: holds a shard set of another config or of other annotation files "
            f"({manifest.dataset}/{manifest.split}, {manifest.instances} persons, config {manifest.config_digest[:12]}, "
            f"this one is {config_digest[:12]}); give another out, shard sets are never overwritten"
        )
    return manifest


def _chunks(dataset: RawDataset, size: int, ledger: _Ledger) -> Iterator[list[RawItem]]:
    chunk: list[RawItem] = []
    for item in dataset.items():
        if isinstance(item, SkippedInstances):
            ledger.found += item.instances
            ledger.skipped[item.reason] += item.instances
            continue
        ledger.found += len(item.instances)
        if item.key <= ledger.last_key:
            raise RawDataError(f"{dataset.name}: image {item.image_path} has the key {item.key}, the same as or before {ledger.last_key}")
        if len({person.annotation_id for person in item.instances}) < len(item.instances):
            raise RawDataError(f"{dataset.name}: image {item.image_path} has two persons with one annotation id")
        ledger.last_key = item.key
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _settle(dataset: str, config: IngestConfig, item: RawItem) -> _Settled:
    """One image read, checked and paired with its annotation. Everything wrong with it is its own quarantine."""
    size: int | None = None
    try:
        try:
            size = item.image.path.stat().st_size
            if size > config.images.max_bytes:
                raise SampleRejected("image_too_large", f"{size} bytes, at most {config.images.max_bytes} allowed")
            data = item.image.path.read_bytes()
        except OSError as error:
            reason = "image_missing" if isinstance(error, FileNotFoundError) else "image_unreadable"
            raise SampleRejected(reason, error.strerror or str(error)) from None
        annotated = None if item.width is None or item.height is None else (item.width, item.height)
        image = settle(data, annotated, config.images)
    except SampleRejected as error:
        message = f"{item.image_path}: {error}"
        row = QuarantineRow(dataset=dataset, key=item.key, reason=error.reason, message=message, instances=len(item.instances))
        return _Settled(item, size, (), (row,))
    sample = Sample(
        key=item.key,
        dataset=dataset,
        image_path=item.image_path,
        width=image.width,
        height=image.height,
        exif_orientation=image.exif_orientation,
        instances=item.instances,
    )
    if config.person_crops is None:
        return _Settled(item, size, ((sample, image.data, image.extension),))
    cropped = person_crops(sample, image.data, config.person_crops)
    return _Settled(item, size, cropped.crops, cropped.quarantine)


def _write(store: Store, number: int, settled: list[_Settled], ledger: _Ledger) -> ShardEntry | None:
    """Commit one shard, or accept the same bytes from an earlier run; None if none of its images survived."""
    samples = []
    for image in settled:
        ledger.images.update(canonical_json([image.item.image_path, image.file_bytes]))
        ledger.quarantine.extend(image.quarantine)
        samples.extend(image.samples)
    if not samples:
        return None
    tar, index = write_shard(samples)
    path, index_path = f"shards/{number:06d}.tar", f"shards/{number:06d}.index.jsonl"
    store.create_same(path, tar)
    store.create_same(index_path, index)
    return ShardEntry(
        path=path,
        sha256=sha256_hex(tar),
        size_bytes=len(tar),
        samples=len(samples),
        instances=sum(len(sample.instances) for sample, _, _ in samples),
        index_path=index_path,
        index_sha256=sha256_hex(index),
    )


def _file_sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
