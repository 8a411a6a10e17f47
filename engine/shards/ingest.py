"""A raw dataset's split to a shard set: every person found is in a shard, skipped with a reason or quarantined with a reason.

Annotations are read once, by the driver, into a catalogue on disk. A shard is a run of the dataset's images in the order of their keys, cut
before anything is known of their bytes, so shards do not depend on one another, on the number of workers or on how far an earlier run
came. The manifest is written last: without it there is no shard set, and submitting again completes one. With it, nothing is done.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from engine import faults
from engine.config import Config
from engine.datasets.base import DatasetConfig, RawDataset
from engine.datasets.registry import open_dataset
from engine.errors import AlreadyExists, CommitConflict, MissingInput, RawDataError
from engine.shards.catalogue import Catalogue, chunks, open_catalogue
from engine.shards.images import ImageConfig
from engine.shards.person_crops import PersonCropConfig
from engine.shards.picture import digest
from engine.shards.progress import Progress, Reading, Say
from engine.shards.reader import MANIFEST, open_shard_set
from engine.shards.shard_job import ShardJob, ShardRecord, finished, make_shard
from engine.storage import Store, absolute, join
from schemas.manifests import QuarantineRow, ShardSetManifest
from schemas.records import canonical_json, sha256_hex

_HASHED_TOGETHER = 4
"""Annotation files."""


class IngestConfig(Config):
    """One split of a raw dataset to one shard set."""

    dataset: DatasetConfig = Field(description="the raw dataset")
    out: str = Field(description="URL of the shard set's folder")
    samples_per_shard: int = Field(512, ge=1, description="images of the raw dataset a shard; the unit of work and of retry of annotation")
    images: ImageConfig = Field(ImageConfig(), description="which images are accepted")
    person_crops: PersonCropConfig | None = Field(
        None, description="null: photographs are stored whole, byte for byte. Else a sample is one person's crop of a photograph"
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="shards made at a time, by Ray tasks; null: as many as the cluster has CPUs for; 0: one by one in this process, "
        "without Ray. Changes no byte of the result",
    )
    worker_cpus: float = Field(
        1.0, gt=0, description="CPUs that a task takes; less than 1 where images come slowly, as from a network file system"
    )
    staging: str | None = Field(
        None, description="folder for the catalogue of the annotations, 2 kB a person; null: the system's for temporary files"
    )
    dry_run: bool = Field(False, description="count images and persons and look which images are there; nothing is written")


@dataclass(frozen=True)
class Work:
    """A dataset's split, its identity, and where it goes."""

    config: IngestConfig
    dataset: RawDataset
    annotations: dict[str, str]
    """Annotation file, relative to the root -> sha256."""
    config_digest: str
    store: Store

    @property
    def records(self) -> str:
        return f"ingest/{self.config_digest[:16]}"


def ingest(config: IngestConfig, say: Say = lambda line: None) -> ShardSetManifest:
    """The shard set of a config, made now or found. `say` gets lines of progress.

    ConfigError / MissingInput / RawDataError / UnsafeInput name what is wrong with the raw dataset; CommitConflict if `out` holds a shard
    set of another config or of other annotations; RawDataError if no sample survives; EngineError if workers die again and again.
    """
    work = open_work(config, say)
    if work.store.exists(MANIFEST):
        return _existing(work)
    with filled(work, say) as catalogue:
        found = _make_all(work, catalogue, say)
        manifest = _manifest(work, catalogue, found)
    faults.hit("before_shard_manifest")
    try:
        work.store.create(MANIFEST, manifest.to_bytes())
    except AlreadyExists:
        return _existing(work)
    return manifest


def open_work(config: IngestConfig, say: Say) -> Work:
    """The work of a config, its annotation files digested. Paths become absolute: a worker has a working directory of its own."""
    root = absolute(config.dataset.root.removeprefix("file://"))
    dataset = open_dataset(config.dataset.model_copy(update={"root": root}))
    config = config.model_copy(update={"out": absolute(config.out)})
    files = dataset.annotation_files()
    say(f"ingest: {dataset.name}/{dataset.split}: {len(files)} annotation files, {sum(map(_size, files)) / 1e9:.2f} GB")
    with ThreadPoolExecutor(_HASHED_TOGETHER) as pool:
        digests = list(pool.map(_file_sha256, files))
    annotations = {str(path.relative_to(dataset.root)): sha256 for path, sha256 in zip(files, digests, strict=True)}
    return Work(config, dataset, annotations, _config_digest(config, dataset, annotations), Store(config.out))


@contextmanager
def filled(work: Work, say: Say) -> Iterator[Catalogue]:
    """The catalogue of all that the annotations hold."""
    with open_catalogue(work.dataset.name, work.dataset.root, work.config.staging) as catalogue:
        reading = Reading(say)
        for found in work.dataset.items():
            catalogue.add(found)
            reading.at(catalogue.found)
        catalogue.sort()
        yield catalogue


def _make_all(work: Work, catalogue: Catalogue, say: Say) -> list[ShardRecord]:
    """The record of every shard, in order: made now, or by an earlier run."""
    config, done = work.config, finished(work.store, work.records)
    images = catalogue.images()
    progress = Progress(say, -(-images // config.samples_per_shard), images)
    records: dict[int, ShardRecord] = {}

    def pending() -> Iterator[ShardJob]:
        for number, pictures in enumerate(chunks(catalogue.pictures(), config.samples_per_shard)):
            if number in done and done[number].pictures_sha256 == digest(pictures):
                records[number] = done[number]
                progress.found(done[number])
                continue
            root = str(work.dataset.root)
            yield ShardJob(number, config.out, work.records, root, work.dataset.name, pictures, config.images, config.person_crops)

    for number, record in _made(pending(), work, images):
        records[number] = record
        progress.made(record)
    return [records[number] for number in sorted(records)]


def _made(jobs: Iterator[ShardJob], work: Work, images: int) -> Iterator[tuple[int, ShardRecord]]:
    config = work.config
    if config.workers == 0 or images <= config.samples_per_shard or work.store.protocol == "memory":
        yield from ((job.number, make_shard(job)) for job in jobs)
        return
    from engine.shards.workers import make_shards  # Ray is imported where it is used

    yield from make_shards(jobs, config.workers, config.worker_cpus)


def _manifest(work: Work, catalogue: Catalogue, records: list[ShardRecord]) -> ShardSetManifest:
    dataset, skipped = work.dataset, Counter(catalogue.skipped)
    quarantine = list(catalogue.quarantine)
    for record in records:
        skipped.update(record.skipped)
        quarantine.extend(record.quarantine)
    entries = tuple(record.entry for record in records if record.entry is not None)
    if not entries:
        raise RawDataError(
            f"{dataset.name}/{dataset.split} in {dataset.root}: not one of {catalogue.found} persons can be kept; "
            f"skipped {dict(skipped)}, quarantined {dict(by_reason(quarantine))}"
        )
    return ShardSetManifest(
        dataset=dataset.name,
        split=dataset.split,
        supervision=dataset.supervision,
        shards=entries,
        samples=sum(entry.samples for entry in entries),
        instances=sum(entry.instances for entry in entries),
        found_instances=catalogue.found,
        skipped=dict(skipped),
        quarantined=dict(by_reason(quarantine)),
        quarantine=tuple(quarantine),
        raw_digest=sha256_hex(canonical_json({"annotations": work.annotations, "images": [r.images_sha256 for r in records]})),
        config_digest=work.config_digest,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def by_reason(rows: list[QuarantineRow]) -> Counter[str]:
    """Persons of these rows."""
    quarantined: Counter[str] = Counter()
    for row in rows:
        quarantined[row.reason] += row.instances
    return quarantined


def _config_digest(config: IngestConfig, dataset: RawDataset, annotations: dict[str, str]) -> str:
    """Of what decides the result: options and annotation files, but not where things lie or how many workers read them."""
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


def _existing(work: Work) -> ShardSetManifest:
    url = work.config.out
    manifest = open_shard_set(url).manifest
    if manifest.config_digest != work.config_digest:
        raise CommitConflict(
            f"{join(url, MANIFEST)}: holds a shard set of another config or of other annotation files "
            f"({manifest.dataset}/{manifest.split}, {manifest.instances} persons, config {manifest.config_digest[:12]}, "
            f"this one is {work.config_digest[:12]}); give another out, shard sets are never overwritten"
        )
    return manifest


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _file_sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None
