"""Imports: fits of another's file become a release of a shard set, as if an annotator had said them.

The file goes into an index on disk, once. Then the shard set is walked shard by shard: each instance's fit is looked up, fits without a
camera are placed in their boxes, rows and quality figures are made by the code that annotation uses, and the shard is committed. So an
import can be interrupted and submitted again, and everything that reads releases reads this one.

An instance of whom the file says nothing is skipped 'no_fit', or 'invalid_fit' where it calls the fit invalid itself; one whose fit cannot
be a row is quarantined. Fits that no instance got account for no instance: quarantine rows of the last shard, each by its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.annotators.base import LATENT_SIZE, AnnotatorIdentity, Prediction
from engine.annotators.rows import BatchRows, ShardRows, assemble, person_rows
from engine.body.config import BodyConfig
from engine.body.smpl import Body, load_body
from engine.errors import ConfigError, MissingInput, RawDataError
from engine.exchange.base import INVALID_FIT, Fit, Unmapped
from engine.exchange.camera import place_in_boxes
from engine.exchange.config import ImportConfig, chosen_options
from engine.exchange.match import FitIndex, open_index
from engine.exchange.registry import format_module
from engine.exchange.sidecar import NAME, describe_file, read_sidecar
from engine.fanout.plan import describe, is_finished, lineage, plan_annotation
from engine.releases.commit import commit_shard, load_commits, make_commit, save_plan
from engine.releases.publish import draft_release, publish
from engine.releases.reference import parse_reference
from engine.releases.store import read_head, read_manifest
from engine.releases.tables import encode
from engine.shards.reader import ShardSet, open_shard_set, read_samples
from engine.storage import Store, split
from schemas.manifests import QuarantineRow, ReleaseManifest
from schemas.records import canonical_json, sha256_hex
from schemas.sample import Instance, Sample

_VERSION = 1
"""Raised whenever the same file would give other rows; part of every plan."""
_BATCH = 256
MOST_LEFT_OVER = 1000
"""Fits nobody got that are told one by one."""

Found = tuple[Sample, Instance, Fit]


def import_release(config: ImportConfig) -> ReleaseManifest:
    """The release's manifest. Submitted again, it goes on where it was, and does nothing once it is done.

    RawDataError when the source is not of the format or speaks of nobody in the shard set, which publishes nothing; ConfigError when it
    says that it belongs to another body, or nothing says to which.
    """
    module = format_module(config.format, needs="open_reader")
    options = chosen_options(config)
    reference = parse_reference(config.name)
    if reference.version is not None or reference.tag is not None:
        raise ConfigError(f"name {config.name!r}: expected ROOT#NAME; the version is the next free one")
    shard_set = open_shard_set(config.shard_set)
    with local_source(config.source) as source:
        body = load_body(config.body or said_body(source))
        digest = source_digest(source, body)
        settings = {"format": config.format, "options": options.model_dump(mode="json"), "tolerance": config.centre_tolerance}
        identity = AnnotatorIdentity(
            name=f"import:{config.format}",
            digest=sha256_hex(canonical_json({"version": _VERSION, "source": digest, **settings})),
            body_name=body.name,
            body_digest=body.digest,
            prior_digest=None,
            lineage={"import": digest},
        )
        plan = plan_annotation(shard_set.manifest, shard_set.digest, shard_set.url, identity, {"batch_size": _BATCH})
        print(f"import: {describe(plan)}", flush=True)
        store = Store(reference.root)
        _, pointer = read_head(store, reference.name)
        head = None if pointer is None else read_manifest(store, reference.name, pointer.version)
        if head is not None and is_finished(plan, head):
            print(f"import: nothing to do: {head.name} v{head.version:04d} is this file, imported", flush=True)
            return head
        commits = load_commits(store, plan)
        if len(commits) < len(plan.shards):
            with open_index(module.open_reader(source, options, lambda: body).fits()) as index:
                if not index.read:
                    raise RawDataError(f"{config.source}: expected persons in format {config.format}, found none")
                print(f"import: {index.read} persons in {config.source}", flush=True)
                save_plan(store, plan)
                _commit_pending(shard_set, plan, store, commits, index, body, config.centre_tolerance)
            commits = load_commits(store, plan, known=commits)
    if not any(commit.annotated for commit in commits.values()):
        raise RawDataError(
            f"{config.source}: expected persons of {shard_set.url}, found a fit for none of its {shard_set.manifest.instances}; nothing "
            "was published: check the format, the shard set, and that the annotations are of the same split"
        )
    made = publish(store, draft_release(reference.name, plan, commits, body.name, lineage(plan, shard_set.manifest, identity)))
    m = made.manifest
    print(
        f"import: {m.name} v{m.version:04d}: {m.annotated} of {m.planned} persons{_listed(m.skipped, 'skipped')}"
        f"{_listed({reason: n for reason, n in m.quarantined.items() if n}, 'quarantined')}",
        flush=True,
    )
    if nobodys := [reason for reason, n in m.quarantined.items() if not n]:
        print(f"import: persons of the file that took no part ({', '.join(nobodys)}) are in its quarantine.parquet", flush=True)
    print(
        f"import: {made.where}, digest {made.digest}",
        flush=True,
    )
    return m


def _listed(counts: Mapping[str, int], what: str) -> str:
    return f"; {what}: {', '.join(f'{n} {reason}' for reason, n in counts.items())}" if counts else ""


def import_command(config: ImportConfig) -> None:
    """`import_release`, as a command."""
    import_release(config)


def _commit_pending(shard_set: ShardSet, plan, store: Store, commits, index: FitIndex, body: Body, tolerance: float) -> None:
    """Commit every shard that is not yet. Those that are, are walked too: their fits are given away."""
    plan_digest = plan.digest()
    for entry, shard in zip(shard_set.manifest.shards, plan.shards, strict=True):
        samples = [sample for sample, _ in read_samples(shard_set.fetch(entry), entry)]
        said = [(s, i, person) for s in samples for i, person in zip(s.instances, index.match(s, tolerance), strict=True)]
        if shard.index in commits:
            continue
        rows, skipped = shard_rows(said, body)
        quarantine = rows.quarantine
        if shard.index == len(plan.shards) - 1:
            quarantine = (*quarantine, *_left_over(index, plan.dataset))
        data = encode(rows.table)
        commit = make_commit(plan_digest, shard, data, rows.table, quarantine, skipped)
        commits.add(commit_shard(store, commit, data).commit.to_bytes())


def shard_rows(said: Sequence[tuple[Sample, Instance, Fit | Unmapped | None]], body: Body) -> tuple[ShardRows, Counter[str]]:
    """Rows of what a file says of the instances of a shard, and how many instances it leaves out, by reason."""
    skipped, rejected, found = Counter(), [], []
    for sample, instance, person in said:
        if isinstance(person, Fit):
            found.append((sample, instance, _in_the_middle(person, sample)))
        elif person is None or person.reason == INVALID_FIT:
            skipped["no_fit" if person is None else INVALID_FIT] += 1
        else:
            rejected.append(_row(sample, instance, person.reason, person.message))
    parts = [_batch(found[start : start + _BATCH], body, rejected) for start in range(0, len(found), _BATCH)]
    return assemble(parts, rejected), skipped


def _batch(found: list[Found], body: Body, rejected: list[QuarantineRow]) -> BatchRows:
    finite = []
    for sample, instance, fit in found:
        if names := _not_finite(fit):
            rejected.append(_row(sample, instance, "non_finite", f"the file's {', '.join(names)} has NaN or infinite values"))
        elif fit.focal_2 is not None and not (np.float32(fit.focal_2) > 0).all():
            rejected.append(_row(sample, instance, "invalid_camera", f"expected a focal length above 0, found {fit.focal_2.tolist()}"))
        else:
            finite.append((sample, instance, fit))
    samples, instances, fits = ([person[part] for person in finite] for part in range(3))
    pose_N72, betas_N10 = np.array([f.pose_72 for f in fits]).reshape(-1, 72), np.array([f.betas_10 for f in fits]).reshape(-1, 10)
    camera = {name: np.zeros((len(fits), size)) for name, size in (("transl_3", 3), ("focal_2", 2), ("princpt_2", 2))}
    camera["focal_2"][:] = 1
    bare = [n for n, fit in enumerate(fits) if fit.focal_2 is None]
    for name, values in camera.items():
        for n, fit in enumerate(fits):
            if fit.focal_2 is not None:
                values[n] = getattr(fit, name)
    placed = set(range(len(fits)))
    if bare:
        people = [samples[n] for n in bare], [instances[n] for n in bare]
        *values, problems = place_in_boxes(body, pose_N72[bare], betas_N10[bare], *people)
        for name, found_values in zip(camera, values, strict=True):
            camera[name][bare] = found_values
        for n, problem in problems.items():
            placed.discard(bare[n])
            rejected.append(_row(*(part[n] for part in people), problem.reason, str(problem)))
    latent = np.array([np.full(LATENT_SIZE, np.nan) if f.latent_32 is None else f.latent_32 for f in fits]).reshape(-1, LATENT_SIZE)
    transl, focal, princpt, pose, betas, latent = (np.float32(v) for v in (*camera.values(), pose_N72, betas_N10, latent))
    return person_rows(samples, instances, focal, princpt, Prediction(pose, betas, transl, latent), body, sorted(placed))


def _in_the_middle(fit: Fit, sample: Sample) -> Fit:
    """The fit with the principal point that its file leaves to the photograph."""
    if fit.focal_2 is None or fit.princpt_2 is not None:
        return fit
    return replace(fit, princpt_2=np.array([sample.width / 2, sample.height / 2]))


def _not_finite(fit: Fit) -> list[str]:
    """Names of what a row could not hold; a latent of nothing but NaN is none at all."""
    values = {"pose": fit.pose_72, "betas": fit.betas_10, "translation": fit.transl_3, "focal": fit.focal_2, "princpt": fit.princpt_2}
    if fit.latent_32 is not None and not np.isnan(fit.latent_32).all():
        values["latent"] = fit.latent_32
    with np.errstate(over="ignore"):
        return [name for name, value in values.items() if value is not None and not np.isfinite(np.float32(value)).all()]


def _left_over(index: FitIndex, dataset: str) -> Iterator[QuarantineRow]:
    listed, more = index.left_over(MOST_LEFT_OVER)
    for person in listed:
        yield QuarantineRow(
            dataset=dataset, key=person.name, annotation_id=person.annotation_id, reason=person.reason, message=person.message, instances=0
        )
    for reason, count in sorted(more.items()):
        yield QuarantineRow(dataset=dataset, key="(more)", reason=reason, message=f"and {count} more of the file", instances=0)


def _row(sample: Sample, instance: Instance, reason: str, message: str) -> QuarantineRow:
    return QuarantineRow(dataset=sample.dataset, key=sample.key, annotation_id=instance.annotation_id, reason=reason, message=message[:300])


@contextmanager
def local_source(url: str) -> Iterator[Path]:
    """The file or folder as a local path, copied from another store for as long as it is needed. MissingInput if it is not there."""
    store = Store(url)
    if store.protocol == "file":
        path = Path(store.path("x")).parent
        if not path.exists():
            raise MissingInput(f"{url}: no such file or folder to import")
        yield path
        return
    with TemporaryDirectory(prefix="import-") as folder:
        keys = store.list()
        if keys:
            for key in keys:
                _copy(store, key, Path(folder) / key)
            yield Path(folder)
        else:
            parent, name = split(url)
            _copy(parent, name, Path(folder) / name)
            yield Path(folder) / name


def _copy(store: Store, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        store.get_into(key, file)


def said_body(source: Path) -> BodyConfig:
    """The body that an export's record beside the source names. ConfigError where nothing names one, or it needs the user's files."""
    folder = source if source.is_dir() else source.parent
    record = read_sidecar(folder)
    if record is None or not (source.is_dir() or source.name in {file.path for file in record.files}):
        raise ConfigError(
            f"{source}: no file of the field says whose parameters it holds, and no {NAME} is beside it; say --body.kind=smpl "
            "(published files are for SMPL) or --body.kind=open"
        )
    if record.body != BodyConfig().kind:
        raise ConfigError(f"{folder / NAME}: the files belong to the body {record.body!r}; say --body.kind and where its files are")
    return BodyConfig()


def source_digest(source: Path, body: Body) -> str:
    """sha256 over the names and bytes of the source's files.

    An export's record beside them has to agree: ConfigError for another body, RawDataError for files that are not those it names.
    """
    folder = source if source.is_dir() else source.parent
    paths = sorted(p.relative_to(folder).as_posix() for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source.name]
    files = [describe_file(folder, path) for path in paths if path != NAME]
    record = read_sidecar(folder)
    said = {} if record is None else {file.path: file.sha256 for file in record.files}
    if record is not None and (source.is_dir() or source.name in said):
        if (record.body, record.body_digest) != (body.name, body.digest):
            raise ConfigError(
                f"{folder / NAME}: the files belong to the body {record.body!r} with digest {record.body_digest}, "
                f"the config says {body.name!r} with {body.digest}; set body to theirs"
            )
        for file in files:
            if file.path in said and said[file.path] != file.sha256:
                raise RawDataError(
                    f"{folder / file.path}: expected sha256 {said[file.path]}, found {file.sha256}; it was damaged or edited since its "
                    f"export; remove {NAME} to import it as it is"
                )
    return sha256_hex(canonical_json([[file.path, file.sha256] for file in files]))
