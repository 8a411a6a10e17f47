"""The average person of a training set: what an iterative regressor starts from.

HMR and SPIN ship their mean as a file made of licensed data. Here it is computed from the SMPL targets that training will see, MoCap fits
and pseudo-GT alike: per joint the chordal mean, that is the rotation nearest to the average of the rotation matrices, and the
average of the betas. It is a pure function of the opened sources, so every rank and every restart finds the same numbers.

Shapes: N persons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import GENDERS
from engine.errors import ConfigError
from engine.loading.instances import INSTANCE
from engine.loading.sources import Source
from engine.loading.targets import BETA_LIMIT
from schemas.records import sha256_hex

MOST_PERSONS = 20_000
MOST_SHARDS = 32
"""Shards of a source that are looked into, evenly spaced: a remote set of thousands is not fetched before the first step."""

_NEUTRAL = GENDERS.index("neutral")


@dataclass(frozen=True)
class MeanParameters:
    """Average rotations of SMPL's 24 joints (24, 3, 3) and average betas (10,), float64, over `persons` persons."""

    rotmats_2433: np.ndarray
    betas_10: np.ndarray
    persons: int

    @property
    def digest(self) -> str:
        """sha256 over the numbers."""
        return sha256_hex(self.rotmats_2433.tobytes() + self.betas_10.tobytes())


def mean_parameters(sources: Sequence[Source], most_persons: int = MOST_PERSONS) -> MeanParameters:
    """The average over the SMPL targets of training sources, each giving the same number of persons, or all it has.

    Betas are averaged over valid ones of neutral bodies, none of them beyond 3; they are 0 where there are none. The root's average is
    given but means little. ConfigError if no source has SMPL targets.
    """
    fitted = [source for source in sources if _has_fits(source)]
    found = np.concatenate([np.zeros(0, INSTANCE), *(_persons(source, max(1, most_persons // len(fitted))) for source in fitted)])
    if not len(found):
        names = ", ".join(source.dataset for source in sources) or "none"
        raise ConfigError(f"model: it starts from the average pose of the training set, but no source has SMPL targets (sources: {names})")
    rotmats_N2433 = axis_angle_to_matrix(torch.from_numpy(found["pose"].astype(np.float64).reshape(-1, 24, 3))).numpy()
    shaped = (found["shape_valid"] > 0) & (found["gender"] == _NEUTRAL) & (np.abs(found["betas"]) <= BETA_LIMIT).all(axis=1)
    betas_10 = found["betas"][shaped].astype(np.float64).mean(axis=0) if shaped.any() else np.zeros(10)
    return MeanParameters(nearest_rotations(rotmats_N2433.mean(axis=0)), betas_10, len(found))


def nearest_rotations(matrices_J33: np.ndarray) -> np.ndarray:
    """The rotation matrices (J, 3, 3) nearest to any matrices, by singular values; of an average of rotations, their chordal mean."""
    u, _, vt = np.linalg.svd(matrices_J33)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def _has_fits(source: Source) -> bool:
    """Whether a source can have SMPL targets at all; spares the reading of photographs' annotations."""
    return source.config.supervise == "full" and (source.release is not None or source.shard_set.manifest.supervision != "itw2d")


def _persons(source: Source, most: int) -> np.ndarray:
    """INSTANCE records with a finite SMPL target, of evenly spaced samples with all their persons; `most` at most."""
    found: list[np.ndarray] = []
    for sample in _spread(source, most):
        records, _ = source.records(sample)
        found.append(records[(records["has_fit"] > 0) & np.isfinite(records["pose"]).all(axis=1)])
    return np.concatenate(found)[:most] if found else np.zeros(0, INSTANCE)


def _spread(source: Source, most: int) -> Iterator[int]:
    """Samples with instances, evenly spaced in evenly spaced shards, with about `most` instances in all, at least one sample."""
    counts = source.shape.instances_per_shard
    starts = np.cumsum([0, *map(len, counts)])
    filled = [number for number, shard in enumerate(counts) if shard.any()]
    shards = [filled[i] for i in _evenly(len(filled), MOST_SHARDS)]
    samples = np.concatenate([np.zeros(0, np.int64), *(starts[n] + np.flatnonzero(counts[n]) for n in shards)])
    instances = sum(int(counts[n].sum()) for n in shards)
    for i in _evenly(len(samples), max(1, len(samples) * most // max(1, instances))):
        yield int(samples[i])


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced, from the first one on."""
    kept = min(count, most)
    return [i * count // kept for i in range(kept)]
