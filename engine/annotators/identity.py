"""Who an annotator is that is trained, or a baseline: from the checkpoint's manifest and the settings, without weights and torch.

Only licensed bodies and priors have to be loaded to be known.
"""

from __future__ import annotations

from dataclasses import replace

from engine.annotators.base import AnnotatorIdentity
from engine.annotators.smplify_config import EFT, SMPLIFY, EftConfig, SmplifyConfig
from engine.body.body_files import arrays_digest, open_arrays
from engine.body.config import OPEN_PRIOR_DIGEST, BodyConfig, PriorConfig
from engine.errors import ConfigError
from engine.training.read_checkpoint import open_checkpoint
from schemas.checkpoints import network_name
from schemas.records import canonical_json, sha256_hex

_EFT_VERSION, _SMPLIFY_VERSION = 1, 1
"""Raised whenever the same settings would give other bodies."""


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


def smplify_identity(config: SmplifyConfig) -> AnnotatorIdentity:
    """Who a fit of this config is: every setting, body and prior, and with `init` the checkpoint that it starts from."""
    base = None if config.init is None else read_identity(config.init)
    body_name, body_digest = (config.body.kind, _body_digest(config.body)) if base is None else (base.body_name, base.body_digest)
    prior = _prior_digest(config.prior) if base is None or base.prior_digest is None else base.prior_digest
    content = {"kind": SMPLIFY, "version": _SMPLIFY_VERSION, "fit": config.fit.model_dump(mode="json"), "body": body_digest, "prior": prior}
    content |= {"crop_hw": list(config.crop_hw)} if base is None else {"init": base.digest}
    lineage = {} if base is None else {"init": base.digest} | {f"init.{name}": digest for name, digest in base.lineage.items()}
    location = "" if base is None else base.location
    return AnnotatorIdentity(SMPLIFY, sha256_hex(canonical_json(content)), body_name, body_digest, prior, location, lineage)


def eft_identity(config: EftConfig) -> AnnotatorIdentity:
    """Who a fine-tuning of this config is: every setting, and the checkpoint that is tuned. ConfigError without one."""
    if config.base is None:
        raise ConfigError("annotator 'eft' needs eft.base, the URL of the training run or checkpoint that is fine-tuned")
    base = read_identity(config.base)
    settings = config.model_dump(mode="json", exclude={"base"}) | {"lr": config.learning_rate}
    content = {"kind": EFT, "version": _EFT_VERSION, "config": settings, "base": base.digest}
    lineage = {"base": base.digest} | {f"base.{name}": digest for name, digest in base.lineage.items()}
    return replace(base, name=EFT, digest=sha256_hex(canonical_json(content)), lineage=lineage)


def _body_digest(config: BodyConfig) -> str:
    if config.kind == "open":
        return arrays_digest(open_arrays())
    from engine.body.smpl import load_body  # torch

    return load_body(config).digest


def _prior_digest(config: PriorConfig) -> str:
    if config.kind == "open" and config == PriorConfig():
        return OPEN_PRIOR_DIGEST
    from engine.body.pose_prior import load_prior  # torch

    return load_prior(config).digest


def trained_from(config_digest: str, training_sets: dict[str, str]) -> dict[str, str]:
    """What a network was trained from: name -> digest."""
    return {"config": config_digest} | {f"trained_on.{name}": digest for name, digest in training_sets.items()}
