"""What an annotation job will do, decided before it does it. Pure: manifests and digests in, a plan out."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from engine.annotators.base import ROWS_VERSION, AnnotatorIdentity
from engine.releases.figures import figures_digest
from engine.releases.tables import SHARD_REASONS
from engine.storage import join
from schemas.manifests import AnnotationPlan, ReleaseManifest, ShardPlan, ShardSetManifest
from schemas.pseudo_gt import FORMAT_VERSION
from schemas.records import canonical_json, sha256_hex


def plan_annotation(
    shard_set: ShardSetManifest, shard_set_digest: str, url: str, annotator: AnnotatorIdentity, computing: Mapping[str, int | str]
) -> AnnotationPlan:
    """The plan of annotating every shard of a shard set.

    computing: how it is computed where that may change a byte: batch size, device, threads (sums in another order differ in the
    last bit). The plan's digest changes with these and with what is annotated by what, and with nothing else.
    """
    return AnnotationPlan(
        dataset=shard_set.dataset,
        split=shard_set.split,
        shard_set_digest=shard_set_digest,
        annotator=annotator.name,
        annotator_digest=annotator.digest,
        body_digest=annotator.body_digest,
        prior_digest=annotator.prior_digest,
        settings={
            **computing,
            "figures": figures_digest(),
            "format_version": FORMAT_VERSION,
            "rows_version": ROWS_VERSION,
            "torch": torch_version(),
        },
        shards=tuple(
            ShardPlan(
                index=i,
                url=join(url, entry.path),
                sha256=entry.sha256,
                size_bytes=entry.size_bytes,
                samples=entry.samples,
                instances=entry.instances,
            )
            for i, entry in enumerate(shard_set.shards)
        ),
    )


@cache
def torch_version() -> str:
    """torch.__version__, read from torch's files: importing it takes longer than everything else a finished job does.

    (The version in its package's metadata is another string: it may lack the "+cu130".)
    """
    spec = find_spec("torch")
    text = (Path(spec.origin).parent / "version.py").read_text() if spec and spec.origin else ""
    if found := re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE):
        return found.group(1)
    import torch

    return str(torch.__version__)


def pending_shards(plan: AnnotationPlan, committed: Container[int]) -> list[ShardPlan]:
    """Shards that are still to do."""
    return [shard for shard in plan.shards if shard.index not in committed]


def lineage(plan: AnnotationPlan, shard_set: ShardSetManifest, annotator: AnnotatorIdentity) -> dict[str, str]:
    """What a release of this plan is made from: name -> digest, up to the raw dataset."""
    own = {
        "shard_set": plan.shard_set_digest,
        "raw": shard_set.raw_digest,
        "annotator": plan.annotator_digest,
        "body": plan.body_digest,
        "config": sha256_hex(canonical_json(plan.settings)),
    }
    if plan.prior_digest is not None:
        own["prior"] = plan.prior_digest
    return {f"annotator.{name}": digest for name, digest in annotator.lineage.items()} | own


def differences(plan: AnnotationPlan, head: ReleaseManifest) -> list[str]:
    """What of a plan is not what a release was made by: 'batch_size 64, was 32', 'annotator', 'shard_set'."""
    digests = {"shard_set": plan.shard_set_digest, "annotator": plan.annotator_digest, "body": plan.body_digest}
    named = [name for name, digest in digests.items() if head.lineage.get(name) != digest]
    if head.lineage.get("prior") != plan.prior_digest:
        named.append("prior")
    for name in sorted(plan.settings.keys() | head.settings.keys()):
        if plan.settings.get(name) != head.settings.get(name):
            named.append(f"{name} {plan.settings.get(name, 'absent')}, was {head.settings.get(name, 'absent')}")
    return named


def is_finished(plan: AnnotationPlan, head: ReleaseManifest | None) -> bool:
    """Whether HEAD already is the whole of this plan, with no shard set aside."""
    return head is not None and head.plan_digest == plan.digest() and not set(SHARD_REASONS) & set(head.quarantined)


def describe(plan: AnnotationPlan) -> str:
    """One line for people: digest and counts."""
    samples, instances = (sum(getattr(s, name) for s in plan.shards) for name in ("samples", "instances"))
    counts = f"{len(plan.shards)} shards, {samples} images, {instances} persons"
    return f"plan {plan.digest()}: {plan.dataset}/{plan.split} by {plan.annotator}: {counts}"
