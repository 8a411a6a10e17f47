"""Whether a MoCap set's own numbers agree with one another: units against the size of people, 3D against 2D.

Legend: N persons, J joints.
"""

from __future__ import annotations

import numpy as np

SIZE_M = (0.3, 3.5)
"""The longest side of the box around a person's joints; a crouching child's and a stretched giant's."""
DISAGREEMENT = 0.005
"""Share of the image's longer side by which a projected joint may be off its published 2D: 10 px of MPI-INF-3DHP's 2048."""


def size_m(joints_NJ3: np.ndarray) -> float:
    """Median over persons of the longest side of the box around their joints; NaN without a person."""
    sides_N3 = joints_NJ3.max(axis=-2) - joints_NJ3.min(axis=-2)
    return float(np.median(sides_N3.max(axis=-1))) if sides_N3.size else float("nan")


def wrong_size(joints_NJ3: np.ndarray) -> str | None:
    """What is wrong with the unit of joints that should be metres by now, or None."""
    size = size_m(joints_NJ3)
    if np.isnan(size) or SIZE_M[0] <= size <= SIZE_M[1]:
        return None
    return f"expected persons of {SIZE_M[0]} to {SIZE_M[1]} m, found {size:.3g} m; the unit of its joints is another than millimetres"


def disagreement_px(projected_NJ2: np.ndarray, published_NJ2: np.ndarray) -> float:
    """Median distance of projected joints from published ones; infinite where most are not in front of the camera."""
    distance = np.linalg.norm(projected_NJ2 - published_NJ2, axis=-1)
    return float(np.median(np.where(np.isfinite(distance), distance, np.inf))) if distance.size else 0.0
