"""A small world of odd persons, with the commands' functions at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.body.body_files import OPEN_BODY, read_body_file
from engine.body.smpl import Body, BodyConfig, load_body
from engine.exchange.config import ExportConfig, ImportConfig
from engine.exchange.export import export
from engine.exchange.importing import import_release
from engine.exchange.sidecar import NAME, ExportRecord
from engine.releases.store import Release, open_release
from engine.shards.reader import ShardSet
from tests.engine.exchange import extremes
from tests.engine.exchange.independent import Body3D, Skin


@dataclass(frozen=True)
class World:
    root: Path
    body: Body
    skin: Skin
    persons: list[Body3D]
    shard_set: ShardSet
    release: Release

    def export(self, format_: str, out: object, **options: object) -> ExportRecord:
        config = {"release": f"{self.root}/store#extremes", "shard_set": self.shard_set.url, "out": str(out), "format": format_}
        return export(ExportConfig.model_validate({**config, format_: options}))

    def load(self, format_: str, source: object, store: object, **fields: object) -> Release:
        """What an import of a file makes; parameters of another's file are the open body's here."""
        folder = Path(str(source)) if Path(str(source)).is_dir() else Path(str(source)).parent
        body = {} if (folder / NAME).exists() else {"body": {"kind": "open"}}
        config = body | {"shard_set": self.shard_set.url, "source": str(source), "format": format_, "name": f"{store}#them"}
        import_release(ImportConfig.model_validate(config | fields))
        return open_release(str(store), "them")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """90 persons of 36 photographs in three shards."""
    root, body = tmp_path_factory.mktemp("exchange"), load_body(BodyConfig())
    persons = extremes.people(body, 90)
    shard_set = extremes.write_people(root / "shards", body, persons, images_a_shard=12)
    release = extremes.write_release(root / "store", shard_set, body, persons)
    return World(root, body, Skin(read_body_file(OPEN_BODY)), persons, shard_set, release)
