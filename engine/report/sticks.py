"""A figure of sticks as a mesh, so that joints without a body are drawn by the renderer that draws bodies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from engine.report.overlay import Shape

_RADIUS_M = 0.025
_SIDES = 8


def stick_figure(joints_J3: np.ndarray, bones: Sequence[tuple[int, int]]) -> Shape | None:
    """A cylinder a bone, a ball a joint of one; joints in metres. None without a bone of any length."""
    solid = [(a, b) for a, b in bones if np.linalg.norm(joints_J3[a] - joints_J3[b]) > 1e-6]
    if not solid:
        return None
    parts = [trimesh.creation.cylinder(_RADIUS_M, segment=joints_J3[[a, b]], sections=_SIDES) for a, b in solid]
    for joint in sorted({j for bone in solid for j in bone}):
        ball = trimesh.creation.icosphere(subdivisions=1, radius=1.6 * _RADIUS_M)
        ball.apply_translation(joints_J3[joint])
        parts.append(ball)
    figure = trimesh.util.concatenate(parts)
    return Shape(np.asarray(figure.vertices), np.asarray(figure.faces))
