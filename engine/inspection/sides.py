"""Left and right: what a set's annotation says of the sides, against what most bodies do.

One person may cross legs or turn at the waist, so only shares count. In 2D, hips follow shoulders from left to right, and so do the
eyes of a face that looks this way. In 3D, knees bend backwards: thigh x shin points to the body's left, whatever the pose.
Shapes as in engine/inspection/groups.py.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from engine.inspection.findings import AGREE, AGREE_OF, Findings
from engine.inspection.groups import Group
from engine.inspection.record import Agreement

_APART = 0.08
"""Left and right tell something when they are this far apart in x, over the box's larger side."""
_BENT = 0.35
"""Sine of the least bend of a knee that says where it bends to: 20 degrees."""


class Sides:
    """Counts agreements."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._agree: Counter[str] = Counter()
        self._of: Counter[str] = Counter()

    def add(self, group: Group) -> None:
        """Count a group's persons."""
        shoulders = _order(group, "Shoulder")
        self._count("hips as shoulders", shoulders, _order(group, "Hip"))
        self._count("eyes as shoulders", shoulders, _order(group, "Eye", apart=0.01))
        self._knees(group)

    def figures(self) -> dict[str, Agreement]:
        """Agreements by what they compare; too many that do not agree are a finding."""
        found = {name: Agreement(agree=self._agree[name], of=self._of[name]) for name in self._of if self._of[name]}
        for name, agreement in found.items():
            if agreement.of >= AGREE_OF and agreement.agree < AGREE * agreement.of:
                self._findings.add("sides_doubtful", "", message=f"{name}: {agreement.agree} of {agreement.of}")
        return found

    def _count(self, name: str, first_P: np.ndarray, second_P: np.ndarray) -> None:
        both = first_P * second_P
        self._of[name] += int((both != 0).sum())
        self._agree[name] += int((both > 0).sum())

    def _knees(self, group: Group) -> None:
        names = [f"{side}_{joint}" for side in "LR" for joint in ("Hip", "Knee", "Ankle")]
        if not all(name in group.skeleton for name in names):
            return
        left, right = (group.cam_PJ3[:, [group.skeleton.index(n) for n in part]] for part in (names[:3], names[3:]))
        to_left = left[:, 0] - right[:, 0]
        for hip, knee, ankle in (left.swapaxes(0, 1), right.swapaxes(0, 1)):
            thigh, shin = knee - hip, ankle - knee
            axis = np.cross(thigh, shin)
            bend = np.linalg.norm(axis, axis=1) / np.maximum(np.linalg.norm(thigh, axis=1) * np.linalg.norm(shin, axis=1), 1e-9)
            told = bend > _BENT  # False for NaN
            self._of["knees bend backwards"] += int(told.sum())
            self._agree["knees bend backwards"] += int((told & ((axis * to_left).sum(1) > 0)).sum())


def _order(group: Group, joint: str, apart: float = _APART) -> np.ndarray:
    """For each person 1 where the left joint is to the right of the right one in the image, -1 for the reverse, 0 where nobody can tell."""
    names = (f"L_{joint}", f"R_{joint}")
    if not all(name in group.skeleton for name in names):
        return np.zeros(len(group.persons))
    left, right = (group.skeleton.index(name) for name in names)
    gap = group.joints_PJ2[:, left, 0] - group.joints_PJ2[:, right, 0]
    told = group.valid_PJ[:, left] & group.valid_PJ[:, right] & (np.abs(gap) > apart * group.box_P4[:, 2:].max(1))
    return np.where(told, np.sign(gap), 0)
