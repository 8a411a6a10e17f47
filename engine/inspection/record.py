"""What an inspection found, as it is stored in report.json: counts, spreads, and contradictions with examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.records import Record
from schemas.sample import Supervision

Count = Annotated[int, Field(ge=0)]
Level = Literal["wrong", "suspect", "note"]


class Spread(Record):
    """A distribution of numbers. Least, mean and largest are exact, percentiles of up to 65,536 numbers too; of more they are right to
    half a percent."""

    count: Count
    mean: float
    least: float
    p01: float
    p05: float
    p25: float
    median: float
    p75: float
    p95: float
    p99: float
    largest: float


class Example(Record):
    """Where a contradiction was found."""

    key: str
    annotation_id: str | None = None
    message: str = ""


class Finding(Record):
    """One kind of contradiction. Levels: wrong (it costs images or persons, or teaches what is false), suspect (look), note."""

    name: str
    level: Level
    meaning: str
    count: Count
    of: Literal["images", "persons", "parts", "set"]
    examples: tuple[Example, ...]


class ImageSize(Record):
    """How many images have a size, pixels."""

    width: int
    height: int
    images: Count


class ImageFigures(Record):
    """The images of kept persons, counted once each. Sizes are those of the files where they were examined, else the annotation's."""

    images: Count
    examined: Count
    """Images whose header was looked for: the file exists, and says its format, size and orientation."""
    formats: dict[str, Count]
    orientations: dict[str, Count]
    """EXIF orientations other than 1 (none)."""
    videos: Count
    """Examined images that are frames of videos: of these the video's header alone."""
    widths: Spread | None
    heights: Spread | None
    sizes: tuple[ImageSize, ...]
    """The commonest sizes."""
    distinct_sizes: Count
    file_bytes: Spread | None


class JointFigures(Record):
    """How often each joint of a skeleton is valid, by name."""

    skeleton: str
    persons: Count
    valid: dict[str, Count]


class Agreement(Record):
    """How many of the cases that can tell left from right tell it as the annotation does."""

    agree: Count
    of: Count


class WorstPerson(Record):
    """Whose 3D is farthest from the 2D."""

    key: str
    annotation_id: str
    error_px: float


class SpaceFigures(Record):
    """The 3D joints through the persons' own cameras."""

    persons: Count
    reprojection_px: Spread | None
    """A person's median distance of projected 3D joints from valid 2D joints. About 0 where the 2D was made from the 3D."""
    worst: tuple[WorstPerson, ...]
    depth_m: Spread | None
    """Median depth of a person's joints."""
    thigh_m: Spread | None
    unevenness: Spread | None
    """Largest difference of a left from the same right bone (thigh, shin, arm, forearm) over their mean, a person."""


class PersonFigures(Record):
    """The kept persons."""

    persons: Count
    skipped: dict[str, Count]
    """Reason -> persons that the loader leaves out (or ingest left out)."""
    unreadable: dict[str, Count]
    """Reason -> parts of the raw dataset that cannot be read (of a shard set: its quarantine)."""
    unreadable_persons: Count
    """Persons known to be in those parts."""
    an_image: dict[str, Count]
    """Persons on an image -> images; "10+" and above in one."""
    joints: tuple[JointFigures, ...]
    valid_joints: dict[str, Count]
    """Valid 2D joints of a person -> persons."""
    supervision: dict[str, Count]
    """What a person has -> persons."""
    genders: dict[str, Count]
    box_heights_px: Spread | None
    box_widths_px: Spread | None
    small_boxes: Count
    """Boxes less than 64 pixels high."""
    space: SpaceFigures | None
    sides: dict[str, Agreement]


class InspectionReport(Record):
    """Everything an inspection found."""

    format_version: Literal[1] = 1
    kind: Literal["raw", "shards"]
    place: str
    """The raw dataset's root, or the shard set's URL."""
    dataset: str
    split: str
    supervision: Supervision
    annotation_files: dict[str, Count]
    """Path relative to the root -> bytes; empty for a shard set."""
    known_errors: dict[str, str]
    """Errors of the published files -> what is wrong, and what the loader does about it."""
    images: ImageFigures
    persons: PersonFigures
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What limits this report: images not examined, meshes not drawn."""
