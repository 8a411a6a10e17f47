"""Raw datasets by name."""

from __future__ import annotations

from engine.datasets.base import DatasetConfig, RawDataset
from engine.datasets.coco import Coco
from engine.datasets.human36m import Human36m
from engine.datasets.instavariety import InstaVariety
from engine.datasets.threedpw import ThreeDPW

DATASETS: dict[str, type[RawDataset]] = {"coco": Coco, "human36m": Human36m, "instavariety": InstaVariety, "3dpw": ThreeDPW}


def open_dataset(config: DatasetConfig) -> RawDataset:
    """The raw dataset a config names. MissingInput if its root is not there."""
    return DATASETS[config.name](config)
