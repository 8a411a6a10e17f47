"""The persons of a site as data for its page, a thousand a file.

    data/persons-NNN.js   names and figures: what the gallery searches, filters and sorts; loaded at once
    data/bodies-NNN.js    parameters, cameras, marked joints: loaded when somebody of the thousand is looked at
    data/other-NNN.js     the same persons' parameters and cameras in the release compared with
    data/body.js          the body, to be posed in the browser; where its licence keeps it at home, data/faces.js and data/mesh-NNNNN.js

Shapes: C persons of a chunk, V vertices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.body.smpl import Body
from engine.report.site.body_data import body_values, faces_values, mesh_values
from engine.report.site.persons import vectors
from engine.report.site.scripts import packed, script
from engine.report.site.tiles import File
from engine.report.site.words import CHANGES, FIGURES
from schemas.sample import Instance

_PARAMETERS = ("pose", "betas", "transl", "focal", "princpt")


def persons_file(number: int, rows: pa.Table, changes: Mapping[str, np.ndarray] | None) -> File:
    """Names and figures of a chunk."""
    datasets = sorted(set(rows["dataset"].to_pylist()))
    place_of = {name: i for i, name in enumerate(datasets)}
    figures = {f.column: packed(rows[f.column].to_numpy().astype(np.float32)) for f in FIGURES}
    figures |= {f.column: packed(changes[f.column]) for f in CHANGES if changes is not None}
    value = {
        "count": len(rows),
        "key": rows["key"].to_pylist(),
        "id": rows["annotation_id"].to_pylist(),
        "datasets": datasets,
        "dataset": [place_of[name] for name in rows["dataset"].to_pylist()],
        "figures": figures,
    }
    return _file(f"persons-{number:03d}", value)


def bodies_file(number: int, rows: pa.Table, windows_C4: np.ndarray, photo_px_C: np.ndarray, instances: Sequence[Instance | None]) -> File:
    """Parameters, cameras, windows of the photographs and marked joints of a chunk."""
    value: dict[str, Any] = _parameters(rows) | {
        "bbox": packed(vectors(rows, "bbox_xywh")),
        "window": packed(windows_C4.astype(np.int32)),
        "photo": packed(photo_px_C.astype(np.int32)),
        "skeleton": ["" if i is None else i.skeleton for i in instances],
        "joints": [None if i is None else _joints(i) for i in instances],
    }
    return _file(f"bodies-{number:03d}", value)


def other_file(number: int, other: pa.Table, places_C: np.ndarray) -> File:
    """Parameters, cameras and score of a chunk's persons in the other release; `present` is 0 for who is not in it."""
    there = places_C >= 0
    table = other.take(pa.array(np.maximum(places_C, 0))) if len(other) else None
    value: dict[str, Any] = {"present": packed(there.astype(np.int32))}
    if table is not None:
        value |= _parameters(table) | {"score": packed(table["score"].to_numpy().astype(np.float32))}
    return _file(f"other-{number:03d}", value)


def mesh_file(index: int, vertices_V3: np.ndarray) -> File:
    """A posed mesh, within 0.02 mm."""
    return _file(f"mesh-{index:05d}", mesh_values(vertices_V3))


def body_file(body: Body) -> File:
    """The body itself, to be posed in the browser. ConfigError for one that may or can not be."""
    return _file("body", body_values(body))


def faces_file(body: Body) -> File:
    """The triangles of posed meshes."""
    return _file("faces", faces_values(body))


def _file(name: str, value: Any) -> File:
    return f"data/{name}.js", script(name, value)


def _parameters(rows: pa.Table) -> dict[str, str]:
    return {name: packed(vectors(rows, name)) for name in _PARAMETERS}


def _joints(instance: Instance) -> list[list[float] | int]:
    """[x, y] in the photograph's pixels, a tenth of a pixel; 0 where it is not marked."""
    points = zip(instance.joints_img, instance.joints_valid, strict=True)
    return [[round(p[0], 1), round(p[1], 1)] if valid and np.isfinite(p).all() else 0 for p, valid in points]
