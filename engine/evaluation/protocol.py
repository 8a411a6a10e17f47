"""What a protocol is: which persons it scores, what it keeps of a prediction and of the truth, and what errors it makes of them.

The errors themselves are pure functions of joints in millimetres, which each protocol's file holds above its class. What is kept of a
person is a row in a few arrays, so that a protocol may look at all persons of a frame, whichever batch or shard they came in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np

from engine.body.smpl import Body
from engine.evaluation.person_errors import PersonErrors
from engine.evaluation.results import Errors, JointErrors
from schemas.sample import Instance, Sample
from schemas.skeletons import SKELETONS

Kept = dict[str, np.ndarray]
"""Arrays with one row a person. `pred` and `target` (joints of `Protocol.joints`, mm, roots at the origin) are always among them."""


@dataclass(frozen=True)
class PredictedPeople:
    """B predicted persons: vertices (m) without translation, translation (m), and the camera in which they lie on the photograph (px)."""

    vertices_BV3: np.ndarray
    transl_B3: np.ndarray
    focal_B2: np.ndarray
    princpt_B2: np.ndarray


class Protocol(ABC):
    """One way to score. `truth` says what a person must have, `details` what is scored, both in words for messages and tables."""

    name: ClassVar[str]
    truth: ClassVar[str]
    details: ClassVar[str]
    joints: ClassVar[tuple[str, ...]]
    """The joints of MPJPE and PA-MPJPE, in order."""

    @abstractmethod
    def unfit(self, sample: Sample, instance: Instance) -> str | None:
        """Why a person is left out; None: it is scored."""

    @abstractmethod
    def measure(self, people: PredictedPeople, instances: Sequence[Instance], body: Body) -> Kept:
        """What is kept of predicted persons and of their truth."""

    @abstractmethod
    def errors(self, kept: Kept, frames: Sequence[str]) -> PersonErrors:
        """Errors of all persons, in order. `frames` names each person's photograph."""

    def missed(self, instances: Sequence[Instance]) -> Kept | None:
        """What is kept of persons nobody could predict (a broken image), where the protocol counts them; None: it does not."""
        return None

    def sequence(self, sample: Sample) -> str:
        """The sequence of a sample: the folder of its image."""
        return PurePosixPath(sample.image_path).parent.name or sample.dataset

    def overall(self, errors: PersonErrors, sequences: np.ndarray) -> tuple[Errors, dict[str, JointErrors]]:
        """The figures of the whole test set, and joint by joint: means over persons."""
        return errors.summary(), errors.joint_summary()


def joints_of(instances: Sequence[Instance], field: str, joints: tuple[str, ...]) -> np.ndarray:
    """`joints_cam` or `joints_univ` (mm, camera frame) or `joints_img` (px) of some named joints, (B, J, 3 or 2) float64."""
    rows = []
    for instance in instances:
        skeleton = SKELETONS[instance.skeleton]
        values = getattr(instance, field)
        rows.append([values[skeleton.index(name)] for name in joints])
    return np.array(rows, np.float64) * (1 if field == "joints_img" else 1000)


def lacks(instance: Instance, field: str, joints: tuple[str, ...]) -> bool:
    """Whether a person has no 3D joints of a kind (`joints_cam`, `joints_univ`), or a skeleton without all of these joints."""
    return getattr(instance, field) is None or any(name not in SKELETONS[instance.skeleton] for name in joints)


def joined(parts: Sequence[Kept]) -> Kept:
    """All persons' rows, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
