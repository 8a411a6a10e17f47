"""Raw datasets by name."""

from __future__ import annotations

from engine.datasets.base import DatasetConfig, RawDataset
from engine.datasets.coco import Coco
from engine.datasets.crowdpose import CrowdPose
from engine.datasets.human36m import Human36m
from engine.datasets.instavariety import InstaVariety
from engine.datasets.lsp import Lsp, Lspet
from engine.datasets.mpi_inf_3dhp import Mpi3dhp
from engine.datasets.mpii import Mpii
from engine.datasets.muco import MuCo
from engine.datasets.mupots import Mupots
from engine.datasets.photos import Photos
from engine.datasets.threedpw import ThreeDPW
from engine.datasets.up3d import Up3d

DATASETS: dict[str, type[RawDataset]] = {
    "3dpw": ThreeDPW,
    "coco": Coco,
    "crowdpose": CrowdPose,
    "human36m": Human36m,
    "instavariety": InstaVariety,
    "lsp": Lsp,
    "lspet": Lspet,
    "mpi_inf_3dhp": Mpi3dhp,
    "mpii": Mpii,
    "muco": MuCo,
    "mupots": Mupots,
    "photos": Photos,
    "up3d": Up3d,
}


def open_dataset(config: DatasetConfig) -> RawDataset:
    """The raw dataset a config names. MissingInput if its root is not there."""
    return DATASETS[config.name](config)
