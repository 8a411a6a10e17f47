"""Manifests: what a shard set, a plan, a commit and a release say of themselves.

Every manifest names what it was made from by digest (`lineage`), and counts obey
`planned = annotated + sum(skipped) + sum(quarantined)`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.records import Record, canonical_json, sha256_hex
from schemas.sample import Key, Supervision

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Counts = dict[str, Annotated[int, Field(ge=0)]]
"""Reason -> number of instances."""


class QuarantineRow(Record):
    """What could not be used, and why. `annotation_id` is None when a whole image (or shard) is meant."""

    dataset: str
    key: str
    annotation_id: str | None = None
    reason: str
    message: str = ""
    instances: int = Field(default=1, ge=0, description="how many instances this row accounts for")


class ShardEntry(Record):
    """One WebDataset tar of a shard set. `path` is relative to the manifest."""

    path: str
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    samples: int = Field(ge=1)
    instances: int = Field(ge=0)
    index_path: str
    """The shard's index: JSON lines of ShardIndexRow, so that one image can be read without the rest."""
    index_sha256: Sha256


class ShardIndexRow(Record):
    """Where one sample lies inside its tar: byte ranges of the image and of the JSON member's content."""

    key: Key
    image_offset: int
    image_size: int
    json_offset: int
    json_size: int
    instances: int


class ShardSetManifest(Record):
    """A dataset's split, ingested once. Instances: `found = kept + skipped + quarantined`."""

    format_version: Literal[1] = 1
    dataset: str
    split: str
    supervision: Supervision
    shards: tuple[ShardEntry, ...]
    samples: int
    instances: int
    found_instances: int
    skipped: Counts
    quarantined: Counts
    quarantine: tuple[QuarantineRow, ...]
    raw_digest: Sha256
    """Of the raw annotation files and of every image's path and size."""
    config_digest: Sha256
    created_at: str

    @classmethod
    def undigested(cls) -> set[str]:
        return {"created_at"}

    @model_validator(mode="after")
    def _conserve(self) -> ShardSetManifest:
        if self.samples != sum(s.samples for s in self.shards) or self.instances != sum(s.instances for s in self.shards):
            raise ValueError(f"shard set {self.dataset}/{self.split}: totals differ from the sum over its shards")
        total = self.instances + sum(self.skipped.values()) + sum(self.quarantined.values())
        if self.found_instances != total:
            raise ValueError(f"shard set {self.dataset}/{self.split}: found {self.found_instances} instances but accounts for {total}")
        return self


class ShardPlan(Record):
    """One unit of annotation work: one image shard, in full."""

    index: int = Field(ge=0)
    url: str
    sha256: Sha256
    size_bytes: int
    samples: int
    instances: int


class AnnotationPlan(Record):
    """What an annotation job will do, decided before it does it. Its digest names the work: same digest, same bytes.

    URLs are where, not what, so they are left out of the digest.
    """

    format_version: Literal[1] = 1
    dataset: str
    split: str
    shard_set_digest: Sha256
    annotator: str
    annotator_digest: Sha256
    body_digest: Sha256
    prior_digest: Sha256 | None
    settings: dict[str, float | int | str | bool]
    """Whatever else changes the output: batch size, thresholds, code version, flip averaging."""
    shards: tuple[ShardPlan, ...]

    def digest(self) -> str:
        return sha256_hex(self.without_urls())

    def without_urls(self) -> bytes:
        """The plan's canonical bytes with empty URLs, as it is stored beside its commits."""
        values = self.model_dump(mode="json")
        for shard in values["shards"]:
            shard["url"] = ""
        return canonical_json(values)


class Histogram(Record):
    """How a quality figure is distributed over persons: one count a bin (engine/releases/figures.py), and the sum of the finite values."""

    counts: tuple[Annotated[int, Field(ge=0)], ...]
    sum: float

    @property
    def count(self) -> int:
        """Persons that have the figure."""
        return sum(self.counts)


class ShardCommit(Record):
    """Create-only record that one shard's pseudo-GT is in the store. Holds nothing that differs between two runs."""

    format_version: Literal[1] = 1
    plan_digest: Sha256
    index: int
    source_sha256: Sha256
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    planned: int
    annotated: int
    skipped: Counts
    quarantined: Counts
    quarantine: tuple[QuarantineRow, ...]
    figures: dict[str, Histogram]
    """Quality figure -> its distribution over the shard's rows."""

    @model_validator(mode="after")
    def _conserve(self) -> ShardCommit:
        total = self.annotated + sum(self.skipped.values()) + sum(self.quarantined.values())
        if self.planned != total:
            raise ValueError(f"shard {self.index}: planned {self.planned} instances but accounts for {total}")
        return self


class FigureTotal(Histogram):
    """A quality figure over a whole release. Bins: below the first edge, from one edge up to the next, from the last edge on."""

    edges: tuple[float, ...]

    @model_validator(mode="after")
    def _count_bins(self) -> FigureTotal:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 1} bins, found {len(self.counts)}")
        return self


class TableFile(Record):
    """A Parquet table beside the manifest that names it."""

    path: Annotated[str, Field(pattern=r"^[a-z]+\.parquet$")]
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    rows: int = Field(ge=0)


class ReleaseManifest(Record):
    """An immutable, versioned set of pseudo-GT shards. The digest is over what it holds, not over when or under which number.

    Small, however many shards there are: these are rows of the table `shards`.
    """

    format_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    dataset: str
    split: str
    plan_digest: Sha256
    lineage: dict[str, str]
    """shard_set, raw, annotator checkpoint, its training sets, body, prior, config: name -> digest."""
    body: str
    """"open", or "smpl": a release made with the open body can never be taken for one made with SMPL."""
    settings: dict[str, float | int | str | bool]
    shards: TableFile
    """One row a shard: what its ShardCommit says, but for the quarantine rows."""
    quarantine: TableFile
    """One row for everything that could not be annotated."""
    annotator: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The kind of annotator, as the plan names it: a network's name, 'mean_pose', 'smplify', 'eft', or 'import:' and a format. Releases
    made before this field are without."""
    selection: TableFile | None = Field(default=None, exclude_if=lambda file: file is None)
    """Of a derived release: which rows of the objects are its own. Without it, all are; and manifests without it keep their bytes."""
    planned: int
    annotated: int
    skipped: Counts
    quarantined: Counts
    figures: dict[str, FigureTotal]
    created_at: str

    @classmethod
    def undigested(cls) -> set[str]:
        return {"created_at", "version", "name"}

    @model_validator(mode="after")
    def _conserve(self) -> ReleaseManifest:
        total = self.annotated + sum(self.skipped.values()) + sum(self.quarantined.values())
        if self.planned != total:
            raise ValueError(f"release {self.name}: planned {self.planned} instances but accounts for {total}")
        return self


class ReleasePointer(Record):
    """What HEAD and the tags of a release name hold, its only mutable objects: moved by compare-and-swap."""

    version: int = Field(ge=1)
    release_digest: Sha256
    manifest_path: str
