"""What is known of the persons of a batch beside their pixels: the 2D joints that were annotated, for annotators that fit to them.

Computed when asked for: a network never does, and pays nothing.

Shape suffixes: B places of a batch, J joints of `pose2pose33`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from schemas.skeletons import POSE2POSE33, shared_joints

if TYPE_CHECKING:
    from engine.loading.persons import CropBatch

SKELETON = POSE2POSE33.name


@dataclass(frozen=True)
class Seen:
    """The annotated joints of a batch of `size` places, of which the first are `people` and the others nobody.

    only: places that count, the others being blank like their crops; None: all.
    """

    people: CropBatch
    size: int
    only: frozenset[int] | None = None

    def alone(self, places: Collection[int]) -> Seen:
        """The same batch with these places alone."""
        return Seen(self.people, self.size, frozenset(places))

    @cached_property
    def joints_BJ2(self) -> np.ndarray:
        """Annotated joints in crop pixels, float32, mapped by name; 0 where `weight_BJ` is 0."""
        return self._joints[0]

    @cached_property
    def weight_BJ(self) -> np.ndarray:
        """1 where a joint is annotated, else 0; float32."""
        return self._joints[1]

    @cached_property
    def _joints(self) -> tuple[np.ndarray, np.ndarray]:
        joints_BJ2 = np.zeros((self.size, len(POSE2POSE33), 2))
        weight_BJ = np.zeros((self.size, len(POSE2POSE33)))
        for place, instance in enumerate(self.people.instances):
            if self.only is not None and place not in self.only:
                continue
            truth, ours = (list(indices) for indices in shared_joints(instance.skeleton, SKELETON))
            xy_S2 = np.array(instance.joints_img, np.float64)[truth]
            valid_S = np.array(instance.joints_valid, bool)[truth]
            affine_23 = self.people.affines_N23[place]
            crop_S2 = xy_S2 @ affine_23[:, :2].T + affine_23[:, 2]
            joints_BJ2[place, ours] = np.where(valid_S[:, None], crop_S2, 0)
            weight_BJ[place, ours] = valid_S
        return joints_BJ2.astype(np.float32), weight_BJ.astype(np.float32)
