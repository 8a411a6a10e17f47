"""Commands of jobs/releases.py that look at a store: each a config and a function that prints."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import CliPositionalArg

from engine.config import Config
from engine.releases.store import open_release, release_names
from engine.storage import Store


class ListConfig(Config):
    """What a store holds."""

    root: CliPositionalArg[str] = Field(description="URL of the release store")


def list_releases(config: ListConfig) -> None:
    """Print every release name with its newest version."""
    store = Store(config.root)
    for name in release_names(store):
        m = open_release(config.root, name).manifest
        print(f"{name:32} v{m.version:04d}  {m.dataset}/{m.split}  {m.annotated} persons")
