"""What an annotator is: a thing that turns person crops into SMPL parameters in the crop's virtual camera.

The fan-out knows annotators through this interface alone. `AnnotatorIdentity` is what a plan needs to know of one, and it is
read without loading a network, so that a finished job submitted again costs no more than a few small reads; nothing here needs torch.

Shape suffixes: N crops, H and W of a crop, 3 colour channels (RGB).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from engine.annotators.seen import Seen
from schemas.crops import CropSpec

if TYPE_CHECKING:
    from engine.body.smpl import Body
    from engine.loading.persons import CropBatch

ROWS_VERSION = 2
"""Raised whenever the same predictions would give other rows (`engine.annotators.rows`); part of every plan."""
LATENT_SIZE = 32


@dataclass(frozen=True)
class AnnotatorIdentity:
    """Everything of an annotator that decides its output, by digest.

    `location` is the immutable URL the workers load it from (a checkpoint, never a pointer that moves). `body_name` is 'open' or
    'smpl'. `lineage` maps what it was made from (training sets, config) to digests.
    """

    name: str
    digest: str
    body_name: str
    body_digest: str
    prior_digest: str | None
    location: str = ""
    lineage: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """SMPL parameters of N crops, float32, in the camera frame of the crop's virtual camera (x right, y down, z forward).

    pose_N72: axis-angle, rad, root first. betas_N10. cam_transl_N3: added to the posed vertices, m.
    latent_N32: pose-prior latent, NaN where the annotator has none. flip_disagreement_N: mean distance, m, between the body's joints
    as predicted from the crop and from its mirror image, both moved to their pelvis; None where the mirror image was not looked at.
    """

    pose_N72: np.ndarray
    betas_N10: np.ndarray
    cam_transl_N3: np.ndarray
    latent_N32: np.ndarray
    flip_disagreement_N: np.ndarray | None = None

    def first(self, n: int) -> Prediction:
        """The prediction of the first n crops: of a short batch that was padded."""
        values = (getattr(self, field.name) for field in fields(self))
        return Prediction(*(None if value is None else value[:n] for value in values))


class Annotator(Protocol):
    """Predicts every person of a batch of crops. Same crops in the same order give the same bytes, in batches of one constant size."""

    @property
    def digest(self) -> str:
        """sha256 of everything that decides the output."""

    @property
    def crop(self) -> CropSpec:
        """Size and box rule of the crops it wants."""

    @property
    def body(self) -> Body:
        """The body its parameters belong to, on the CPU, whatever the annotator computes on."""

    def predict(self, crops_NHW3: np.ndarray, seen: Seen) -> Prediction:
        """Parameters of uint8 RGB crops, and of the joints that were annotated of the same persons, for annotators that fit to them.

        Called with batches of one constant size: compiled networks and equal bytes need it.
        """


def predict_padded(annotator: Annotator, batch: CropBatch, batch_size: int) -> Prediction:
    """`predict` of at most `batch_size` persons as a batch of exactly that size, black crops filling it up."""
    crops_NHW3, n = batch.crops_NHW3, len(batch)
    seen = Seen(batch, batch_size)
    if n == batch_size:
        return annotator.predict(crops_NHW3, seen)
    padded = np.zeros((batch_size, *crops_NHW3.shape[1:]), crops_NHW3.dtype)
    padded[:n] = crops_NHW3
    return annotator.predict(padded, seen).first(n)


def no_latent(n: int) -> np.ndarray:
    """Latents (N,32) of an annotator without a pose prior: all NaN."""
    return np.full((n, LATENT_SIZE), np.nan, np.float32)
