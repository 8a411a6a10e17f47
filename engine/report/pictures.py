"""Contact sheets of stored predictions: rows of a release, or of a network's predictions, joined with their photographs.

Shapes as in engine/report/overlay.py. Rows need key, annotation_id, pose, betas, transl, focal and princpt (schemas/pseudo_gt.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.body.smpl import Body
from engine.errors import ShardCorrupt
from engine.evaluation.meshes import mesh, truth_meshes
from engine.report.overlay import Figure, Person, Shape
from engine.report.sticks import stick_figure
from engine.shards.person_crops import in_photograph
from engine.shards.reader import ShardSet
from schemas.manifests import ShardEntry, ShardIndexRow
from schemas.sample import Instance, Sample
from schemas.skeletons import SKELETONS

Row = dict[str, Any]


def spread_keys(rows: pa.Table, column: str, count: int) -> list[str]:
    """Up to `count` keys, evenly spaced from the image with the lowest to the one with the highest mean of `column`."""
    means = rows.group_by("key").aggregate([(column, "mean")]).sort_by([(f"{column}_mean", "ascending"), ("key", "ascending")])
    keys = means["key"].to_pylist()
    return [keys[i] for i in sorted({round(i) for i in np.linspace(0, len(keys) - 1, min(count, len(keys)))})] if keys else []


def lowest_keys(rows: pa.Table, column: str, count: int) -> list[str]:
    """The keys of the images with the lowest mean of `column`, lowest first."""
    return spread_keys(rows, column, len(rows))[:count]


def drawn_keys(rows: pa.Table, count: int, seed: int) -> list[str]:
    """Up to `count` keys drawn at random, the same ones for the same rows and seed."""
    keys = sorted(set(rows["key"].to_pylist()))
    chosen = np.random.default_rng(seed).permutation(len(keys))[:count]
    return [keys[i] for i in chosen]


def worst_rows(rows: pa.Table, column: str, count: int) -> list[Row]:
    """Up to `count` rows with the highest values of a column, highest first; equal ones by key and annotation id."""
    order = [(column, "descending"), ("key", "ascending"), ("annotation_id", "ascending")]
    return rows.sort_by(order).slice(0, count).to_pylist()


Caption = Callable[[Sample, list[Row]], list[str]]
Truth = Callable[[Instance], Shape | None]
"""Gives an instance's true shape, if it has one."""


def figures(
    rows: pa.Table, keys: Sequence[str], shards: ShardSet, body: Body, caption: Caption, truth: Truth = lambda instance: None
) -> list[Figure]:
    """One figure a key, in order, with the meshes of all its rows.

    ShardCorrupt if a key is not in the shard set, or its image cannot be read.
    """
    chosen = rows.filter(pc.is_in(rows["key"], pa.array(list(keys), pa.string()))).to_pylist()
    groups = [(key, [row for row in chosen if row["key"] == key]) for key in keys]
    return list(_figures(groups, shards, body, caption, truth))


def person_figures(rows: Sequence[Row], shards: ShardSet, body: Body, caption: Caption, truth: Truth) -> Iterator[Figure]:
    """One figure a row, in order, of that person alone; raises as `figures` does."""
    return _figures([(row["key"], [row]) for row in rows], shards, body, caption, truth)


def true_shape(instance: Instance, body: Body) -> Shape | None:
    """A person's true mesh; where only joints are known, a figure of sticks; None where nothing is."""
    if instance.smpl is not None and instance.smpl.pose_valid and instance.smpl.betas_valid:
        return Shape(truth_meshes([instance], body)[0], body.faces)
    joints = instance.joints_cam if instance.joints_cam is not None else instance.joints_univ
    return None if joints is None else stick_figure(np.asarray(joints), SKELETONS[instance.skeleton].bone_indices)


def _figures(groups: Sequence[tuple[str, list[Row]]], shards: ShardSet, body: Body, caption: Caption, truth: Truth) -> Iterator[Figure]:
    places = _places(shards, {key for key, _ in groups})
    for key, rows in groups:
        sample, image = read_sample(shards, *places[key])
        instances = {instance.annotation_id: instance for instance in sample.instances}
        mine = [row for row in rows if row["annotation_id"] in instances]
        persons = [_person(row, instances[row["annotation_id"]], body, truth) for row in mine]
        yield Figure(image, persons, caption(sample, mine))


def _person(row: Row, instance: Instance, body: Body, truth: Truth) -> Person:
    pose, betas, transl = (np.asarray([row[name]], np.float32) for name in ("pose", "betas", "transl"))
    vertices = mesh(body, pose, betas)[0] + transl[0]
    return Person(vertices, tuple(row["focal"]), tuple(row["princpt"]), instance, truth(instance))


def _places(shards: ShardSet, keys: set[str]) -> dict[str, tuple[ShardEntry, ShardIndexRow]]:
    places = {}
    for entry in shards.manifest.shards:
        if len(places) == len(keys):
            break
        places |= {row.key: (entry, row) for row in shards.index(entry) if row.key in keys}
    if missing := sorted(keys - places.keys()):
        lost = f"{missing[0]} ({len(missing)} missing in all)"
        raise ShardCorrupt(f"{shards.url}: no sample {lost}; give the shard set these rows were made from")
    return places


def read_sample(shards: ShardSet, entry: ShardEntry, row: ShardIndexRow) -> tuple[Sample, np.ndarray]:
    """One sample and its photograph by two small range reads, so that a few pictures do not cost whole remote shards.

    ShardCorrupt if either cannot be read.
    """
    record = shards.store.get(entry.path, row.json_offset, row.json_offset + row.json_size)
    data = shards.store.get(entry.path, row.image_offset, row.image_offset + row.image_size)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        sample = Sample.from_bytes(record)
    except ValueError as error:
        raise ShardCorrupt(f"{shards.shard_url(entry)}: {row.key}.json is not a Sample: {error}") from None
    if image is None:
        raise ShardCorrupt(f"{shards.shard_url(entry)}: the image of sample {row.key} cannot be decoded; verify the shard set")
    return sample, in_photograph(image, sample)
