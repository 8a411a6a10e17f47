"""One tiny world for all tests of the synthetic world."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.synthetic.atlas import Mannequin
from engine.synthetic.config import SyntheticConfig, tiny_config
from engine.synthetic.world import write_world


@pytest.fixture(scope="session")
def mannequin() -> Mannequin:
    return Mannequin()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticConfig, Path]:
    """Config and folder of a tiny world."""
    config = tiny_config(str(tmp_path_factory.mktemp("synthetic") / "world"), seed=3)
    write_world(config)
    return config, Path(config.out)
