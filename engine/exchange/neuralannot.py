"""NeuralAnnot's JSON files: {annotation id: {smpl_param: {pose, shape, trans}, cam_param: {focal, princpt}}}.

pose is axis-angle, rad, root first; trans is smplx's `transl` in the camera frame, metres; the camera is in pixels of the original
image. These are the numbers of a row, so nothing is lost but what the files have no place for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import Config
from engine.datasets.json_stream import leaves
from engine.errors import SampleRejected
from engine.exchange.base import Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.digits import json_numbers

CAPABILITIES = Capabilities(camera=True, notes=("no image names and boxes: joined by annotation id", "no latent, no quality figures"))


class Options(Config):
    """NeuralAnnot's files."""


class ItwWriter:
    wants_images = False

    def __init__(self, path: Path) -> None:
        self._path, self._ids = path, set()
        self._file = open(path, "w", encoding="ascii")  # noqa: SIM115  closed by `close`
        self._file.write("{")

    def add(self, person: Person) -> None:
        identity = person.instance.annotation_id
        if identity in self._ids:
            raise SampleRejected("duplicate_id", f"annotation id {identity} was written before, for another person")
        import json

        smpl = f'"pose":{json_numbers(person.pose_72)},"shape":{json_numbers(person.betas_10)},"trans":{json_numbers(person.transl_3)}'
        camera = f'"focal":{json_numbers(person.focal_2)},"princpt":{json_numbers(person.princpt_2)}'
        comma = "," if self._ids else ""
        self._file.write(f'{comma}\n{json.dumps(identity)}:{{"smpl_param":{{{smpl}}},"cam_param":{{{camera}}}}}')
        self._ids.add(identity)

    def close(self) -> list[str]:
        self._file.write("\n}\n")
        self._file.close()
        return [self._path.name]


class ItwReader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def fits(self) -> Iterator[Fit | Unmapped]:
        for (identity,), record in leaves(self._path, 1):
            try:
                yield _fit(identity, record)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                yield Unmapped(identity, "invalid_record", f"{error!r}", annotation_id=identity)


def _fit(identity: str, record: dict[str, Any]) -> Fit:
    smpl, camera = record["smpl_param"], record.get("cam_param")
    return Fit(
        np.asarray(smpl["pose"], np.float64).reshape(72),
        np.asarray(smpl["shape"], np.float64).reshape(10),
        np.asarray(smpl["trans"], np.float64).reshape(3),
        np.asarray(camera["focal"], np.float64).reshape(2),
        np.asarray(camera["princpt"], np.float64).reshape(2),
        annotation_id=identity,
    )


def open_writer(folder: Path, options: Options, info: ExportInfo) -> ItwWriter:
    return ItwWriter(folder / f"{info.dataset}_{info.split}_SMPL_NeuralAnnot.json")


def open_reader(path: Path, options: Options, load_body: LoadBody) -> ItwReader:
    return ItwReader(path)
