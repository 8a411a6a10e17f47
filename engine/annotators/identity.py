"""Who a trained annotator is, from its checkpoint's manifest: neither weights nor torch are loaded."""

from __future__ import annotations

from engine.annotators.base import AnnotatorIdentity
from engine.training.read_checkpoint import open_checkpoint
from schemas.checkpoints import network_name


def read_identity(url: str) -> AnnotatorIdentity:
    """What a plan needs to know of a checkpoint, from its manifest alone; `location` is the checkpoint itself, not the run."""
    checkpoint = open_checkpoint(url)
    m = checkpoint.manifest
    return AnnotatorIdentity(
        name=network_name(m.model),
        digest=m.files["model.pt"].sha256,
        body_name=m.body.name,
        body_digest=m.body.digest,
        prior_digest=m.prior.digest if m.prior else None,
        location=checkpoint.store.url,
        lineage=trained_from(m.config_digest, m.training_sets),
    )


def trained_from(config_digest: str, training_sets: dict[str, str]) -> dict[str, str]:
    """What a network was trained from: name -> digest."""
    return {"config": config_digest} | {f"trained_on.{name}": digest for name, digest in training_sets.items()}
