"""Inspect a raw dataset or a shard set: one pass over its annotation and its images' headers, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from rich.console import Console

from engine.datasets.base import SkippedInstances, Unreadable
from engine.datasets.registry import open_dataset
from engine.errors import ConfigError
from engine.inspection.choosing import Chosen, rank
from engine.inspection.config import InspectConfig
from engine.inspection.findings import UNDRAWABLE, Findings
from engine.inspection.groups import Person
from engine.inspection.images import Images
from engine.inspection.persons import Persons
from engine.inspection.photographs import DamagedShard, EndOfAnnotation, Event, Photograph, Source, raw_source, shard_source
from engine.inspection.publish import publish
from engine.inspection.record import InspectionReport
from engine.inspection.seen import name_hash
from engine.inspection.tables import print_report
from engine.shards.reader import open_shard_set

_BATCH = 256
_EVERY_S = 15.0


def inspect(config: InspectConfig, console: Console | None = None) -> InspectionReport:
    """Read everything once, print what was found, and write it to `out`.

    ConfigError unless exactly one source is given; MissingInput, RawDataError or ShardCorrupt if nothing of it can be read.
    What is broken in a part of it is a finding.
    """
    console, source = console or Console(), _source(config)
    counter = _Counter(config, source)
    began = last = time.monotonic()
    for batch in _batches(source.events()):
        counter.take(batch)
        if (now := time.monotonic()) - last > _EVERY_S:
            last = now
            _say(console, f"inspect: {len(counter.images)} images, {len(counter.persons)} persons after {now - began:.0f} s")
    report, drawn = counter.finish()
    if config.out is not None:
        report = publish(config, report, drawn, counter.persons.persons_of())
    print_report(report, console)
    if config.out is not None:
        _say(console, f"report: {config.out.rstrip('/')}/report.html")
    return report


def _source(config: InspectConfig) -> Source:
    if (config.dataset is None) == (config.shards is None):
        found = "neither" if config.dataset is None else "both"
        raise ConfigError(f"expected a raw dataset (dataset.name, .root and .split) or a shard set's URL (shards), found {found}")
    if config.dataset is not None:
        return raw_source(open_dataset(config.dataset))
    return shard_source(open_shard_set(str(config.shards)))


class _Counter:
    """All counts of one inspection."""

    def __init__(self, config: InspectConfig, source: Source) -> None:
        self._config, self._source = config, source
        self.findings = Findings()
        self.images, self.persons = Images(self.findings, config.images), Persons(self.findings)
        self._skipped: Counter[str] = Counter()
        self._unreadable: Counter[str] = Counter()
        self._unreadable_persons = 0
        self._drawn = Chosen(config.sheet.images if config.out is not None else 0, config.sheet.choose == "even")
        # A shard's images are in memory anyhow.
        self._examine = "all" if config.examine_images == "sample" and source.kind == "shards" else config.examine_images
        self._sample = Chosen(config.sample if self._examine == "sample" else 0)
        self._pool = ThreadPoolExecutor(config.workers)

    def take(self, events: list[Event]) -> None:
        """Count a batch of what the source yields."""
        photographs = []
        for event in events:
            if isinstance(event, Photograph):
                photographs.append(event)
            elif isinstance(event, SkippedInstances):
                self._skipped[event.reason] += event.instances
            elif isinstance(event, Unreadable):
                self._unreadable[event.reason] += 1
                self._unreadable_persons += event.instances
                self.findings.add("part_unreadable", event.key, message=f"{event.reason}: {event.message}")
            elif isinstance(event, DamagedShard):
                self.findings.add("shard_damaged", event.path, message=event.message)
            elif isinstance(event, EndOfAnnotation):
                self.findings.add("annotation_ends", "", message=event.message)
        if photographs:
            self._photographs(photographs)

    def finish(self) -> tuple[InspectionReport, list[Photograph]]:
        """The report, and the photographs chosen for sheets."""
        notes = []
        if self._examine == "sample":
            sampled = self._sample.photographs()
            self.images.examine(sampled, self._pool)
            notes.append(f"{len(sampled)} of {len(self.images)} images were examined; the others may be missing or broken")
        elif self._examine == "none":
            notes.append("no image was examined; they may be missing or broken, and sizes are the annotation's")
        self._pool.shutdown()
        persons = self.persons.figures(self._skipped, self._unreadable, self._unreadable_persons)
        source = self._source
        report = InspectionReport(
            kind=source.kind, place=source.place, dataset=source.dataset, split=source.split, supervision=source.supervision,
            annotation_files=source.annotation_files, known_errors=source.known_errors, images=self.images.figures(), persons=persons,
            findings=self.findings.found(), notes=tuple(notes),
        )  # fmt: skip
        return report, self._drawn.photographs()

    def _photographs(self, photographs: list[Photograph]) -> None:
        new = [self.images.new(photograph) for photograph in photographs]
        sizes = [photograph.size for photograph in photographs]
        if self._examine == "all":
            wanted = [i for i, photograph in enumerate(photographs) if new[i] or photograph.size is None]
            found = self.images.examine([photographs[i] for i in wanted], self._pool, [new[i] for i in wanted])
            for i, size in zip(wanted, found, strict=True):
                sizes[i] = size
        else:
            for photograph, is_new in zip(photographs, new, strict=True):
                if self._examine == "none" and is_new:
                    self.images.count_unexamined(photograph)
                self._sample.offer(replace(photograph, persons=()), float(name_hash(photograph.key)), is_new)
        persons = [Person(p.key, p.image_path, who, size) for p, size in zip(photographs, sizes, strict=True) for who in p.persons]
        errors = iter(self.persons.add(persons)) if persons else iter(())
        kinds = self.findings.take_recent()
        sheet = self._config.sheet
        for photograph, is_new in zip(photographs, new, strict=True):
            own = np.array([next(errors) for _ in photograph.persons])
            error = float(np.nanmax(own)) if np.isfinite(own).any() else float("nan")
            met = kinds.get(photograph.key, set())
            if sheet.choose != "worst" and met & UNDRAWABLE:
                continue
            self._drawn.offer(photograph, rank(sheet.choose, sheet.seed, photograph, len(met), error), is_new)


def _batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    batch: list[Event] = []
    for event in events:
        batch.append(event)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
