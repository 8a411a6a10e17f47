"""Errors person by person and joint by joint, before they become means.

Shapes: N persons, J joints. Columns are millimetres, and shares from 0 to 1 for PCK and AUC; NaN where a person has no such figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engine.evaluation.metrics import align_similarity, distances
from engine.evaluation.results import Errors, JointErrors


@dataclass(frozen=True)
class PersonErrors:
    """Errors of N persons: `columns` (N,) by name, and `joints` (N, J) by measure for the joints `names`.

    A person without any MPJPE was not predicted and is in no mean of millimetres; a protocol may count it as a miss in its PCK.
    """

    MM: ClassVar[tuple[str, ...]] = ("mpjpe", "pa_mpjpe", "x", "y", "z", "mpvpe", "pa_mpvpe")
    SHARES: ClassVar[tuple[str, ...]] = ("pck", "auc", "pck_matched", "auc_matched")

    names: tuple[str, ...]
    columns: dict[str, np.ndarray]
    joints: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["mpjpe"])

    def column(self, name: str) -> np.ndarray:
        return self.columns[name] if name in self.columns else np.full(len(self), np.nan)

    @property
    def predicted_N(self) -> np.ndarray:
        """Which persons were predicted."""
        return np.isfinite(self.columns["mpjpe"])

    @classmethod
    def joined(cls, parts: list[PersonErrors]) -> PersonErrors:
        """All persons, in order. The parts are of one protocol."""
        first = parts[0]
        return cls(
            first.names,
            {name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns},
            {name: np.concatenate([part.joints[name] for part in parts]) for name in first.joints},
        )

    def chosen(self, chosen: np.ndarray) -> PersonErrors:
        """Some of the persons, by mask or by place."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return PersonErrors(self.names, columns, {name: values[chosen] for name, values in self.joints.items()})

    def with_columns(self, **columns: np.ndarray) -> PersonErrors:
        """The same with more figures a person."""
        return PersonErrors(self.names, self.columns | columns, self.joints)

    def with_pck(self, pck_NJ: np.ndarray, auc_NJ: np.ndarray) -> PersonErrors:
        """The same with PCK and AUC of joints (NaN for those that are not counted), and of persons: means over the counted ones."""
        columns = {"pck": _row_means(pck_NJ), "auc": _row_means(auc_NJ)}
        return PersonErrors(self.names, self.columns | columns, self.joints | {"pck": pck_NJ})

    def summary(self, chosen_N: np.ndarray | None = None) -> Errors:
        """Means over all, or over the chosen, persons. ValueError if none of them was predicted."""
        some = self if chosen_N is None else self.chosen(chosen_N)
        persons = int(some.predicted_N.sum())
        if not persons:
            raise ValueError("no person to average over")
        means = {f"{name}_mm": _mean(some.column(name)) for name in self.MM}
        shares = {f"{name}_percent": _mean(100 * some.column(name)) for name in self.SHARES}
        return Errors(persons=persons, **means, **shares)

    def joint_summary(self) -> dict[str, JointErrors]:
        """Means over persons, joint by joint."""
        nothing = np.full((len(self), len(self.names)), np.nan)
        pck = 100 * self.joints.get("pck", nothing)
        return {
            name: JointErrors(
                mpjpe_mm=_mean(self.joints["mpjpe"][:, j]), pa_mpjpe_mm=_mean(self.joints["pa_mpjpe"][:, j]), pck_percent=_mean(pck[:, j])
            )
            for j, name in enumerate(self.names)
        }


def joint_errors(pred_NJ3: np.ndarray, target_NJ3: np.ndarray, names: tuple[str, ...]) -> PersonErrors:
    """Errors of joints (mm) whose roots lie at the origin; x, y and z are those of `per_axis_errors`. ValueError as `distances` says."""
    apart, aligned = distances(pred_NJ3, target_NJ3), align_similarity(pred_NJ3, target_NJ3)
    apart_aligned, axes = distances(aligned, target_NJ3), np.abs(aligned - target_NJ3).mean(axis=1)
    columns = {"mpjpe": apart.mean(axis=1), "pa_mpjpe": apart_aligned.mean(axis=1)} | dict(zip("xyz", axes.T, strict=True))
    return PersonErrors(names, columns, {"mpjpe": apart, "pa_mpjpe": apart_aligned})


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if len(known) else None


def _row_means(values_NJ: np.ndarray) -> np.ndarray:
    """Means over what is not NaN of each row; NaN for a row without anything."""
    known = ~np.isnan(values_NJ)
    count = known.sum(axis=1)
    total = np.where(known, values_NJ, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values_NJ), np.nan), where=count > 0)
