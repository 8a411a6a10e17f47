"""MoCap as the authors' JSON files publish it: joints and SMPL fits of a time instant in the world, seen by several fixed cameras.

Human3.6M has four such files a subject, MPI-INF-3DHP four in all; they differ in the names of fields alone (`Layout`). Joints are in world
millimetres, fits in world metres. Memory is a row an image, an annotation and an instant of the split: below 300 MB for 400,000 images.

Legend: N persons, J joints, I instants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.datasets.base import Found, ImageFile, RawItem, SkippedInstances, Unreadable, make_instance, read_json
from engine.datasets.fixed_cameras import FixedCamera, Key, Seen, make_camera, settle
from engine.datasets.geometry import carry_to_camera, degenerate, rounded
from engine.datasets.mocap_tables import INVALID, ODD, Fields, of_instants, read_images, read_joints, read_persons
from engine.datasets.smpl_fits import FitTable, RestPelvis
from schemas.sample import Camera, SmplParams
from schemas.skeleton import Skeleton

_JUDGES = 500
"""Persons by which a camera is judged."""


@dataclass(frozen=True)
class Layout:
    """How one dataset's files name things, and what is wanted of them."""

    skeleton: Skeleton
    fields: Fields
    focal: str
    princpt: str
    unwanted: Callable[[dict[str, Any]], str | None]
    """Why an image record is left out, if it is."""
    name: Callable[[str, int, Key, Key], tuple[str, str]]
    """Key and image_path from an image's file_name, id, camera and instant."""
    image_file: Callable[[str], Path]


@dataclass(frozen=True)
class Files:
    """The files of one part of a dataset, such as a subject; `fits` is None where there are none."""

    part: str
    data: Path
    cameras: Path
    joints: Path
    fits: Path | None


def read_part(layout: Layout, files: Files, pelvis: Callable[[], RestPelvis]) -> Iterator[Found]:
    """Every person of one part, a RawItem each, in the order of cameras and then of the file.

    `pelvis` is asked for the body's rest pelvis where there are fits. RawDataError if a file is not what it should be; nothing has been
    yielded by then.
    """
    images = read_images(files.data, layout.fields, layout.unwanted)
    persons = read_persons(files.data, images)
    joints_IJ3 = read_joints(files.joints, len(layout.skeleton), images.instants)
    fits = _Fits(FitTable(of_instants(files.fits, images.instants)), pelvis()) if files.fits else None
    columns_N5 = np.array(images.columns, np.int64).reshape(-1, 5)[np.array(persons.image, np.int64)]
    bbox_N4 = np.array(persons.bbox, np.float64).reshape(-1, 4)
    camera_N, instant_N = columns_N5[:, 3], columns_N5[:, 4]
    usable_N = np.isfinite(joints_IJ3).all((1, 2))[instant_N] & np.isfinite(bbox_N4).all(1)
    rows = {key: np.flatnonzero(usable_N & (camera_N == index)) for key, index in images.cameras.items()}
    judges = {key: mine[:: max(1, len(mine) // _JUDGES)] for key, mine in rows.items()}
    seen = {key: Seen(joints_IJ3[instant_N[mine]], bbox_N4[mine]) for key, mine in judges.items()}
    cameras, wrong = _cameras(files.cameras, layout, seen)

    instants = list(images.instants)
    for key in sorted(rows):
        if key in wrong:
            where = "_".join(map(str, key))
            yield Unreadable(
                f"{files.part}_camera_{where}", "calibration_wrong", f"{files.cameras}: camera {where}: {wrong[key]}", len(rows[key])
            )
            continue
        camera = cameras[key]
        pinhole = Camera(focal=rounded(camera.focal), princpt=rounded(camera.princpt))
        for row in rows[key].tolist():
            identity, width, height, _, instant = columns_N5[row].tolist()
            bbox, cam_J3 = tuple(bbox_N4[row].tolist()), camera.to_camera(joints_IJ3[instant])
            if degenerate(bbox, width, height) or not (cam_J3[:, 2] > 0).all():
                yield SkippedInstances("degenerate_box" if degenerate(bbox, width, height) else "behind_camera")
                continue
            person = make_instance(
                annotation_id=persons.ids[row], bbox_xywh=bbox, skeleton=layout.skeleton.name,
                joints_img=rounded(camera.to_image(cam_J3)), joints_valid=(True,) * len(layout.skeleton), joints_cam=rounded(cam_J3),
                smpl=fits.in_camera(instant, camera) if fits else None, camera=pinhole,
            )  # fmt: skip
            if isinstance(person, SkippedInstances):
                yield person
                continue
            item_key, image_path = layout.name(images.file_names[persons.image[row]], identity, key, instants[instant])
            yield RawItem(item_key, image_path, ImageFile(layout.image_file(image_path)), width, height, (person,))
    persons.skipped[INVALID] += int((~usable_N).sum())
    yield from (SkippedInstances(reason, count) for reason, count in sorted(persons.skipped.items()) if count)


@dataclass(frozen=True)
class _Fits:
    table: FitTable
    pelvis: RestPelvis

    def in_camera(self, instant: int, camera: FixedCamera) -> SmplParams | None:
        fit = self.table.get(instant)
        return fit and carry_to_camera(*fit, self.pelvis(fit.betas_10), camera.R, camera.t)


def _cameras(path: Path, layout: Layout, seen: Mapping[Key, Seen]) -> tuple[dict[Key, FixedCamera], dict[Key, str]]:
    """The cameras of a file in terms of R x + t, and what is wrong with the others of `seen`. RawDataError if it is not JSON."""
    content, cameras, wrong = read_json(path), {}, {}
    for key in seen:
        record = content
        try:
            for step in key:
                record = record[str(step)]
            cameras[key] = make_camera(record["R"], record["t"], record[layout.focal], record[layout.princpt])
        except ODD as error:
            wrong[key] = f"lacks or spoils an entry: {error!r}"
    _, cameras, disagreeing = settle(cameras, seen)
    return cameras, wrong | disagreeing
