"""SPIN's fits: `<dataset>_fits.npy`, (N, 82) pose and betas, and the final ones, npz with pose, betas and valid_fit.

Row n is row n of a dataset's npz (imgname, center, scale, part, openpose), which says whose fit it is; neither file has a camera. An
export follows the rows of an npz that the user has (`aligned_to`), or writes one beside it. An import wants both files in one folder, so
that the import's digest covers both. Source: SPIN (Kolotouros et al., ICCV 2019), its files and their loaders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pydantic import Field

from engine.config import Config
from engine.errors import ConfigError, MissingInput, RawDataError, SampleRejected
from engine.exchange.base import INVALID_FIT, Capabilities, ExportInfo, Fit, LoadBody, Person, Unmapped
from engine.exchange.columns import ColumnWriter, Npz, text
from engine.exchange.match import open_index
from engine.exchange.spin_joints import OPENPOSE, centre_scale, image_name, part_24

CAPABILITIES = Capabilities(
    camera=False,
    notes=(
        "no camera: an import fits one to the dataset's 2D joints",
        "rows of nobody are zeros with valid_fit False; the .npy has zeros alone",
        "no latent, no quality figures",
    ),
)
_FITS = {"pose": ("f4", (72,)), "betas": ("f4", (10,)), "valid_fit": ("?", ())}
_STATIC = {"fits": ("f4", (82,))}
_DATASET = {"center": ("f8", (2,)), "scale": ("f8", ()), "part": ("f8", (24, 3)), "openpose": ("f8", (OPENPOSE, 3))}


class Options(Config):
    """SPIN's fits."""

    aligned_to: str = Field(default="", description="export: path of the dataset npz whose rows the fits follow; default: one is written")
    centre_tolerance: float = Field(
        default=0.25, gt=0, description="export, aligned: how far center may be off a box's, as a share of its longer side"
    )
    fits: str = Field(default="", description="import: file of the fits, where a folder has several")
    dataset: str = Field(default="", description="import: file of the dataset's rows, where a folder has several")


class SpinWriter:
    """Rows in the order of the persons, with a dataset npz of them."""

    wants_images = False

    def __init__(self, folder: Path, info: ExportInfo) -> None:
        self._folder, self._info = folder, info
        self._fits, self._static = ColumnWriter(_FITS), ColumnWriter(_STATIC)
        self._dataset = ColumnWriter(_DATASET, texts="imgname")

    def add(self, person: Person) -> None:
        self._put(self._fits.rows, person)
        centre, scale = centre_scale(person.instance)
        values = {"center": centre, "scale": scale, "part": part_24(person.instance)}
        self._dataset.put(self._dataset.rows, values | {"openpose": 0}, image_name(person.sample))

    def close(self) -> list[str]:
        dataset = f"{self._info.dataset}_{self._info.split}.npz"
        self._dataset.save_npz(self._folder / dataset)
        self._dataset.close()
        return [dataset, *self._save(self._fits.rows)]

    def _put(self, row: int, person: Person) -> None:
        self._fits.put(row, {"pose": person.pose_72, "betas": person.betas_10, "valid_fit": True})
        self._static.put(row, {"fits": np.concatenate([person.pose_72, person.betas_10])})

    def _save(self, rows: int) -> list[str]:
        names = f"{self._info.dataset}_fits.npy", f"{self._info.dataset}_{self._info.split}_spin_fits.npz"
        self._static.save_npy(self._folder / names[0], "fits", rows)
        self._fits.save_npz(self._folder / names[1], rows)
        self._static.close()
        self._fits.close()
        return list(names)


class AlignedWriter(SpinWriter):
    """Rows in the order of a dataset npz; a person of whom it has no row is left out as 'no_row'."""

    def __init__(self, folder: Path, info: ExportInfo, dataset: Path, tolerance: float) -> None:
        super().__init__(folder, info)
        self._dataset.close()
        self._path, self._tolerance, self._stack = dataset, tolerance, ExitStack()
        npz = Npz(dataset)
        self._rows = npz.column("imgname").rows
        self._index = self._stack.enter_context(open_index(_places(npz)))
        self._key, self._row_of = None, {}

    def add(self, person: Person) -> None:
        sample = person.sample
        if sample.key != self._key:
            found = self._index.match(sample, self._tolerance)
            self._key = sample.key
            self._row_of = {i.annotation_id: int(row.name) for i, row in zip(sample.instances, found, strict=True) if row is not None}
        row = self._row_of.get(person.instance.annotation_id)
        if row is None:
            raise SampleRejected("no_row", f"{self._path} has no row of {sample.image_path} with the person's centre")
        self._put(row, person)

    def close(self) -> list[str]:
        self._stack.close()
        return self._save(self._rows)


class SpinReader:
    def __init__(self, fits: Path, dataset: Path) -> None:
        self._fits, self._dataset = fits, dataset

    def fits(self) -> Iterator[Fit | Unmapped]:
        fits, dataset = Npz(self._fits), Npz(self._dataset)
        static = "" in fits.names
        there, wanted = dataset.column("imgname").rows, fits.column("" if static else "pose").rows
        if there != wanted:
            raise RawDataError(f"{self._fits}: expected {there} rows, as {self._dataset} has, found {wanted}; is it of another dataset?")
        rows = _static_rows(fits) if static else _final_rows(fits)
        for place, (pose, betas, invalid) in zip(_places(dataset), rows, strict=True):
            whose = {"image": place.image, "centre_2": place.centre_2}
            if invalid:
                yield Unmapped(f"{self._fits.name}[{place.name}]", INVALID_FIT, invalid, **whose)
            else:
                yield Fit(pose, betas, **whose)


def _places(dataset: Npz) -> Iterator[Unmapped]:
    """Whose row each row of a dataset npz is: image and centre; the name is the row's number."""
    row = 0
    for chunk in dataset.chunks({"imgname": (), "center": (2,)}, texts=("imgname",)):
        for name, centre in zip(chunk["imgname"], chunk["center"].astype(np.float64), strict=True):
            yield Unmapped(str(row), "row", "", image=text(name), centre_2=centre)
            row += 1


def _static_rows(fits: Npz) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    for chunk in fits.chunks({"": (82,)}):
        for values in chunk[""].astype(np.float64):
            yield values[:72], values[72:], "" if values.any() else "the row is zeros: nobody was fitted"


def _final_rows(fits: Npz) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    shapes = {"pose": (72,), "betas": (10,)} | ({"valid_fit": ()} if "valid_fit" in fits.names else {})
    for chunk in fits.chunks(shapes):
        valid = chunk.get("valid_fit", np.ones(len(chunk["pose"]), bool))
        for pose, betas, said in zip(chunk["pose"].astype(np.float64), chunk["betas"].astype(np.float64), valid, strict=True):
            yield pose, betas, "" if said else "valid_fit is False"


def _chosen(folder: Path, name: str, found: list[Path], option: str, what: str) -> Path:
    if name:
        if Path(name).name != name:
            raise ConfigError(f"spin.{option}: expected the name of a file in {folder}, found {name!r}")
        return folder / name
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise MissingInput(f"{folder}: expected one file with {what}, found {names}; set spin.{option} to the name of the right one")
    return found[0]


def open_writer(folder: Path, options: Options, info: ExportInfo) -> SpinWriter:
    if options.aligned_to:
        return AlignedWriter(folder, info, Path(options.aligned_to), options.centre_tolerance)
    return SpinWriter(folder, info)


def open_reader(path: Path, options: Options, load_body: LoadBody) -> SpinReader:
    if not path.is_dir():
        return SpinReader(path, path)
    arrays = {file: set(Npz(file).names) for file in sorted(path.iterdir()) if file.suffix in (".npy", ".npz")}
    final = [file for file, names in arrays.items() if {"pose", "betas"} <= names]
    fits = _chosen(path, options.fits, final or [file for file, names in arrays.items() if "" in names], "fits", "pose and betas")
    datasets = [file for file, names in arrays.items() if {"imgname", "center"} <= names]
    return SpinReader(fits, _chosen(path, options.dataset, datasets, "dataset", "imgname and center, the rows of the dataset"))
