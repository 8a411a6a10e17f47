"""The annotation job: plan, fan the shards out over Ray Data, publish the release.

The driver holds no state that matters. Whatever dies, submitting the same config again lists what is committed, does the
rest and ends at the same release; when nothing is left it starts neither Ray nor a network.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

from engine.annotators.base import Annotator
from engine.annotators.registry import NAMES, resolve_annotator
from engine.body.config import BodyConfig
from engine.errors import ConfigError, EngineError, ShardCorrupt
from engine.fanout.config import AnnotateConfig
from engine.fanout.plan import describe, differences, is_finished, lineage, pending_shards, plan_annotation
from engine.fanout.progress import Progress
from engine.fanout.work import ShardResult, WorkerSpec
from engine.releases.commit import Commits, collect_commits, load_commits, make_commit, save_plan
from engine.releases.publish import draft_release, publish
from engine.releases.store import object_key, read_head, read_manifest
from engine.releases.tables import CORRUPT, DIED, FAILED, encode
from engine.shards.reader import open_shard_set
from engine.storage import Store, absolute
from schemas.manifests import AnnotationPlan, QuarantineRow, ReleaseManifest, ShardCommit, ShardPlan
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

_HOPELESS = 20
"""Shards that all fail, while none ever succeeded, before a job stops: what is wrong is not theirs."""
_COLLECTED = 1000
"""Records written once more as one object, so that a job that goes on reads them with one request."""


def annotate(config: AnnotateConfig) -> ReleaseManifest | None:
    """The finished release's manifest; None after a dry run.

    Raises ShardCorrupt when shards failed and `allow_partial` is off: the other shards are committed by then, no release is
    written. Raises EngineError when the workers could not run at all.
    """
    config = _with_absolute_paths(config)
    shard_set = open_shard_set(config.shard_set)
    identity, make_annotator = resolve_annotator(config.annotator, config, config.device)
    plan = plan_annotation(shard_set.manifest, shard_set.digest, shard_set.url, identity, config.computing)
    print(f"annotate: {describe(plan)}", flush=True)
    store = Store(config.out)
    head = _head(store, config.name)
    if head is not None and head.plan_digest != plan.digest():
        print(f"annotate: {config.name} v{head.version:04d} is of another plan: {', '.join(differences(plan, head))}", flush=True)
    if config.dry_run:
        _dry_run(config, plan, make_annotator, pending_shards(plan, load_commits(store, plan)), is_finished(plan, head))
        return None
    if head is not None and is_finished(plan, head):
        print(f"annotate: nothing to do: {config.name} v{head.version:04d} is this plan, finished", flush=True)
        return head
    save_plan(store, plan)
    commits = load_commits(store, plan)
    failures = _annotate_pending(config, plan, make_annotator, store, commits)
    if failures and not config.allow_partial:
        raise _failure(failures, plan)
    commits = load_commits(store, plan, known=commits)
    for failure in failures:
        if failure.index not in commits:
            commits.add(_set_aside(store, plan, failure).to_bytes())
    draft = draft_release(config.name, plan, commits, identity.body_name, lineage(plan, shard_set.manifest, identity))
    release = publish(store, draft)
    m = release.manifest
    print(
        f"annotate: {m.name} v{m.version:04d}: {m.annotated} of {m.planned} persons annotated, quarantined {m.quarantined or 'none'}",
        flush=True,
    )
    print(f"annotate: {release.where}, digest {release.digest}", flush=True)
    return m


def _dry_run(
    config: AnnotateConfig, plan: AnnotationPlan, make_annotator: Callable[[], Annotator], pending: list[ShardPlan], finished: bool
) -> None:
    """Print what there is to do, and how long it would take machines like this one."""
    images, persons, size = (sum(getattr(s, name) for s in pending) for name in ("samples", "instances", "size_bytes"))
    done = len(plan.shards) - len(pending)
    print(f"annotate: dry run: {done} of {len(plan.shards)} shards are committed{'; HEAD is this plan, finished' * finished}", flush=True)
    print(f"annotate: to do: {len(pending)} shards, {images} images, {persons} persons, {_bytes(size)} to read", flush=True)
    first = next((shard for shard in pending if shard.instances), None)
    if first is None:
        return
    from engine.fanout.estimate import measure  # torch

    found = measure(first, make_annotator, config)
    if found is None:
        print(f"annotate: no estimate: nobody of {first.url} can be cropped", flush=True)
        return
    print(
        f"annotate: from {found.persons} persons here: decode and crop {found.crop_s * 1e3:.2g} ms a person and thread, "
        f"network {found.network_s * 1e3:.2g} ms a person; about {_bytes(persons * found.row_bytes)} to write",
        flush=True,
    )
    pool = config.pool
    for workers in sorted({pool.min_size, max(pool.min_size, pool.max_size)}):
        apart = 0 if pool.crop is None else round(workers * pool.crop.max_size / max(pool.min_size, pool.max_size)) or 1
        rate = found.persons_per_s((pool.crop or pool).crop_threads, workers, apart)
        seconds = persons / rate
        took = f"{seconds:.1f} s" if seconds < 60 else f"{timedelta(seconds=round(seconds))} h"
        print(f"annotate: estimate: {rate:.3g} persons/s, {took} with {workers} workers on machines like this", flush=True)


def _bytes(size: float) -> str:
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} TB"


def _with_absolute_paths(config: AnnotateConfig) -> AnnotateConfig:
    """Workers have a working directory of their own, so local paths are made absolute here."""

    def settled(url: str | None) -> str | None:
        if url is not None and "@" in url.partition("://")[2].partition("/")[0]:
            raise ConfigError("a URL of the config holds credentials, which would end up in logs; put them into the environment")
        return url if url is None or url in NAMES else absolute(url)

    def body(config: BodyConfig) -> BodyConfig:
        return config.model_copy(update={name: settled(getattr(config, name)) for name in ("smpl_dir", "h36m_regressor")})

    urls = {name: settled(getattr(config, name)) for name in ("shard_set", "out", "annotator")}
    smplify = config.smplify
    baselines = {
        "mean_pose": config.mean_pose.model_copy(update={"params": settled(config.mean_pose.params), "body": body(config.mean_pose.body)}),
        "smplify": smplify.model_copy(
            update={
                "init": settled(smplify.init),
                "body": body(smplify.body),
                "prior": smplify.prior.model_copy(update={"vposer_dir": settled(smplify.prior.vposer_dir)}),
            }
        ),
        "eft": config.eft.model_copy(update={"base": settled(config.eft.base)}),
    }
    return config.model_copy(update=urls | baselines)


def _head(store: Store, name: str) -> ReleaseManifest | None:
    _, pointer = read_head(store, name)
    return None if pointer is None else read_manifest(store, name, pointer.version)


def _annotate_pending(
    config: AnnotateConfig, plan: AnnotationPlan, make_annotator: Callable[[], Annotator], store: Store, commits: Commits
) -> list[ShardResult]:
    """Annotate the pending shards and add their records to `commits`; the results that are failures, in order.

    A shard that failed is done once more at the end, for it may have been its machine's fault. EngineError when nothing but failures comes.
    """
    pending = pending_shards(plan, commits)
    if not pending:
        return []
    make_cropper = make_annotator
    if config.pool.crop is not None:
        _, make_cropper = resolve_annotator(config.annotator, config, "cpu")
    spec = WorkerSpec(
        plan_digest=plan.digest(),
        annotator_digest=plan.annotator_digest,
        settings=plan.settings,
        out_url=config.out,
        make_annotator=make_annotator,
        make_cropper=make_cropper,
        submission=uuid.uuid4().hex,
        max_attempts=config.max_attempts,
        crop_threads=(config.pool.crop or config.pool).crop_threads,
        staging=config.staging,
        hang_s=config.hang_s,
    )
    failures = _fan_out(config, plan, spec, store, commits, pending)
    again = [plan.shards[f.index] for f in failures if f.failure == FAILED]
    if again:
        print(f"annotate: {len(again)} shards that failed are done once more", flush=True)
        kept = [f for f in failures if f.failure != FAILED]
        failures = kept + _fan_out(config, plan, replace(spec, submission=uuid.uuid4().hex), store, commits, again)
    return sorted(failures, key=lambda f: f.index)


def _fan_out(
    config: AnnotateConfig, plan: AnnotationPlan, spec: WorkerSpec, store: Store, commits: Commits, pending: list[ShardPlan]
) -> list[ShardResult]:
    from engine.fanout.metrics import JobMetrics  # Ray is imported where there is work: a finished job ends before it would be
    from engine.fanout.pool import Terminated, run_shards

    progress = Progress(len(pending), sum(s.instances for s in pending), already=len(plan.shards) - len(pending))
    metrics = JobMetrics(config.name)
    failures, told = [], []
    try:
        with closing(run_shards(config.pool, spec, pending)) as results:
            for result in results:
                if result.failure:
                    failures.append(result)
                else:
                    told.append(commits.add(result.record.encode()).index)
                metrics.publish(progress.add(result), result)
                if len(failures) == _HOPELESS and not commits:
                    raise _failure(failures, plan, f"the first {_HOPELESS} shards all failed, so the job stopped")
                if len(told) == _COLLECTED:
                    collect_commits(store, commits, told)
                    told = []
        if failures:
            collect_commits(store, commits, told)
    except Terminated:
        print(
            f"annotate: stopped by SIGTERM: {len(commits)} of {len(plan.shards)} shards are committed; what was in hand is abandoned, "
            "nothing is half written; submit the same again to go on",
            flush=True,
        )
        raise SystemExit(128 + signal.SIGTERM) from None
    return failures


def _failure(failures: list[ShardResult], plan: AnnotationPlan, what: str = "") -> EngineError:
    kind = ShardCorrupt if any(f.failure == CORRUPT for f in failures) else EngineError
    listed = "; ".join(f"shard {f.index} ({f.failure}): {f.message}" for f in failures[:5])
    return kind(
        f"{what or f'{len(failures)} of {len(plan.shards)} shards failed, the others are committed'}; no release was written. "
        f"Repair them and submit again, or set allow_partial to quarantine their persons. {listed}"
    )


def _set_aside(store: Store, plan: AnnotationPlan, failure: ShardResult) -> ShardCommit:
    """The record of a shard that failed: no rows, all its persons quarantined. It goes into the release, not among the commits."""
    shard = plan.shards[failure.index]
    rows = PSEUDO_GT_SCHEMA.empty_table()
    data = encode(rows)
    row = QuarantineRow(
        dataset=plan.dataset, key=f"shard-{shard.index:06d}", reason=failure.failure, message=_stable(failure), instances=shard.instances
    )
    commit = make_commit(plan.digest(), shard, data, rows, (row,))
    store.create_same(object_key(commit.sha256), data)
    return commit


def _stable(failure: ShardResult) -> str:
    """What a release may say of a failure: no paths or traces that differ between two runs."""
    return {
        CORRUPT: "the image shard's bytes are not those of its manifest",
        DIED: "workers died while annotating the image shard",
        FAILED: "the image shard could not be annotated",
    }[failure.failure]
