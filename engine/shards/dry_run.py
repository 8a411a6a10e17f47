"""What an ingest would do, without doing it: annotations are read and images looked for, nothing is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engine.shards.catalogue import chunks
from engine.shards.ingest import IngestConfig, by_reason, filled, open_work
from engine.shards.picture import digest
from engine.shards.progress import Say
from engine.shards.reader import MANIFEST
from engine.shards.shard_job import finished
from engine.shards.sources import Reader


@dataclass
class IngestCount:
    """What is known of an ingest before an image is read. Persons are kept unless they are skipped, quarantined or on missing images."""

    dataset: str
    split: str
    persons: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    images: int = 0
    image_bytes: int = 0
    """Of the images that are there, frames of videos excepted."""
    missing: int = 0
    """Images that are not there."""
    persons_on_missing: int = 0
    shards: int = 0
    shards_made: int = 0
    """By an earlier run."""
    finished: bool = False
    """Whether the shard set is there."""

    def lines(self) -> list[str]:
        """For people."""
        kept = self.persons - sum(self.skipped.values()) - sum(self.quarantined.values()) - self.persons_on_missing
        return [
            f"{self.dataset}/{self.split}: dry run: {self.persons} persons found",
            f"  to keep      {kept:8d}  on {self.images - self.missing} images that are there, {self.image_bytes / 1e9:.2f} GB",
            *(f"  skipped      {count:8d}  {reason}" for reason, count in sorted(self.skipped.items())),
            *(f"  quarantined  {count:8d}  {reason}" for reason, count in sorted(self.quarantined.items())),
            *([f"  quarantined  {self.persons_on_missing:8d}  image_missing ({self.missing} images)"] if self.missing else []),
            f"  shards       {self.shards:8d}  of which {self.shards_made} are made{'; the shard set is finished' * self.finished}",
        ]


def count_ingest(config: IngestConfig, say: Say = lambda line: None) -> IngestCount:
    """What `ingest` would do. Reads all annotations and looks for every image; writes nothing to `out`."""
    work = open_work(config, say)
    total = IngestCount(work.dataset.name, work.dataset.split, finished=work.store.exists(MANIFEST))
    done = finished(work.store, work.records)
    with filled(work, say) as catalogue, Reader(str(work.dataset.root), config.images) as reader:
        for number, pictures in enumerate(chunks(catalogue.pictures(), config.samples_per_shard)):
            total.shards += 1
            total.images += len(pictures)
            total.shards_made += number in done and done[number].pictures_sha256 == digest(pictures)
            for picture in pictures:
                size = reader.size(picture.source)
                total.image_bytes += (size or 0) if picture.source.kind != "frame" else 0
                if size is None:
                    total.missing += 1
                    total.persons_on_missing += len(picture.persons)
        total.persons, total.skipped, total.quarantined = catalogue.found, catalogue.skipped, by_reason(catalogue.quarantine)
    return total
