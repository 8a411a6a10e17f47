"""The networks by name. `model.name` of a config says which one; without it, Pose2Pose."""

from __future__ import annotations

from typing import Any

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.errors import ConfigError
from engine.models.estimator import Network, NetworkConfig
from engine.models.estimators.hmr import Hmr, HmrConfig
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig
from engine.models.simple_baselines import SimpleBaselines, SimpleBaselinesConfig
from schemas.checkpoints import network_name

NETWORKS: dict[str, tuple[type[NetworkConfig], type[Network]]] = {
    "pose2pose": (Pose2PoseConfig, Pose2Pose),
    "hmr": (HmrConfig, Hmr),
    "simple_baselines": (SimpleBaselinesConfig, SimpleBaselines),
}


def config_type(values: dict[str, Any]) -> type[NetworkConfig]:
    """The config class of a network's dumped config. ConfigError for a name nobody knows."""
    name = network_name(values)
    if name not in NETWORKS:
        raise ConfigError(f"model.name {name!r}: no such network; there are {', '.join(NETWORKS)}")
    return NETWORKS[name][0]


def build(config: NetworkConfig, body: Body, prior: PosePrior | None = None) -> Network:
    """The network of a config, at its random start."""
    return NETWORKS[network_name(config)][1](config, body, prior)


def describe_terms(values: dict[str, Any]) -> dict[str, str]:
    """Each loss term of a network's dumped config, with what it compares."""
    losses = config_type(values).model_fields["losses"].annotation
    fields = losses.model_fields if isinstance(losses, type) else {}
    told = {name: field.description or "" for name, field in fields.items()}
    return {term: told.get(term, "told, not trained on") for term in NETWORKS[network_name(values)][1].terms}
