"""The deep half of verifying a release: every object is read again, and nothing is believed but bytes.

Memory does not grow with the rows: persons that are in two shards are looked for only among shards whose ranges of keys overlap
(jobs/ingest.py makes none that do), with some 9 bytes a row of those. Everything else is done shard by shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError, EngineError
from engine.releases.expressions import Expression
from engine.releases.figures import FIGURES, count_figures
from engine.releases.parallel import in_parallel
from engine.releases.selection import FILTERED
from engine.releases.store import READ_THREADS, Release, commit_key, read_rows
from engine.releases.tables import SHARD_REASONS
from schemas.manifests import ReleaseManifest, ShardCommit

KeyRange = tuple[str, str, int]
"""First and last key of a shard's rows, and its index."""


_RANGES = {
    "score": (0.0, 1.0),
    "truncation": (0.0, 1.0),
    "visible_fraction": (0.0, 1.0),
    "keypoint_similarity": (0.0, 1.0),
    "reprojection_error": (0.0, np.inf),
    "latent_norm": (0.0, np.inf),
    "flip_disagreement": (0.0, np.inf),
    "valid_joints": (0.0, np.inf),
}
"""Column -> least and greatest value, NaN aside."""
_ALWAYS = ("score", "truncation")
"""Of those, the ones that are never NaN."""
_ROUNDING = 1e-6
"""float32 near 1."""


def row_problems(release: Release, on_shard: Callable[[], object]) -> Iterator[str]:
    """What is wrong with the rows and the commit record of every shard, and with all of them together."""
    ranges: list[KeyRange] = []
    for problems, keys in in_parallel(lambda shard: _shard_problems(release, shard), release.commits(), READ_THREADS):
        yield from problems
        ranges += keys
        on_shard()
    yield from _persons_in_two_shards(release, set(overlapping(ranges)))


def _shard_problems(release: Release, shard: ShardCommit) -> tuple[list[str], list[KeyRange]]:
    """What is wrong with a shard's rows and record, and the range of its keys where it has rows."""
    problems = []
    stored, damage = None, ""
    try:
        stored = read_rows(release.store, shard)
        kept = release.kept(shard)
    except EngineError as error:
        damage = str(error)
    if not set(SHARD_REASONS) & set(shard.quarantined):
        try:
            if release.store.get(commit_key(shard.plan_digest, shard.index)) != _record_of(release, shard, stored).to_bytes():
                problems.append(f"shard {shard.index}: its commit record differs from the release")
        except EngineError as error:
            problems.append(f"shard {shard.index}: no commit record: {error}")
    if damage or stored is None:
        return [*problems, damage], []
    try:
        stored.validate(full=True)
    except pa.ArrowInvalid as error:
        return [*problems, f"shard {shard.index}: not what its columns say: {error}"], []
    table = stored if kept is None else stored.take(pa.array(kept))
    if (chosen := _stated_filter(release.manifest)) is not None and not np.array_equal(
        np.flatnonzero(chosen(stored)), np.arange(len(stored)) if kept is None else kept
    ):
        problems.append(f"shard {shard.index}: the rows it keeps are not those of its filter {chosen.text!r}")
    if set(table["dataset"].to_pylist()) - {release.manifest.dataset}:
        problems.append(f"shard {shard.index}: rows of another dataset than {release.manifest.dataset!r}")
    names = _names(table)
    if names != sorted(names):
        problems.append(f"shard {shard.index}: rows are not sorted by (key, annotation_id)")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problems.append(f"person {twice} is twice in shard {shard.index}")
    for name in ("bbox_xywh", "pose", "betas", "transl", "focal", "princpt"):
        values = table[name].combine_chunks().flatten().to_numpy()
        if not np.isfinite(values).all():
            problems.append(f"shard {shard.index}: {name} has NaN or infinite values")
    for name, (least, greatest) in _RANGES.items():
        values = table[name].to_numpy()
        inside = (values >= least) & (values <= greatest + _ROUNDING)
        if not (inside if name in _ALWAYS else inside | np.isnan(values)).all():
            problems.append(f"shard {shard.index}: a {name} outside [{least:g}, {greatest:g}]")
    known = {name: FIGURES.get(name) for name in shard.figures} == {name: f.edges for name, f in release.manifest.figures.items()}
    if known and {name: h for name, h in count_figures(table).items() if name in shard.figures} != shard.figures:
        problems.append(f"shard {shard.index}: its histograms are not those of its rows")
    keys = [key for key, _ in names]
    return problems, [(min(keys), max(keys), shard.index)] if keys else []


def _record_of(release: Release, shard: ShardCommit, stored: pa.Table | None) -> ShardCommit:
    """The record that the worker wrote of a shard, before rows were left out of a derived release."""
    if FILTERED not in shard.skipped or stored is None:
        return shard
    skipped = {reason: n for reason, n in shard.skipped.items() if reason != FILTERED}
    figures = count_figures(stored, {name: total.edges for name, total in release.manifest.figures.items()})
    return shard.model_copy(update={"annotated": len(stored), "skipped": skipped, "figures": figures})


def _stated_filter(manifest: ReleaseManifest) -> Expression | None:
    """The expression a release says it was derived by; None where a list of persons decided too."""
    try:
        return None if manifest.selection is None else Expression(str(manifest.settings.get("filter")), "truth")
    except ConfigError:
        return None


def _names(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["key"].to_pylist(), table["annotation_id"].to_pylist(), strict=True))


def overlapping(ranges: Iterable[KeyRange]) -> Iterator[int]:
    """Shards whose range of keys has a key in common with the range of another shard."""
    group: list[int] = []
    end = ""
    for first, last, index in sorted(ranges):
        if group and first <= end:
            group.append(index)
        else:
            yield from group if len(group) > 1 else ()
            group, end = [index], ""
        end = max(end, last)
    yield from group if len(group) > 1 else ()


def _persons_in_two_shards(release: Release, suspects: set[int]) -> Iterator[str]:
    """Persons that are in two of these shards: first 64-bit hashes of all, then the names of those that share one."""
    hashes = np.empty(sum(shard.annotated for shard in release.commits() if shard.index in suspects), np.uint64)
    filled = 0
    for _, names in _suspect_names(release, suspects):
        hashes[filled : filled + len(names)] = [_hash(name) for name in names]
        filled += len(names)
    hashes = hashes[:filled]
    hashes.sort()
    shared = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: dict[tuple[str, str], int] = {}
    for index, names in _suspect_names(release, suspects) if shared else ():
        for name in names:
            if _hash(name) in shared:
                if seen.setdefault(name, index) != index:
                    yield f"person {name} is in shard {seen[name]} and in shard {index}"
                seen[name] = index


def _suspect_names(release: Release, suspects: set[int]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    def read(shard: ShardCommit) -> tuple[int, list[tuple[str, str]]]:
        try:
            return shard.index, _names(release.read(shard, ("key", "annotation_id")))
        except EngineError:  # named before
            return shard.index, []

    yield from in_parallel(read, (shard for shard in release.commits() if shard.index in suspects), READ_THREADS)


def _hash(name: tuple[str, str]) -> int:
    return int.from_bytes(blake2b("\0".join(name).encode(), digest_size=8).digest())
