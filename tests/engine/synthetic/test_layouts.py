"""Every published layout from its writer through ingest into shards: nobody is lost, and 3D still projects onto 2D."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import load_config
from engine.errors import AlreadyExists, ConfigError
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.synthetic.layouts.catalogue import LAYOUTS, LayoutsConfig, write_layouts
from engine.synthetic.shots import TrueImage
from schemas.skeletons import SKELETONS
from tests.engine.datasets.round_trip import REPROJECTION_PX, reprojection_px

HALF = ("lsp", "up3d")
"""Layouts whose split is one half of what is written."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[TrueImage]]]:
    out = tmp_path_factory.mktemp("layouts")
    return out, write_layouts(LayoutsConfig(out=str(out), images=4, size=160, render_people=False))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_goes_into_shards(world: tuple[Path, dict[str, list[TrueImage]]], name: str, tmp_path: Path) -> None:
    out, truth = world
    layout = LAYOUTS[name]
    arguments = [f"--dataset.name={layout.dataset}", f"--dataset.root={out / name}", f"--dataset.split={layout.split}", *layout.options]
    manifest = ingest(load_config(IngestConfig, [*arguments, f"--out={tmp_path}", "--workers=0", "--images.check=decode"]))
    wanted = {image.image_path: len(image.persons) for image in truth[name] if image.persons}
    assert manifest.instances > 0 and not manifest.quarantined
    shards = open_shard_set(str(tmp_path))
    found = {}
    for entry in shards.manifest.shards:
        for sample, image in read_samples(shards.fetch(entry), entry):
            found[sample.image_path] = len(sample.instances)
            assert (sample.width, sample.height) == (160, 160) and len(image) > 100
            for person in sample.instances:
                assert any(person.joints_valid) or layout.dataset == "photos"
                assert len(person.joints_img) == len(SKELETONS[person.skeleton])
                assert person.joints_cam is None or reprojection_px(person) <= REPROJECTION_PX
    assert found.items() <= wanted.items() and len(found) == len(wanted) // (2 if name in HALF else 1)


def test_what_is_there_is_left_alone(world: tuple[Path, dict[str, list[TrueImage]]]) -> None:
    with pytest.raises(AlreadyExists, match="mpii"):
        write_layouts(LayoutsConfig(out=str(world[0]), layouts=("mpii",), render_people=False))
    with pytest.raises(ConfigError, match="'cocoo' is none"):
        write_layouts(LayoutsConfig(out=str(world[0]), layouts=("cocoo",)))
