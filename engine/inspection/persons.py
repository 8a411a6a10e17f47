"""The persons of a source: their supervision, boxes and joints, and what in them contradicts itself.

Shapes as in engine/inspection/groups.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.inspection.findings import OUTSIDE_BOX, SMALL_PX, Findings
from engine.inspection.groups import Group, Person, groups
from engine.inspection.record import JointFigures, PersonFigures
from engine.inspection.seen import Seen, Tally
from engine.inspection.sides import Sides
from engine.inspection.space import Space
from engine.inspection.spread import SpreadCounter
from schemas.skeletons import SKELETONS

_MANY = 10


class Persons:
    """Counts persons, and notes what contradicts itself."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._ids, self._people = Seen(), Seen()
        self._joints: dict[str, np.ndarray] = {}
        self._of_skeleton: Counter[str] = Counter()
        self._valid_joints: Counter[int] = Counter()
        self._supervision: Counter[str] = Counter()
        self._genders: Counter[str] = Counter()
        self._box_widths, self._box_heights = SpreadCounter(), SpreadCounter()
        self._small = self._persons = 0
        self._images = Tally()
        self.space, self.sides = Space(findings), Sides(findings)

    def __len__(self) -> int:
        return self._persons

    def add(self, persons: Sequence[Person]) -> np.ndarray:
        """Count persons; their reprojection errors in pixels, in order, NaN where there is no 3D."""
        for person in persons:
            self._one(person)
        errors, places = np.full(len(persons), np.nan), {id(person): i for i, person in enumerate(persons)}
        for group in groups(persons):
            name, valid = group.skeleton.name, group.valid_PJ
            self._joints[name] = self._joints.get(name, np.zeros(len(group.skeleton), np.int64)) + valid.sum(0)
            self._of_skeleton[name] += len(valid)
            self._valid_joints.update(valid.sum(1).tolist())
            self._boxes(group)
            self._flat(group)
            errors[[places[id(person)] for person in group.persons]] = self.space.add(group)
            self.sides.add(group)
        return errors

    def persons_of(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the images (key and path), and how many persons each has."""
        return self._images.totals()

    def figures(self, skipped: Counter[str], unreadable: Counter[str], unreadable_persons: int) -> PersonFigures:
        """What was counted. `sides` is judged here, as it takes all persons."""
        an_image = Counter(np.minimum(self._images.totals()[1], _MANY).tolist())
        return PersonFigures(
            persons=self._persons,
            skipped=dict(skipped.most_common()),
            unreadable=dict(unreadable.most_common()),
            unreadable_persons=unreadable_persons,
            an_image={f"{n}+" if n == _MANY else str(n): an_image[n] for n in sorted(an_image)},
            joints=tuple(
                JointFigures(
                    skeleton=name, persons=self._of_skeleton[name], valid=dict(zip(SKELETONS[name].joints, counts.tolist(), strict=True))
                )
                for name, counts in self._joints.items()
            ),
            valid_joints={str(n): self._valid_joints[n] for n in sorted(self._valid_joints)},
            supervision=dict(self._supervision.most_common()),
            genders=dict(self._genders.most_common()),
            box_heights_px=self._box_heights.spread(),
            box_widths_px=self._box_widths.spread(),
            small_boxes=self._small,
            space=self.space.figures(),
            sides=self.sides.figures(),
        )

    def _one(self, person: Person) -> None:
        who, key, path = person.instance, person.key, person.image_path
        self._persons += 1
        self._images.add(1, key, path)
        if not self._ids.add(key, path, who.annotation_id):
            self._findings.add("annotation_id_twice", key, who.annotation_id)
        if any(who.joints_valid) and not self._people.add(key, path, repr((who.joints_img, who.joints_valid))):
            self._findings.add("person_twice", key, who.annotation_id)
        smpl = who.smpl
        has = {
            "2D joints": any(who.joints_valid),
            "3D joints": who.joints_cam is not None,
            "universal 3D joints": getattr(who, "joints_univ", None) is not None,
            "SMPL pose": smpl is not None and smpl.pose_valid,
            "SMPL betas": smpl is not None and smpl.betas_valid,
            "camera": who.camera is not None,
        }
        self._supervision.update(name for name, there in has.items() if there)
        if smpl is not None:
            self._genders[smpl.gender] += 1
        if who.camera is None and (smpl is not None or who.joints_cam is not None):
            self._findings.add("camera_missing", key, who.annotation_id)

    def _boxes(self, group: Group) -> None:
        low, extent = group.box_P4[:, :2], group.box_P4[:, 2:]
        high, size = low + extent, group.size_P2
        self._box_widths.add(extent[:, 0])
        self._box_heights.add(extent[:, 1])
        self._small += int((extent[:, 1] < SMALL_PX).sum())
        outside = ((high <= 0) | (low >= size)).any(1)
        leaves = ~outside & ((low < -1) | (high > size + 1)).any(1)
        for name, mask in (("box_outside", outside), ("box_leaves_image", leaves)):
            for row, key, person in group.where(mask):
                self._findings.add(name, key, person, f"{_box(group.box_P4[row])}{_size(size[row])}")

    def _flat(self, group: Group) -> None:
        """2D joints against the image and the box. What is negative is outside of any image, whatever its size."""
        joints, valid = group.joints_PJ2, group.valid_PJ
        beyond = valid & ((joints < -1) | (joints > group.size_P2[:, None])).any(2)
        reach = OUTSIDE_BOX * group.box_P4[:, 2:].max(1)
        low, high = group.box_P4[:, :2] - reach[:, None], group.box_P4[:, :2] + group.box_P4[:, 2:] + reach[:, None]
        astray = valid & ((joints < low[:, None]) | (joints > high[:, None])).any(2)
        for name, mask in (("joint_outside_image", beyond), ("joint_outside_box", astray)):
            for row, key, person in group.where(mask.any(1)):
                names = [
                    f"{group.skeleton.joints[j]} ({joints[row, j, 0]:.0f}, {joints[row, j, 1]:.0f})" for j in np.flatnonzero(mask[row])
                ]
                self._findings.add(name, key, person, ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else ""))
        for _, key, person in group.where(~valid.any(1)):
            self._findings.add("no_valid_joint", key, person)
        span = np.where(valid[..., None], joints, -np.inf).max(1) - np.where(valid[..., None], joints, np.inf).min(1)
        for row, key, person in group.where((valid.sum(1) >= 3) & (span <= 1).all(1)):
            self._findings.add("joints_coincide", key, person, f"{valid[row].sum()} joints")


def _size(size_2: np.ndarray) -> str:
    return " in {:g}x{:g} px".format(*size_2) if np.isfinite(size_2).all() else ""


def _box(box_4: np.ndarray) -> str:
    return "x={:.0f} y={:.0f} w={:.0f} h={:.0f}".format(*box_4)
