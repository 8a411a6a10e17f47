"""What an evaluation found: errors in millimetres, with the digests of everything that was compared."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from schemas.manifests import Counts, Sha256
from schemas.records import Record


class Errors(Record):
    """Means over persons, millimetres. x, y and z are after alignment; a skeleton without a mesh has no vertex errors."""

    persons: int = Field(ge=1)
    mpjpe_mm: float
    pa_mpjpe_mm: float
    x_mm: float
    y_mm: float
    z_mm: float
    mpvpe_mm: float | None = None
    pa_mpvpe_mm: float | None = None


class NetworkResult(Record):
    """One network on the test set: every instance of it is among `errors.persons` or, with its reason, in `left_out`."""

    name: str
    network_digest: Sha256
    lineage: dict[str, str]
    errors: Errors
    sequences: dict[str, Errors]
    left_out: Counts
    predictions_path: str
    predictions_sha256: Sha256


class BaselineResult(Record):
    """Predicting the same for everybody, from the training sets' mean; the better of two ways is the baseline."""

    mean_pose: Errors
    mean_skeleton: Errors
    averaged_persons: int
    pose: tuple[float, ...] = Field(description="mean pose, axis-angle, rad")
    betas: tuple[float, ...]

    @property
    def best(self) -> tuple[str, Errors]:
        """Name and errors of the harder baseline to beat, by PA-MPJPE."""
        pairs = (("mean pose", self.mean_pose), ("mean skeleton", self.mean_skeleton))
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


class Results(Record):
    """Everything one evaluation job found. `inputs` maps what was compared to its digest."""

    format_version: Literal[1] = 1
    test_set: str
    body: str
    inputs: dict[str, Sha256]
    networks: tuple[NetworkResult, ...]
    baseline: BaselineResult | None = None
    pseudo_gt: PseudoGtResult | None = None


class PersonErrors:
    """Errors of N persons, gathered batch by batch: columns of `COLUMNS`, millimetres; vertex columns are NaN without a mesh."""

    COLUMNS = ("mpjpe", "pa_mpjpe", "x", "y", "z", "mpvpe", "pa_mpvpe")

    def __init__(self, values_N7: np.ndarray | None = None) -> None:
        self.values_N7 = np.empty((0, len(self.COLUMNS))) if values_N7 is None else values_N7

    def __len__(self) -> int:
        return len(self.values_N7)

    def column(self, name: str) -> np.ndarray:
        return self.values_N7[:, self.COLUMNS.index(name)]

    @classmethod
    def joined(cls, parts: list[PersonErrors]) -> PersonErrors:
        return cls(np.concatenate([cls().values_N7, *(p.values_N7 for p in parts)]))

    def summary(self, chosen_N: np.ndarray | None = None) -> Errors:
        """Means over all, or over the chosen, persons. ValueError without any."""
        values = self.values_N7 if chosen_N is None else self.values_N7[chosen_N]
        if not len(values):
            raise ValueError("no person to average over")
        means = {f"{name}_mm": round(float(mean), 4) for name, mean in zip(self.COLUMNS, values.mean(axis=0), strict=True)}
        return Errors(persons=len(values), **{name: None if np.isnan(mean) else mean for name, mean in means.items()})
