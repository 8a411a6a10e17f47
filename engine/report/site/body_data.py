"""Bodies for the browser: the open body itself, which is then posed there, or meshes posed here where a licence keeps the body at home.

Shapes: V vertices, F faces, P persons, K weights kept a vertex.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from engine.body.smpl import Body
from engine.errors import ConfigError

_KINDS = {"f": "<f4", "i": "<i2", "u": "<u2"}


def body_values(body: Body, embed: bool = False) -> dict[str, Any]:
    """What assets/body.js needs to pose a body: every number of it, as JSON values.

    ConfigError for a licensed body unless `embed`: its arrays on a page would be a copy of the model, which its licence forbids to hand
    on; and for a body with pose correctives, which the browser does not have.
    """
    if body.name != "open" and not embed:
        raise ConfigError(f"body {body.name!r}: its licence forbids to put the model on a page; its posed meshes are shown instead")
    if body.has_pose_correctives:
        raise ConfigError(f"body {body.name!r}: it has pose correctives, which are not computed in the browser; its posed meshes are shown")
    bones, weights = _sparse(body.weights.numpy())
    return {
        "name": body.name,
        "parents": [int(parent) for parent in body.parents],
        "template": _packed(body.v_template.numpy()),
        "shapedirs": _packed(body.shapedirs.numpy()),
        "rest_joints": _packed(body.rest_joints.numpy()),
        "rest_joints_shape": _packed(body.rest_joints_shape.numpy()),
        "bones": base64.b64encode(bones.astype(np.uint8).tobytes()).decode(),
        "weights": _packed(weights),
        "faces": _packed(body.faces.astype(np.uint16)),
    }


def mesh_values(vertices_V3: np.ndarray) -> dict[str, Any]:
    """A posed mesh (V, 3), m, in steps of its longest extent over 65,000: less than 0.02 mm for a person."""
    low, high = vertices_V3.min(0).astype(np.float64), vertices_V3.max(0).astype(np.float64)
    origin, scale = (low + high) / 2, max(float((high - low).max()), 1e-6) / 65_000
    values = np.rint((vertices_V3 - origin) / scale).astype(np.int16)
    return {"origin": origin.tolist(), "scale": scale, "values": _packed(values)}


def faces_values(body: Body) -> str:
    """The triangles of posed meshes (F, 3): which vertices make one is no secret of a model."""
    return _packed(body.faces.astype(np.uint16))


def _sparse(weights_VJ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bones (V, K) and their weights (V, K), as many a vertex as the busiest vertex has; nothing is dropped."""
    K = int((weights_VJ > 0).sum(1).max())
    bones = np.argsort(-weights_VJ, axis=1, kind="stable")[:, :K]
    return bones, np.take_along_axis(weights_VJ, bones, 1)


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, _KINDS[values.dtype.kind]).tobytes()).decode()
