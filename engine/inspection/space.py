"""3D joints against the camera, the 2D joints and themselves. Shapes as in engine/inspection/groups.py."""

from __future__ import annotations

import numpy as np

from engine.inspection.findings import DEPTH_M, OFF_BOX, OFF_PX, THIGH_M, UNEVEN, Findings
from engine.inspection.groups import Group
from engine.inspection.record import SpaceFigures, WorstPerson
from engine.inspection.spread import SpreadCounter
from schemas.skeleton import Skeleton

_WORST = 5
_BONES = (("Hip", "Knee"), ("Knee", "Ankle"), ("Shoulder", "Elbow"), ("Elbow", "Wrist"))
_THIGH = ("Hip", "Knee")


class Space:
    """Counts persons with 3D joints, and notes those that do not fit."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._persons = 0
        self._errors, self._depths, self._thighs, self._unevenness = (SpreadCounter() for _ in range(4))
        self._worst: list[tuple[float, str, str]] = []

    def add(self, group: Group) -> np.ndarray:
        """Count a group's 3D; each person's reprojection error in pixels (NaN: no 3D, no camera, or no valid joint)."""
        solid = np.isfinite(group.cam_PJ3).all((1, 2))
        self._persons += int(solid.sum())
        errors = np.full(len(solid), np.nan)
        if not solid.any():
            return errors
        depth_PJ = group.cam_PJ3[..., 2]
        with np.errstate(invalid="ignore"):
            behind = solid & (depth_PJ <= 0).any(1)
        middle = np.median(depth_PJ, 1)
        self._depths.add(middle)
        for row, key, person in group.where(behind):
            self._findings.add("behind_camera", key, person, f"depth {depth_PJ[row].min():.3g} m")
        for row, key, person in group.where(solid & (middle > DEPTH_M)):
            self._findings.add("too_far", key, person, f"depth {middle[row]:.4g}")
        self._bones(group, solid)
        seen = solid & ~behind & np.isfinite(group.focal_P2).all(1) & group.valid_PJ.any(1)
        if seen.any():
            errors[seen] = self._reproject(group, seen)
        return errors

    def figures(self) -> SpaceFigures | None:
        """What was counted; None where nobody has 3D joints."""
        if not self._persons:
            return None
        worst = tuple(WorstPerson(key=key, annotation_id=person, error_px=error) for error, key, person in self._worst)
        return SpaceFigures(
            persons=self._persons, reprojection_px=self._errors.spread(), worst=worst, depth_m=self._depths.spread(),
            thigh_m=self._thighs.spread(), unevenness=self._unevenness.spread(),
        )  # fmt: skip

    def _reproject(self, group: Group, seen_P: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(seen_P)
        cam = group.cam_PJ3[rows]
        image = cam[..., :2] / cam[..., 2:] * group.focal_P2[rows, None] + group.princpt_P2[rows, None]
        valid, truth = group.valid_PJ[rows], group.joints_PJ2[rows]
        errors = _median_distance(image, truth, valid)
        mirrored = _median_distance(image[:, list(group.skeleton.flip_permutation)], truth, valid)
        limit = np.maximum(OFF_PX, OFF_BOX * group.box_P4[rows, 2:].max(1))
        self._errors.add(errors)
        for at in np.flatnonzero(errors > limit):
            person = group.persons[rows[at]]
            swapped = mirrored[at] < min(limit[at], errors[at] / 3)
            name, message = ("sides_swapped_in_3d" if swapped else "reprojection_off"), f"{errors[at]:.1f} px"
            self._findings.add(
                name, person.key, person.instance.annotation_id, message + (f", mirrored {mirrored[at]:.1f}" if swapped else "")
            )
        for at in np.argsort(-errors, kind="stable")[:_WORST]:
            person = group.persons[rows[at]]
            self._worst.append((float(errors[at]), person.key, person.instance.annotation_id))
        self._worst = sorted(self._worst, key=lambda found: (-found[0], found[1:]))[:_WORST]
        return errors

    def _bones(self, group: Group, solid_P: np.ndarray) -> None:
        lengths = _bone_lengths(group.skeleton, group.cam_PJ3)
        if not lengths:
            return
        if _THIGH in lengths:
            thigh = lengths[_THIGH].mean(1)
            self._thighs.add(thigh[solid_P])
            with np.errstate(invalid="ignore"):
                odd = solid_P & ((thigh < THIGH_M[0]) | (thigh > THIGH_M[1]))
            for row, key, person in group.where(odd):
                self._findings.add("bone_length", key, person, f"thigh {thigh[row]:.3g} m")
        pairs = np.stack(list(lengths.values()))
        uneven = np.abs(pairs[..., 0] - pairs[..., 1]) / np.maximum(pairs.mean(-1), 1e-9)
        worst = np.where(solid_P, uneven.max(0), np.nan)
        self._unevenness.add(worst)
        names = list(lengths)
        for row, key, person in group.where(solid_P & (worst > UNEVEN)):
            bone = int(uneven[:, row].argmax())
            left, right = pairs[bone, row]
            self._findings.add("bones_uneven", key, person, f"{'-'.join(names[bone])}: left {left:.3f}, right {right:.3f} m")


def _bone_lengths(skeleton: Skeleton, cam_PJ3: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Lengths (P, 2), left and right, of the bones a skeleton has on both sides."""
    found = {}
    for bone in _BONES:
        names = [[f"{side}_{end}" for end in bone] for side in "LR"]
        if all(name in skeleton for pair in names for name in pair):
            ends = [[cam_PJ3[:, skeleton.index(name)] for name in pair] for pair in names]
            found[bone] = np.stack([np.linalg.norm(a - b, axis=1) for a, b in ends], axis=1)
    return found


def _median_distance(image_PJ2: np.ndarray, truth_PJ2: np.ndarray, valid_PJ: np.ndarray) -> np.ndarray:
    return np.nanmedian(np.where(valid_PJ, np.linalg.norm(image_PJ2 - truth_PJ2, axis=2), np.nan), axis=1)
