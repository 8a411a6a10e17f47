from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.errors import ConfigError
from engine.loading.mean_parameters import mean_parameters, nearest_rotations
from engine.loading.sources import Source, SourceConfig
from schemas.crops import CropSpec

CROP = CropSpec(128, 96)


@pytest.fixture(scope="module")
def mocap(tmp_path_factory, shard_sets, make_person):
    """Three shards, the second without persons; 11 persons in all, and the URL."""
    people = [make_person(seed, gender="female" if seed == 3 else "neutral", betas_valid=seed != 4) for seed in range(11)]
    groups = [[people[:2], [], people[2:5]], [[], []], [people[5:6], people[6:10], people[10:]]]
    shards = [
        [(shard_sets.sample("mocap", 10 * s + i, group), shard_sets.photo(i)) for i, group in enumerate(shard)]
        for s, shard in enumerate(groups)
    ]
    return people, shard_sets.write(tmp_path_factory.mktemp("mocap"), "mocap", shards)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, shard_sets, make_person):
    shard = [(shard_sets.sample("itw", i, [make_person(50 + i, "coco17", False)]), shard_sets.photo(i)) for i in range(4)]
    return shard_sets.write(tmp_path_factory.mktemp("itw"), "itw", [shard], "itw2d")


def opened(tmp_path, *configs: SourceConfig) -> list[Source]:
    return [Source(config, str(tmp_path), CROP, 100) for config in configs]


def test_rotations_are_scipys_mean_and_betas_those_of_valid_neutral_fits(tmp_path, mocap):
    people, url = mocap
    mean = mean_parameters(opened(tmp_path, SourceConfig(url=url)))
    assert mean.persons == 11
    poses = np.array([p.smpl.pose for p in people]).reshape(11, 24, 3)
    for joint in range(24):
        expected = Rotation.from_rotvec(poses[:, joint]).mean().as_matrix()
        np.testing.assert_allclose(mean.rotmats_2433[joint], expected, atol=1e-6)
    shaped = [p.smpl.betas for p in people if p.smpl.gender == "neutral" and p.smpl.betas_valid]
    np.testing.assert_allclose(mean.betas_10, np.mean(shaped, axis=0), atol=1e-6)


def test_the_same_numbers_from_other_sources_objects_and_caches(tmp_path, mocap, photographs):
    _, url = mocap
    configs = SourceConfig(url=url), SourceConfig(url=photographs)
    first, again = (mean_parameters(opened(tmp_path / name, *configs)) for name in ("a", "b"))
    assert first.digest == again.digest and len(first.digest) == 64
    uncached = mean_parameters([Source(c, str(tmp_path / "a"), CROP, 0) for c in configs])
    assert uncached.digest == first.digest


def test_a_release_counts_as_the_truth_it_stands_for(tmp_path, shard_sets, photographs, open_body):
    pose = np.linspace(-0.5, 0.5, 72).tolist()
    values = {"pose": pose, "betas": [0.3] * 10, "transl": [0.0, 0.0, 30.0], "focal": [900.0, 900.0], "princpt": [200.0, 150.0]}
    shard_sets.release(tmp_path / "releases", photographs, open_body, lambda sample, instance: values)
    config = SourceConfig(url=photographs, release=f"{tmp_path}/releases#test")
    mean = mean_parameters(opened(tmp_path, config))
    assert mean.persons == 4
    np.testing.assert_allclose(Rotation.from_matrix(mean.rotmats_2433).as_rotvec().ravel(), pose, atol=1e-5)
    np.testing.assert_allclose(mean.betas_10, 0.3, atol=1e-6)


def test_a_broken_row_has_no_part_in_it(tmp_path, shard_sets, photographs, open_body):
    def annotate(sample, instance):
        pose = [float("nan") if sample.key.endswith("2") else 0.1] * 72
        return {"pose": pose, "betas": [0.3] * 10, "transl": [0.0, 0.0, 30.0], "focal": [900.0, 900.0], "princpt": [200.0, 150.0]}

    shard_sets.release(tmp_path / "releases", photographs, open_body, annotate)
    config = SourceConfig(url=photographs, release=f"{tmp_path}/releases#test")
    mean = mean_parameters(opened(tmp_path, config))
    assert mean.persons == 3
    np.testing.assert_allclose(Rotation.from_matrix(mean.rotmats_2433).as_rotvec(), 0.1, atol=1e-5)


def test_a_limit_takes_evenly_spaced_persons(tmp_path, mocap):
    _, url = mocap
    sources = opened(tmp_path, SourceConfig(url=url))
    assert mean_parameters(sources, 3).persons <= 3
    half = mean_parameters(sources, 6)
    assert 3 <= half.persons <= 6
    assert half.digest != mean_parameters(sources).digest == mean_parameters(sources, 11).digest


def test_sources_without_smpl_are_an_error(tmp_path, photographs, mocap):
    with pytest.raises(ConfigError, match=r"no source has SMPL targets.*itw"):
        mean_parameters(opened(tmp_path, SourceConfig(url=photographs), SourceConfig(url=mocap[1], supervise="2d")))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 3.0))
def test_the_nearest_rotation_is_a_rotation_and_no_other_is_nearer(seed: int, spread: float):
    rng = np.random.default_rng(seed)
    average = Rotation.from_rotvec(rng.normal(0, spread, (7, 3))).as_matrix().mean(axis=0)
    (nearest,) = nearest_rotations(average[None])
    np.testing.assert_allclose(nearest @ nearest.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(nearest) > 0
    others = Rotation.from_rotvec(rng.normal(0, 0.3, (50, 3))).as_matrix() @ nearest
    assert np.linalg.norm(average - nearest) <= np.linalg.norm(others - average, axis=(1, 2)).min() + 1e-12
