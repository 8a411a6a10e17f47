"""Is a release what it says it is? Reads every object again and believes nothing but bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from engine.errors import EngineError, ReleaseError
from engine.releases.store import READ_THREADS, Release, commit_key, first_problem, open_release, plan_key, read_rows, version_prefix
from engine.releases.tables import SHARD_REASONS, count_reasons, quarantine_table
from schemas.manifests import AnnotationPlan, ShardCommit
from schemas.records import sha256_hex

_MOST_PROBLEMS = 20


def verify_release(release: Release) -> None:
    """Nothing when all is well; ReleaseError that lists what is wrong (the first 20 findings).

    Checked: the manifest as stored and against HEAD; every object's sha256, size, schema, row count and order; finite numbers;
    (key, annotation_id) unique over the release; annotated + skipped + quarantined = planned; plan, commit records, quarantine file.
    """
    problems = list(_problems(release))
    if problems:
        rest = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise ReleaseError(f"{release.where}: {len(problems)} problems: " + "; ".join(problems[:_MOST_PROBLEMS]) + rest)


def _problems(release: Release) -> Iterator[str]:
    m = release.manifest
    try:
        stored = open_release(release.store.url, m.name, m.version)
        if stored.digest != release.digest:
            yield f"the stored manifest has the digest {stored.digest}, the opened one {release.digest}"
    except EngineError as error:
        yield str(error)
    yield from _plan_problems(release)
    yield from _quarantine_problems(release)
    seen: dict[tuple[str, str], int] = {}
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for shard, (problems, names) in zip(m.shards, pool.map(lambda s: _shard_problems(release, s), m.shards), strict=True):
            yield from problems
            for name in names:
                if name in seen:
                    yield f"person {name} is in shard {seen[name]} and in shard {shard.index}"
                seen[name] = shard.index


def _plan_problems(release: Release) -> Iterator[str]:
    m = release.manifest
    try:
        plan = AnnotationPlan.from_bytes(release.store.get(plan_key(m.plan_digest)))
    except EngineError as error:
        yield f"the plan cannot be read: {error}"
        return
    except ValidationError as error:
        yield f"{plan_key(m.plan_digest)} is not a plan: {first_problem(error)}"
        return
    if plan.digest() != m.plan_digest:
        yield f"{plan_key(m.plan_digest)} has the digest {plan.digest()}"
    said = (m.dataset, m.split, m.settings, m.lineage.get("shard_set"), m.lineage.get("annotator"), m.lineage.get("body"))
    if said != (plan.dataset, plan.split, plan.settings, plan.shard_set_digest, plan.annotator_digest, plan.body_digest):
        yield "dataset, settings or lineage of the manifest are not those of its plan"
    planned = [(s.index, s.sha256, s.instances) for s in plan.shards]
    if planned != [(s.index, s.source_sha256, s.planned) for s in m.shards]:
        yield "the manifest's shards are not those of its plan"


def _quarantine_problems(release: Release) -> Iterator[str]:
    m = release.manifest
    for shard in m.shards:
        counted = count_reasons(shard.quarantine)
        if counted != shard.quarantined:
            yield f"shard {shard.index}: quarantine rows count {counted}, the manifest says {shard.quarantined}"
    folder = version_prefix(m.name, m.version)
    try:
        table = pq.read_table(io.BytesIO(release.store.get(f"{folder}/quarantine.parquet")))
        if table != quarantine_table(m.shards):
            yield "quarantine.parquet differs from the manifest"
        release.store.get(f"{folder}/README.md")
    except (EngineError, pa.ArrowInvalid) as error:
        yield str(error)


def _shard_problems(release: Release, shard: ShardCommit) -> tuple[list[str], list[tuple[str, str]]]:
    problems = []
    if not set(SHARD_REASONS) & set(shard.quarantined):
        try:
            data = release.store.get(commit_key(shard.plan_digest, shard.index))
            if sha256_hex(data) != sha256_hex(shard.to_bytes()):
                problems.append(f"shard {shard.index}: its commit record differs from the manifest")
        except EngineError as error:
            problems.append(f"shard {shard.index}: no commit record: {error}")
    try:
        table = read_rows(release.store, shard)
    except EngineError as error:
        return [*problems, str(error)], []
    if set(table["dataset"].to_pylist()) - {release.manifest.dataset}:
        problems.append(f"shard {shard.index}: rows of another dataset than {release.manifest.dataset!r}")
    names = list(zip(table["key"].to_pylist(), table["annotation_id"].to_pylist(), strict=True))
    if names != sorted(names):
        problems.append(f"shard {shard.index}: rows are not sorted by (key, annotation_id)")
    for name in ("bbox_xywh", "pose", "betas", "transl", "focal", "princpt"):
        values = table[name].combine_chunks().flatten().to_numpy()
        if not np.isfinite(values).all():
            problems.append(f"shard {shard.index}: {name} has NaN or infinite values")
    score = table["score"].to_numpy()
    if not ((score >= 0) & (score <= 1)).all():
        problems.append(f"shard {shard.index}: a score outside [0, 1]")
    return problems, names
