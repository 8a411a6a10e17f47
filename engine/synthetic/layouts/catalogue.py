"""Every layout by name, written from one small world: what `jobs/make_layouts.py` offers, and what the tests take through ingest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from engine.config import Config
from engine.errors import AlreadyExists, ConfigError
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import coco, crowdpose, human36m, instavariety, lsp, mpi_inf_3dhp, mpii, muco, mupots, photos, threedpw, up3d
from engine.synthetic.shots import Shot, TrueImage, make_shots


@dataclass(frozen=True)
class Layout:
    """How files of a published layout are written, and under which dataset and split ingest reads them."""

    dataset: str
    split: str
    write: Callable[[Path, list[Shot]], list[TrueImage]]
    people: tuple[int, int] = (1, 2)
    views: int = 1
    options: tuple[str, ...] = ()
    """What ingest has to be told besides, as on a command line."""


LAYOUTS: dict[str, Layout] = {
    "3dpw": Layout("3dpw", "test", threedpw.write_raw),
    "3dpw_json": Layout("3dpw", "test", threedpw.write_json),
    "coco2014": Layout("coco", "train2014", lambda root, shots: coco.write(root, shots, year=2014)),
    "coco2017": Layout("coco", "train2017", coco.write),
    "coco_wholebody": Layout(
        "coco", "train2017", lambda root, shots: coco.write(root, shots, wholebody=True), options=("--dataset.coco.annotations=wholebody",)
    ),
    "crowdpose": Layout("crowdpose", "train", crowdpose.write, people=(2, 3)),
    "human36m": Layout(
        "human36m",
        "train",
        human36m.write,
        (1, 1),
        views=4,
        options=('--dataset.human36m.train={"subjects":[1],"every_nth":5,"cameras":[1,2,3,4]}',),
    ),
    "instavariety": Layout("instavariety", "train", instavariety.write, (1, 1)),
    "instavariety_pixels": Layout(
        "instavariety", "train", lambda root, shots: instavariety.write(root, shots, layout=instavariety.TrackFiles(phis=False)), (1, 1)
    ),
    "lsp": Layout("lsp", "train", lsp.write_lsp, (1, 1)),
    "lspet": Layout("lspet", "train", lsp.write_lspet, (1, 1)),
    "mpi_inf_3dhp": Layout(
        "mpi_inf_3dhp",
        "train",
        lambda root, shots: [image for sequence in (1, 2) for image in mpi_inf_3dhp.write_raw(root, shots, sequence=sequence)],
        (1, 1),
        views=2,
        options=('--dataset.mpi_inf_3dhp.train={"subjects":[1],"every_nth":1,"cameras":[0,1]}',),
    ),
    "mpi_inf_3dhp_json": Layout(
        "mpi_inf_3dhp",
        "train",
        mpi_inf_3dhp.write_json,
        (1, 1),
        views=2,
        options=('--dataset.mpi_inf_3dhp.train={"subjects":[1],"every_nth":3,"cameras":[0,1]}',),
    ),
    "mpi_inf_3dhp_test": Layout(
        "mpi_inf_3dhp",
        "test",
        lambda root, shots: mpi_inf_3dhp.write_test(root, [shot for shot in shots if shot.view == 0]),
        (1, 1),
        views=2,
        options=("--dataset.mpi_inf_3dhp.test=[1]",),
    ),
    "mpii": Layout("mpii", "train", mpii.write_mpii_mat),
    "mpii_coco": Layout("mpii", "train", mpii.write_mpii_coco),
    "mpii_list": Layout("mpii", "train", mpii.write_mpii_list),
    "mpii_trb": Layout("mpii", "train", mpii.write_mpii_trb),
    "muco": Layout("muco", "train", muco.write, (2, 3)),
    "mupots": Layout("mupots", "test", mupots.write_raw, (2, 2), views=2),
    "mupots_json": Layout("mupots", "test", mupots.write_json, (2, 2), views=2),
    "photos": Layout("photos", "all", photos.write, options=("--dataset.photos.boxes=boxes.json",)),
    "photos_csv": Layout(
        "photos", "all", lambda root, shots: photos.write(root, shots, "csv"), options=("--dataset.photos.boxes=boxes.csv",)
    ),
    "photos_video": Layout("photos", "all", photos.write_videos, options=("--dataset.photos.boxes=boxes.json",)),
    "up3d": Layout("up3d", "trainval", up3d.write, (1, 1)),
}


class LayoutsConfig(Config):
    """Small synthetic datasets in published layouts."""

    out: str = Field(description="local folder; one folder a layout is made in it, which must not be there")
    layouts: tuple[str, ...] = Field(tuple(LAYOUTS), description=f"which: {', '.join(LAYOUTS)}")
    images: int = Field(12, ge=2, description="instants a layout; each is seen by one camera or, in a studio, by several")
    size: int = Field(384, ge=128, description="side of the square photographs, px")
    seed: int = Field(0, ge=0, description="another seed gives other people")
    render_people: bool = Field(True, description="false: coloured noise in place of pictures, which takes next to no time")


def write_layouts(config: LayoutsConfig, say: Callable[[str], None] = lambda line: None) -> dict[str, list[TrueImage]]:
    """Every layout asked for, in `<out>/<layout>/`, and the truth of each. `say` gets a line a layout.

    ConfigError for a layout nobody knows, AlreadyExists for a folder that is there.
    """
    if unknown := sorted(set(config.layouts) - set(LAYOUTS)):
        raise ConfigError(f"layouts: {unknown[0]!r} is none; known are {', '.join(LAYOUTS)}")
    mannequin, truth = Mannequin(), {}
    for name in config.layouts:
        layout, root = LAYOUTS[name], Path(config.out) / name
        if root.exists():
            raise AlreadyExists(f"{root}: is there already; choose another `out` or delete it")
        shots = make_shots(
            mannequin,
            config.seed,
            config.images,
            people=layout.people,
            hw=(config.size, config.size),
            views=layout.views,
            render_people=config.render_people,
        )
        truth[name] = layout.write(root, shots)
        dataset = f"--dataset.name={layout.dataset} --dataset.root={root} --dataset.split={layout.split}"
        options = " ".join(f"'{option}'" if "{" in option else option for option in layout.options)
        say(f"{name}: {len(truth[name])} images; read it with {dataset} {options}".rstrip())
    return truth
