"""What is inspected, and how much of it is looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.body.config import BodyConfig
from engine.config import Config
from engine.datasets.base import DatasetConfig
from engine.shards.images import ImageConfig

Choice = Literal["even", "random", "largest", "smallest", "crowded", "worst"]


class SheetConfig(Config):
    """Contact sheets of photographs with their annotation drawn on them."""

    images: int = Field(24, ge=0, le=1000, description="photographs drawn; 0: no sheet")
    choose: Choice = Field(
        "even",
        description="even: spread over the set in its own order; random: drawn by `seed`; largest, smallest: by the persons' boxes; "
        "crowded: most persons; worst: most kinds of contradictions, then the largest reprojection error",
    )
    seed: int = Field(0, description="seed of `random`")
    columns: int = Field(4, ge=1, le=12, description="pictures side by side; a photograph with 3D takes two")
    cell_px: int = Field(320, ge=96, le=1024, description="side of a picture, pixels")
    images_a_sheet: int = Field(24, ge=1, description="photographs on one sheet; more make another sheet")


class InspectConfig(Config):
    """A raw dataset's split or a shard set, read and reported on; nothing of it is changed."""

    dataset: DatasetConfig | None = Field(None, description="the raw dataset; null where `shards` is given")
    shards: str | None = Field(None, description="URL of a shard set's folder; null where `dataset` is given")
    out: str | None = Field(None, description="URL of the folder for report.json, report.html and sheets/; null: the terminal alone")
    examine_images: Literal["all", "sample", "none"] = Field(
        "all", description="whose header is read: size, format and orientation, without decoding; all, `sample` of them, or none"
    )
    sample: int = Field(2000, ge=1, le=1_000_000, description="images examined with examine_images=sample, drawn by their key")
    sheet: SheetConfig = Field(SheetConfig(), description="contact sheets; they need `out`")
    images: ImageConfig = Field(ImageConfig(), description="which images ingest will be told to accept, and how it is to turn them")
    body: BodyConfig = Field(BodyConfig(), description="body that SMPL parameters are drawn with")
    workers: int = Field(4, ge=1, le=64, description="threads that read image headers; changes nothing of the result")
