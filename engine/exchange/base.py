"""What formats of the field have in common: persons that go out, fits that come in, and the two interfaces a format implements.

Everything here is in the frames of schemas/pseudo_gt.py: pose axis-angle (rad, root first), camera frame x right, y down, z forward,
metres; `vertices + transl` projected with `focal` and `princpt` land on the photograph. A format's module turns these into its own
conventions and back, and nothing else knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from schemas.sample import Instance, Sample

if TYPE_CHECKING:
    from engine.body.smpl import Body

LoadBody = Callable[[], "Body"]
"""Loads the body on first use: most formats never ask, and torch takes seconds."""


@dataclass(frozen=True)
class ExportInfo:
    """What a writer knows of the release before the first person comes."""

    release: str
    """Its reference, with the version."""
    digest: str
    dataset: str
    split: str
    body_name: str
    """'open' or 'smpl'."""
    body_digest: str
    annotated: int
    """Rows of the release: as many persons come."""
    shard_set_digest: str
    load_body: LoadBody


@dataclass(frozen=True)
class Person:
    """One row of a release with the annotation it belongs to. `image` is the image's bytes where the writer asked for them."""

    sample: Sample
    instance: Instance
    pose_72: np.ndarray
    betas_10: np.ndarray
    transl_3: np.ndarray
    focal_2: np.ndarray
    princpt_2: np.ndarray
    quality: dict[str, float]
    """The quality columns of the row."""
    latent_32: np.ndarray
    image: bytes | None = None


INVALID_FIT = "invalid_fit"


@dataclass(frozen=True)
class Fit:
    """One person of a file. Which person it is, is said by `annotation_id`, or by `image` (a path's last parts, or the sample's key) and
    `centre_2` (px, of the box), or by `image` alone where the image has one person. With both, both have to agree.

    Numbers may be NaN or infinite: such a fit is quarantined. Arrays of another shape may not: say Unmapped.
    transl_3, focal_2 and princpt_2 are all None where the format has no camera: then one is fitted to the dataset's 2D joints.
    princpt_2 alone is None where it is the middle of the photograph, (width / 2, height / 2), which the file does not know.
    """

    pose_72: np.ndarray
    betas_10: np.ndarray
    transl_3: np.ndarray | None = None
    focal_2: np.ndarray | None = None
    princpt_2: np.ndarray | None = None
    annotation_id: str | None = None
    image: str | None = None
    centre_2: np.ndarray | None = None
    latent_32: np.ndarray | None = None


@dataclass(frozen=True)
class Unmapped:
    """A person of a file that cannot become a row. Its instance, if it is found, goes to quarantine with the reason; with the reason
    INVALID_FIT, which says that the file itself calls the fit invalid, it counts as skipped."""

    name: str
    """The file's own name of it: an id, or file and row."""
    reason: str
    message: str
    annotation_id: str | None = None
    image: str | None = None
    centre_2: np.ndarray | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a format can carry. `camera`: every projection of the release, to 0.1 px; else `camera_note` says what of it."""

    camera: bool
    latent: bool = False
    quality: bool = False
    images: bool = False
    notes: tuple[str, ...] = field(default=())
    """What is lost, one line each."""


class Writer(Protocol):
    """Writes persons, in the order they come, with memory that does not grow with them. Made by a format's `open_writer`.

    Persons of one image come one after the other. `wants_images`: whether `Person.image` is given.
    """

    wants_images: bool

    def add(self, person: Person) -> None:
        """Take one person. SampleRejected when the format cannot carry it: it is counted, and everything else goes on."""

    def close(self) -> list[str]:
        """Complete the files; their names relative to the export's folder."""


class Reader(Protocol):
    """Reads the files of one format, with memory that does not grow with the persons."""

    def fits(self) -> Iterator[Fit | Unmapped]:
        """Every person of the files, once. RawDataError when a file is not of the format."""
