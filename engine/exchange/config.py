"""What the commands `export` and `import` are told. Imports neither torch nor a format's libraries: `--help` needs no more."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import CliPositionalArg

from engine.body.config import BodyConfig
from engine.config import Config
from engine.errors import ConfigError
from engine.exchange.cliff import Options as CliffOptions
from engine.exchange.coco_json import Options as CocoJsonOptions
from engine.exchange.eft import Options as EftOptions
from engine.exchange.huggingface import Options as HuggingFaceOptions
from engine.exchange.neuralannot import Options as NeuralAnnotOptions
from engine.exchange.registry import FORMATS
from engine.exchange.spin import Options as SpinOptions
from engine.exchange.webdataset_tars import Options as WebDatasetOptions


class FormatOptions(Config):
    """Options of each format, of which those of the chosen one count."""

    neuralannot: NeuralAnnotOptions = Field(default=NeuralAnnotOptions(), description="with format=neuralannot")
    spin: SpinOptions = Field(default=SpinOptions(), description="with format=spin")
    eft: EftOptions = Field(default=EftOptions(), description="with format=eft")
    cliff: CliffOptions = Field(default=CliffOptions(), description="with format=cliff")
    coco_json: CocoJsonOptions = Field(default=CocoJsonOptions(), description="with format=coco_json")
    webdataset: WebDatasetOptions = Field(default=WebDatasetOptions(), description="with format=webdataset")
    huggingface: HuggingFaceOptions = Field(default=HuggingFaceOptions(), description="with format=huggingface")


class ExportConfig(FormatOptions):
    """Write a release in a format of the field."""

    release: CliPositionalArg[str] = Field(description="ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG")
    format: str = Field(description="name of the format")
    shard_set: str = Field(description="URL of the shard set the release was made from")
    out: str = Field(description="folder to write, a path or any URL; new, or empty, or what an interrupted upload left")
    body: BodyConfig = Field(default=BodyConfig(), description="the release's body; for formats that need more of it than parameters")


class ImportConfig(FormatOptions):
    """Read a file of the field into a release."""

    format: str = Field(description="name of the format")
    source: str = Field(description="file or folder, a path or any URL")
    shard_set: str = Field(description="URL of the shard set whose persons the file speaks of")
    name: str = Field(description="release to make: ROOT#NAME")
    body: BodyConfig | None = Field(
        default=None,
        description="body the file's parameters belong to; of published files smpl; null: what export.json beside it says",
    )
    centre_tolerance: float = Field(
        default=0.25, gt=0, description="files without annotation ids: how far a box centre may be off, as a share of the box's longer side"
    )


def chosen_options(config: ExportConfig | ImportConfig) -> Config:
    """The options of the config's format. ConfigError for options of another one, which would do nothing."""
    for name in FORMATS:
        if name != config.format and (given := getattr(config, name).model_fields_set):
            raise ConfigError(f"{name}.{min(given)}: an option of format {name!r}, but the format is {config.format!r}; leave it out")
    return getattr(config, config.format)
