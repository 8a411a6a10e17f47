"""Command `derive` of jobs/releases.py."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from engine.config import Config
from engine.errors import ConfigError
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.persons import read_persons
from engine.releases.reference import parse_reference
from engine.releases.store import open_reference
from engine.storage import absolute


class DeriveConfig(Config):
    """A release that is a part of another, without a copy: the rows that a filter keeps, or those of a list of persons."""

    release: CliPositionalArg[str] = Field(description="the release to take rows of: ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG")
    to: CliPositionalArg[str] = Field(description="the new one: ROOT#NEWNAME, in the same store")
    filter: str | None = Field(None, description="which rows to keep, such as 'score > 0.5 and valid_joints >= 8'")
    ids: str | None = Field(None, description="URL of CSV or JSON lines of key,annotation_id or annotation_id: the rows to keep")
    allow_unknown: bool = Field(False, description="go on where persons of the list have no row in the release")

    @model_validator(mode="after")
    def _one_way(self) -> DeriveConfig:
        if (self.filter is None) == (self.ids is None):
            given = "both" if self.ids is not None else "neither"
            raise ValueError(f"expected one of filter and ids, found {given}")
        return self


def derive_release(config: DeriveConfig) -> None:
    """Publish the part and say what it holds."""
    of, to = parse_reference(config.release), parse_reference(config.to)
    if to.version is not None or to.tag is not None:
        raise ConfigError(f"{config.to}: expected ROOT#NEWNAME; the version is the next that is free")
    if absolute(of.root).rstrip("/") != absolute(to.root).rstrip("/"):
        raise ConfigError(f"{config.to}: expected the store {of.root}: a derived release refers to objects of its own store; copy it first")
    keep = Expression(config.filter, "truth") if config.filter is not None else read_persons(str(config.ids))
    release = derive(open_reference(of), to.name, keep, config.allow_unknown)
    m = release.manifest
    print(f"{to} v{m.version:04d}: {m.annotated} of {m.annotated + m.skipped.get('filtered', 0)} persons; digest {release.digest}")
