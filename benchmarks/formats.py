"""Every format both ways against a second implementation of it: `python -m benchmarks.formats [COUNT]`, which writes formats.json.

Out: our export, read by the readers of tests/engine/exchange/independent.py. In: their writers' files, imported by us. Each person is
compared by the vertices of their body, from smplx in float64: px projected into the photograph, mm about the pelvis, the worst vertex of
the worst person. formats.json is a list of {format, direction, instances, worst_px, worst_mm, note}; worst_px is null where a format has
no camera.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from engine.body.body_files import OPEN_BODY, read_body_file
from engine.body.smpl import BodyConfig, load_body
from engine.exchange.config import ExportConfig, ImportConfig
from engine.exchange.export import export
from engine.exchange.importing import import_release
from engine.exchange.sidecar import NAME as SIDECAR
from engine.releases.store import open_release
from tests.engine.exchange import independent as other
from tests.engine.exchange.extremes import people, rows_of, write_people, write_release
from tests.engine.exchange.independent import Body3D, Skin, compare

OUT = "formats.json"
PERSONS = 2000
Read = Callable[[Path, list[Body3D]], dict[str, Body3D]]


class Bench:
    """A world of extreme persons, with the cameras of their crops or CLIFF's, and what was measured in it."""

    def __init__(self, folder: Path, count: int, own_cameras: bool = True) -> None:
        self.folder, self.body = folder, load_body(BodyConfig())
        self.skin = Skin(read_body_file(OPEN_BODY))
        self.persons = people(self.body, count, own_cameras=own_cameras)
        self.shard_set = write_people(folder / "shards", self.body, self.persons)
        self.release = write_release(folder / "store", self.shard_set, self.body, self.persons)
        self.rows: list[dict] = []

    def exported(self, format_: str, **options: object) -> Path:
        out = self.folder / f"out-{format_}-{len(options)}"
        if not out.exists():
            config = ExportConfig(
                release=f"{self.folder}/store#extremes", format=format_, shard_set=self.shard_set.url, out=str(out), **{format_: options}
            )
            with redirect_stdout(StringIO()):
                export(config)
        return out

    def out(self, format_: str, read: Read, note: str = "", turned: bool = False, **options: object) -> None:
        """Measure our export."""
        self._row(format_, "out", read(self.exported(format_, **options), self.persons), note, turned)

    def into(self, format_: str, write: Callable[[Path, list[Body3D]], Path], note: str = "", camera: bool = True) -> None:
        """Measure our import of their file."""
        folder = self.folder / f"in-{format_}-{len(self.rows)}"
        folder.mkdir()
        source, store = write(folder, self.persons), f"{self.folder}/imported-{len(self.rows)}"
        with redirect_stdout(StringIO()):
            name = f"{store}#them"
            import_release(ImportConfig(format=format_, source=str(source), shard_set=self.shard_set.url, name=name, body=BodyConfig()))
        self._row(format_, "in", rows_of(open_release(store, "them"), self.persons), note, camera=camera)

    def _row(self, format_: str, direction: str, found: dict[str, Body3D], note: str, turned: bool = False, camera: bool = True) -> None:
        named = [p for p in self.persons if p.name in found]
        apart = compare(self.skin, named, [found[p.name] for p in named])
        px = float(apart.px_N.max()) if camera and np.isfinite(apart.px_N).all() else None
        mm = float((apart.mm_unturned_N if turned else apart.mm_N).max())
        if turned:
            note += f"; median {np.median(apart.px_N):.2f} px"
        if len(named) < len(self.persons):
            note = "; ".join(filter(None, [note, f"{len(self.persons) - len(named)} of {len(self.persons)} persons left out"]))
        self.rows.append({"format": format_, "direction": direction, "instances": len(named), "worst_px": px, "worst_mm": mm, "note": note})


def only(read: Callable[[Path, list[Body3D]], dict[str, Body3D]], pattern: str) -> Read:
    """A reader of a folder's one file of a name."""
    return lambda folder, persons: read(next(path for path in folder.glob(pattern) if path.name != SIDECAR), persons)


def measure(count: int) -> list[dict]:
    """Rows of formats.json."""
    torch.set_num_threads(1)
    no_camera = "no camera in the format"
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "own", count)
        bench.out("neuralannot", only(other.read_neuralannot, "*.json"))
        bench.into("neuralannot", other.write_neuralannot)
        bench.out("coco_json", only(other.read_coco, "*.json"))
        bench.into("coco_json", other.write_coco)
        bench.out("webdataset", other.read_webdataset)
        bench.into("webdataset", other.write_webdataset)
        bench.out("huggingface", other.read_huggingface)
        bench.into("huggingface", other.write_huggingface)
        bench.out("spin", lambda f, p: other.read_spin(*f.glob("*_spin_fits.npz"), f / "extremes_train.npz", p), f"npz; {no_camera}")
        bench.out("spin", lambda f, p: other.read_spin(*f.glob("*_fits.npy"), f / "extremes_train.npz", p), f"npy; {no_camera}")
        bench.into("spin", other.write_spin, f"npz; {no_camera}", camera=False)
        bench.into("spin", lambda f, p: other.write_spin(f, p, static=True), f"npy; {no_camera}", camera=False)
        bench.out("eft", only(other.read_eft, "*_EFT.json"), "read with perspective")
        bench.out(
            "eft", only(lambda f, p: other.read_eft(f, p, weak_perspective=True), "*_EFT.json"), "read as weak perspective: not carried"
        )
        bench.into("eft", other.write_eft)
        bench.out("cliff", only(other.read_cliff, "*.npz"), "not carried: one camera a photograph; mm with the turn undone", turned=True)
        theirs = Bench(Path(folder) / "one", count, own_cameras=False)
        theirs.out("cliff", only(other.read_cliff, "*.npz"), "a release with CLIFF's cameras")
        theirs.into("cliff", other.write_cliff)
        return bench.rows + theirs.rows


def main(count: int = PERSONS) -> None:
    """Measure, write, print."""
    rows = measure(count)
    Path(OUT).write_text(json.dumps(rows, indent=1))
    table = Table("format", "direction", "persons", "worst px", "worst mm", "note")
    for row in rows:
        px = "-" if row["worst_px"] is None else f"{row['worst_px']:.2g}"
        table.add_row(row["format"], row["direction"], str(row["instances"]), px, f"{row['worst_mm']:.2g}", row["note"])
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
