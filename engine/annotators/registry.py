"""Annotators by name or checkpoint: what a plan needs to know of one now, and how a worker builds it later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pydantic import Field

from engine.annotators.base import Annotator, AnnotatorIdentity
from engine.annotators.identity import eft_identity, read_identity, smplify_identity
from engine.annotators.mean_pose import NAME as MEAN_POSE
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.network_config import NetworkAnnotatorConfig
from engine.annotators.smplify_config import EFT, SMPLIFY, EftConfig, SmplifyConfig
from engine.config import Config

NAMES = (MEAN_POSE, SMPLIFY, EFT)
"""Annotators that are no checkpoint."""


class AnnotatorsConfig(Config):
    """How each kind of annotator is told what to do; only the one that is asked for is looked at."""

    network: NetworkAnnotatorConfig = Field(default=NetworkAnnotatorConfig(), description="how a trained annotator is computed")
    mean_pose: MeanPoseConfig = Field(default=MeanPoseConfig(), description="used with annotator=mean_pose")
    smplify: SmplifyConfig = Field(default=SmplifyConfig(), description="used with annotator=smplify")
    eft: EftConfig = Field(default=EftConfig(), description="used with annotator=eft")


def resolve_annotator(annotator: str, configs: AnnotatorsConfig, device: str) -> tuple[AnnotatorIdentity, Callable[[], Annotator]]:
    """Identity and picklable factory of an annotator: one of NAMES, or the URL of a run or checkpoint, computed as `configs` say.

    A run's URL is resolved to its last checkpoint here, once, so every worker loads the same one. MissingInput when it is not there.
    """
    if annotator == MEAN_POSE:
        return MeanPoseAnnotator(configs.mean_pose).identity(), partial(MeanPoseAnnotator, configs.mean_pose)
    if annotator == SMPLIFY:
        identity = smplify_identity(configs.smplify)
        settled = configs.smplify.model_copy(update={"init": identity.location or None})
        return identity, partial(_load_smplify, settled, device)
    if annotator == EFT:
        identity = eft_identity(configs.eft)
        return identity, partial(_load_eft, configs.eft.model_copy(update={"base": identity.location}), device)
    identity = read_identity(annotator)
    return identity, partial(_load_network, identity.location, device, configs.network)


def _load_network(location: str, device: str, network: NetworkAnnotatorConfig) -> Annotator:
    from engine.annotators.network import NetworkAnnotator  # torch: a worker needs it, a plan does not

    return NetworkAnnotator.from_checkpoint(location, device, network)


def _load_smplify(config: SmplifyConfig, device: str) -> Annotator:
    from engine.annotators.smplify import SmplifyAnnotator  # torch, as above

    return SmplifyAnnotator(config, device)


def _load_eft(config: EftConfig, device: str) -> Annotator:
    from engine.annotators.eft import EftAnnotator  # torch, as above

    return EftAnnotator(config, device)
