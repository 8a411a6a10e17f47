"""Annotators by name or checkpoint: what a plan needs to know of one now, and how a worker builds it later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.annotators.base import Annotator, AnnotatorIdentity
from engine.annotators.identity import read_identity
from engine.annotators.mean_pose import NAME as MEAN_POSE
from engine.annotators.mean_pose import MeanPoseAnnotator, MeanPoseConfig
from engine.annotators.network_config import NetworkAnnotatorConfig


def resolve_annotator(
    annotator: str, mean_pose: MeanPoseConfig, device: str, network: NetworkAnnotatorConfig | None = None
) -> tuple[AnnotatorIdentity, Callable[[], Annotator]]:
    """Identity and picklable factory of an annotator: 'mean_pose', or the URL of a run or checkpoint, computed as `network` says.

    A run's URL is resolved to its last checkpoint here, once, so every worker loads the same one. MissingInput when it is not there.
    """
    if annotator == MEAN_POSE:
        return MeanPoseAnnotator(mean_pose).identity(), partial(MeanPoseAnnotator, mean_pose)
    identity = read_identity(annotator)
    return identity, partial(_load_network, identity.location, device, network)


def _load_network(location: str, device: str, network: NetworkAnnotatorConfig | None) -> Annotator:
    from engine.annotators.network import NetworkAnnotator  # torch: a worker needs it, a plan does not

    return NetworkAnnotator.from_checkpoint(location, device, network)
