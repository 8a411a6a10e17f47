"""What an evaluation found: errors, with the digests of everything that was compared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.manifests import Counts, Sha256
from schemas.records import Record


class Errors(Record):
    """Means over persons. x, y and z are after alignment; what a protocol does not measure is None.

    Millimetres; PCK (below 150 mm) and AUC in percent, `_matched` over matched persons alone. MuPoTS-3D's are means over sequences.
    """

    persons: int = Field(ge=1)
    mpjpe_mm: float
    pa_mpjpe_mm: float
    x_mm: float
    y_mm: float
    z_mm: float
    mpvpe_mm: float | None = None
    pa_mpvpe_mm: float | None = None
    pck_percent: float | None = None
    auc_percent: float | None = None
    pck_matched_percent: float | None = None
    auc_matched_percent: float | None = None


class JointErrors(Record):
    """Means over persons of one joint: its distance with roots aligned, and after the person's similarity transform."""

    mpjpe_mm: float
    pa_mpjpe_mm: float
    pck_percent: float | None = None


class NetworkResult(Record):
    """One network on a test set: every instance of it is among `errors.persons` or, with its reason, in `left_out`."""

    name: str
    network_digest: Sha256
    lineage: dict[str, str]
    errors: Errors
    sequences: dict[str, Errors]
    joints: dict[str, JointErrors]
    left_out: Counts
    predictions_path: str
    predictions_sha256: Sha256


class BaselineResult(Record):
    """Predicting the same for everybody, from the training sets' mean; the better of two ways is the baseline.

    The mean skeleton has the 14 joints of 3DPW's protocol; where others are scored it is None.
    """

    mean_pose: Errors
    mean_skeleton: Errors | None
    averaged_persons: int
    pose: tuple[float, ...] = Field(description="mean pose, axis-angle, rad")
    betas: tuple[float, ...]

    @property
    def best(self) -> tuple[str, Errors]:
        """Name and errors of the harder baseline to beat, by PA-MPJPE."""
        pairs = [("mean pose", self.mean_pose)] + ([("mean skeleton", self.mean_skeleton)] if self.mean_skeleton else [])
        return min(pairs, key=lambda pair: pair[1].pa_mpjpe_mm)


class PseudoGtResult(Record):
    """A release against the truth: `joined` persons are in both, `missing` have truth but no row, `unknown` have a row but no truth."""

    release: str
    version: int
    errors: Errors
    joined: int
    missing: int
    unknown: int
    score_rank_correlation: float | None
    """Spearman's rho of the quality score with PA-MPJPE; the further below 0, the more the score is worth."""


class ProtocolResult(Record):
    """The networks and the baseline on one test set, by one protocol."""

    name: str
    """What the config calls the test set."""
    title: str
    """Its dataset and split."""
    protocol: str
    details: str
    """What the protocol scores, in words."""
    networks: tuple[NetworkResult, ...]
    baseline: BaselineResult | None = None


class Results(Record):
    """Everything one evaluation job found. `inputs` maps what was compared to its digest."""

    format_version: Literal[2] = 2
    body: str
    inputs: dict[str, Sha256]
    test_sets: tuple[ProtocolResult, ...] = Field(min_length=1)
    pseudo_gt: PseudoGtResult | None = None
