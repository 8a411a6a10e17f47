"""What a release's site shows and where it goes: the config alone, so that the command line needs no torch."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import CliPositionalArg

from engine.body.config import BodyConfig
from engine.config import Config


class SiteConfig(Config):
    """A static site about a release, and what changed from it to another one."""

    release: CliPositionalArg[str] = Field(description="the release: ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG")
    other: CliPositionalArg[str | None] = Field(None, description="a release to compare it with, side by side; null: none")
    shard_set: str | None = Field(
        None, description="URL of the image shard set the release was made from: photographs and annotated joints; null: neither"
    )
    out: str = Field(description="URL of the folder for index.html, assets/, data/, thumbs/, photos/ and pictures/")
    photographs: bool = Field(True, description="false: nothing of the photographs, although there is a shard set; joints stay")
    pictures: int = Field(
        60,
        ge=0,
        le=3000,
        description="persons drawn large in advance: a third each of the worst, the best and at random; of a licensed body, which may not be on "
        "the site itself, only these can be turned in 3D",
    )
    most: int = Field(
        10_000, ge=1, le=50_000, description="persons on the site; of a larger release the worst, the best and evenly drawn ones"
    )
    crop_px: int = Field(384, ge=64, le=1024, description="longest side of a person's photograph on the site, never enlarged. Pixels")
    body: BodyConfig = Field(default=BodyConfig(), description="body of the release")
