"""The small files of a release against the one form each may have: manifest, card, HEAD, tags, plan and collected records.

What a digest covers is checked by it. Everything else is written anew from what was read, and has to give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from engine.errors import EngineError, ReleaseError
from engine.releases.card import check_card
from engine.releases.store import (
    Release,
    collected_prefix,
    first_problem,
    head_key,
    open_release,
    plan_key,
    point_at,
    read_head,
    read_manifest,
    read_pointer,
    release_versions,
    tag_key,
    tag_names,
    version_prefix,
)
from schemas.manifests import AnnotationPlan, ReleaseManifest
from schemas.records import sha256_hex


def file_problems(release: Release) -> Iterator[str]:
    """What is wrong with the manifest and the card as they are stored, with HEAD, and with every tag of the name."""
    m, store = release.manifest, release.store
    folder = version_prefix(m.name, m.version)
    try:
        stored = open_release(store.url, m.name, m.version)
        if stored.digest != release.digest:
            yield f"the stored manifest has the digest {stored.digest}, the opened one {release.digest}"
        elif store.get(f"{folder}/manifest.json") != m.to_bytes():
            yield f"{folder}/manifest.json: its bytes are not those that were published; it was edited or damaged"
    except EngineError as error:
        yield str(error)
    try:
        check_card(store.get(f"{folder}/README.md"), m, release.digest)
    except EngineError as error:
        yield f"{folder}/README.md: {error}"
    yield from _head_problems(release)
    for tag in tag_names(store, m.name):
        yield from (f"{found}; `tag ... --move` sets it anew" for found in _pointer_problems(release, tag_key(m.name, tag)))


def _head_problems(release: Release) -> Iterator[str]:
    """What is wrong with HEAD: it has to mean the newest version that is whole, up to its last file, the card."""
    m, store, key = release.manifest, release.store, head_key(release.manifest.name)
    again = "if its publication was cut short, submit the job again"
    yield from _pointer_problems(release, key)
    try:
        _, pointer = read_head(store, m.name)
    except EngineError:  # named above
        return
    if pointer is None:
        yield f"{key}: no such object; {again}"
        return
    newer = [version for version in release_versions(store, m.name) if version > pointer.version]
    if whole := [version for version in newer if version == m.version or store.exists(f"{version_prefix(m.name, version)}/README.md")]:
        yield f"{key}: means v{pointer.version:04d}, but there is v{whole[-1]:04d}: HEAD was moved back, or {again}"


def _pointer_problems(release: Release, key: str) -> Iterator[str]:
    """What is wrong with HEAD or a tag, whichever version it means."""
    store, name = release.store, release.manifest.name
    try:
        data, pointer = read_pointer(store, key)
        if pointer is None:
            return
        other = read_manifest(store, name, pointer.version)
        expected = point_at(Release(store, other, other.digest()))
        if data != expected.to_bytes():
            yield f"{key}: expected version, digest and path of v{expected.version:04d}, found {data!r}; it or the manifest is damaged"
    except EngineError as error:
        yield f"{key}: {error}"


def plan_problems(release: Release, readable: bool) -> Iterator[str]:
    """What is wrong with the plan, and whether it is that of the manifest and, where `readable`, of the table of shards."""
    m, key = release.manifest, plan_key(release.manifest.plan_digest)
    try:
        data = release.store.get(key)
        plan = AnnotationPlan.from_bytes(data)
    except EngineError as error:
        yield f"the plan cannot be read: {error}"
        return
    except ValidationError as error:
        yield f"{key} is not a plan: {first_problem(error)}"
        return
    if plan.digest() != m.plan_digest:
        yield f"{key} has the digest {plan.digest()}"
    elif data != plan.without_urls():
        yield f"{key}: its bytes are not those that were written; it was edited or damaged"
    if _said(m) != (
        plan.dataset,
        plan.split,
        plan.settings,
        plan.shard_set_digest,
        plan.annotator_digest,
        plan.body_digest,
        plan.prior_digest,
    ) or m.annotator not in (None, plan.annotator):
        yield "dataset, settings or lineage of the manifest are not those of its plan"
    if readable:
        columns = {"index": "index", "sha256": "source_sha256", "instances": "planned"}
        if any([getattr(s, of) for s in plan.shards] != release.shards[name].to_pylist() for of, name in columns.items()):
            yield "the release's shards are not those of its plan"


def _said(m: ReleaseManifest) -> tuple[object, ...]:
    """What a manifest repeats of its plan."""
    settings = {name: value for name, value in m.settings.items() if name != "filter" or m.selection is None}
    return m.dataset, m.split, settings, *(m.lineage.get(name) for name in ("shard_set", "annotator", "body", "prior"))


def collected_problems(release: Release) -> Iterator[str]:
    """What is wrong with the copies of commit records that a later submission of the plan would read."""
    for key in release.store.list(collected_prefix(release.manifest.plan_digest)):
        try:
            if (found := sha256_hex(release.store.get(key))) != (expected := key.rpartition("/")[2].removesuffix(".jsonl")):
                raise ReleaseError(f"{key}: expected sha256 {expected}, found {found}; damaged or replaced; it may be deleted, as a copy")
        except EngineError as error:
            yield str(error)
