"""NeuralAnnot's JSON files, in whose form the paper's own pseudo-GTs were published.

In the wild (COCO, MPII, CrowdPose), one file: {annotation id: {smpl_param: {pose, shape, trans}, cam_param: {focal, princpt}}}. pose is
axis-angle, rad, root first; trans is smplx's `transl` in the camera frame, metres; the camera is in pixels of the original image. These are
the numbers of a row. Human3.6M and MPI-INF-3DHP have one fit a time instant in the world instead: neuralannot_world.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from engine.config import Config
from engine.datasets.json_stream import leaves
from engine.errors import ConfigError, RawDataError, SampleRejected
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Reader, Unmapped, Writer
from engine.exchange.digits import json_numbers
from engine.exchange.seen import SeenNames

CAPABILITIES = Capabilities(
    camera=True,
    notes=(
        "joined by annotation id alone: no image name, no box",
        "no latent, no quality figures",
        "layouts human36m and mpi_inf_3dhp: one fit a time instant, of the best of its views; rows of a virtual camera are placed anew "
        "in the real one, where their projection moves by the difference in perspective",
    ),
)
SUFFIX = "_SMPL_NeuralAnnot.json"
NAMES = {"coco": "MSCOCO", "mpii": "MPII", "crowdpose": "CrowdPose", "instavariety": "InstaVariety", "threedpw": "3DPW", "3dpw": "3DPW"}
"""Published names of datasets; others keep their own."""
ODD = (KeyError, TypeError, ValueError, OverflowError, AttributeError)
"""What a record raises that lacks a field or has another thing in its place."""
Layout = Literal["itw", "human36m", "mpi_inf_3dhp"]


class Options(Config):
    """NeuralAnnot's files."""

    layout: Literal["auto", "itw", "human36m", "mpi_inf_3dhp"] = Field(
        default="auto", description="auto: by the dataset's name when written, by the files' names when read"
    )
    cameras: str | None = Field(
        default=None,
        description="layouts human36m and mpi_inf_3dhp: folder with the dataset's camera files, Human36M_subject<N>_camera.json or "
        "MPI-INF-3DHP_camera_1k.json",
    )
    camera_convention: Literal["R x + t", "R (x - t)"] = Field(
        default="R x + t", description="what R and t of the camera files mean; those of an older converter hold the camera's place as t"
    )


def open_writer(folder: Path, options: Options, info: ExportInfo) -> Writer:
    """A writer of the layout that the options or the dataset's name say."""
    layout = options.layout if options.layout != "auto" else info.dataset
    if layout not in ("human36m", "mpi_inf_3dhp"):
        return ItwWriter(folder, NAMES.get(info.dataset, info.dataset) + f"_{_split(info.split)}{SUFFIX}")
    from engine.exchange.neuralannot_world import WorldWriter

    return WorldWriter(folder, layout, _cameras(options, layout), options.camera_convention, info.load_body)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> Reader:
    """A reader of one file, or of every *_SMPL_NeuralAnnot.json of a folder. RawDataError where there is none."""
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise RawDataError(f"{path}: expected files named *{SUFFIX}, found none")
    named = {"Human36M": "human36m", "MPI-INF-3DHP": "mpi_inf_3dhp"}
    layout = options.layout
    if layout == "auto":
        layout = next((value for start, value in named.items() if files[0].name.startswith(start)), "itw")
    if layout == "itw":
        return ItwReader(files)
    from engine.exchange.neuralannot_world import WorldReader

    return WorldReader(files, layout, _cameras(options, layout), options.camera_convention, load_body)


def _split(split: str) -> str:
    """'train' of 'train2017', as published."""
    return next((name for name in ("train", "val", "test") if split.startswith(name)), split)


def _cameras(options: Options, layout: str) -> Path:
    if options.cameras is None:
        raise ConfigError(
            f"neuralannot.layout={layout}: fits are in the world, so the dataset's camera files are needed: set neuralannot.cameras to "
            "the folder that holds them"
        )
    return Path(options.cameras.removeprefix("file://"))


class ItwWriter:
    """{annotation id: fit}, one line a person. An id that comes again is rejected as 'duplicate_id'."""

    wants_images = False

    def __init__(self, folder: Path, name: str) -> None:
        self._name, self._written = name, 0
        self._ids = SeenNames()
        self._file = open(folder / name, "w", encoding="ascii")  # noqa: SIM115  closed by `close`
        self._file.write("{")

    def add(self, person: Person) -> None:
        record = f'{{"smpl_param":{{{smpl_json(person.pose_72, person.betas_10, person.transl_3)}}},"cam_param":{{{camera_json(person)}}}}}'
        identity = person.instance.annotation_id
        if not self._ids.add(identity):
            raise SampleRejected("duplicate_id", f"annotation id {identity} was written before, for another person")
        self._file.write(f"{',' if self._written else ''}\n{json.dumps(identity)}:{record}")
        self._written += 1

    def close(self) -> list[str]:
        self._file.write("\n}\n")
        self._file.close()
        self._ids.close()
        return [self._name]


class ItwReader:
    """Fits by annotation id. A record without translation or camera is a fit without a camera; what a record has besides is ignored."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def fits(self) -> Iterator[Fit | Unmapped]:
        for path in self._paths:
            for (identity,), record in leaves(path, 1):
                try:
                    yield fit_of(record, annotation_id=identity)
                except ODD as error:
                    yield Unmapped(identity, "invalid_record", f"{path.name}: {type(error).__name__}: {error}", annotation_id=identity)


def fit_of(record: dict[str, Any], **names: Any) -> Fit:
    """The fit of {smpl_param, cam_param, latent}; without a camera where a part of that is missing. What it raises is in ODD."""
    smpl, camera = record.get("smpl_param", record), record.get("cam_param") or {}
    where = {"transl_3": translation(smpl), "focal_2": _numbers(camera, "focal", 2), "princpt_2": _numbers(camera, "princpt", 2)}
    complete = where if all(value is not None for value in where.values()) else {}
    return Fit(*parameters(smpl), latent_32=_numbers(record, "latent", 32), **complete, **names)


def parameters(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Pose (72,) and betas (10,) of a record. What it raises is in ODD."""
    pose, betas = (_numbers(record, name, size) for name, size in (("pose", 72), ("shape", 10)))
    if pose is None or betas is None:
        raise ValueError(f"expected pose and shape, found {sorted(record)[:8]}")
    return pose, betas


def _numbers(record: dict[str, Any], name: str, size: int) -> np.ndarray | None:
    """Numbers of a record, however they are nested; None where it has none of the name."""
    if record.get(name) is None:
        return None
    values = np.asarray(record[name], np.float64).ravel()
    if values.size != size:
        raise ValueError(f"{name}: expected {size} numbers, found {values.size}")
    return values


def translation(record: dict[str, Any]) -> np.ndarray | None:
    """trans (3,) of a record, None where it has none. What it raises is in ODD."""
    return _numbers(record, "trans", 3)


def smpl_json(pose_72: np.ndarray, betas_10: np.ndarray, trans_3: np.ndarray) -> str:
    """The members of a fit's object."""
    return f'"pose":{json_numbers(pose_72)},"shape":{json_numbers(betas_10)},"trans":{json_numbers(trans_3)}'


def camera_json(person: Person) -> str:
    """The members of a camera's object."""
    return f'"focal":{json_numbers(person.focal_2)},"princpt":{json_numbers(person.princpt_2)}'
