"""Annotation under faults, small: `make chaos` has the same scenarios at their full size, and more of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.annotation.arena import Arena
from tests.chaos.annotation.faults_driver import r2_driver_killed, r15_not_alone
from tests.chaos.annotation.faults_input import r5_damaged_shards, r6_bad_images
from tests.chaos.annotation.faults_publishers import r3_publishers


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("arena"), small=True)
    yield arena
    arena.close()


_SLOW = [pytest.param(scenario, marks=pytest.mark.slow) for scenario in (r2_driver_killed, r5_damaged_shards, r15_not_alone)]


@pytest.mark.parametrize("scenario", [r3_publishers, r6_bad_images, *_SLOW], ids=lambda scenario: scenario.__name__)
def test_survives(arena: Arena, scenario) -> None:
    bad = [row for row in scenario(arena) if not row.good]
    assert not bad
