"""What a training run is: data, network, losses, schedule. One config for f and g; the jobs differ in their defaults.

The paper's three recipes are three fields: `itw_3d` (1: in-the-wild images with 3D truth), `backbone_init` (2: start from a 2D-pose
network) and `model.head: vposer` with the L2 weights (3: a pose prior's latent, kept small).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from engine.body.pose_prior import PriorConfig
from engine.body.smpl import BodyConfig
from engine.config import Config
from engine.loading.batches import LoadingConfig, SourceConfig
from engine.models.estimators.hmr import HmrConfig
from engine.models.estimators.pose2pose import Pose2PoseConfig
from engine.models.losses import LossConfig
from engine.models.simple_baselines import SimpleBaselinesConfig
from engine.releases.reference import parse_reference
from engine.releases.store import open_reference
from engine.storage import absolute
from schemas.checkpoints import network_name


class OptimConfig(Config):
    """Adam and its learning rate. The defaults are the paper's; small budgets do better with onecycle, a higher rate and the average."""

    lr: float = Field(default=1e-4, gt=0, description="peak learning rate")
    schedule: Literal["steps", "onecycle"] = Field(
        default="steps", description="'steps' divides by 10 at the milestones; 'onecycle' rises, then falls to 0 along a cosine"
    )
    milestones: tuple[int, ...] = Field(default=(11, 13), description="epochs, from 0, at which the rate is divided by 10 ('steps' only)")
    warmup_steps: int = Field(default=0, ge=0, description="linear rise from 0, optimiser steps; both schedules")
    grad_clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient; null leaves it alone")
    ema_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="moving average of the weights, which then is what is used; 0.999 helps short runs; null uses the last weights",
    )


_Hmr = Annotated[HmrConfig, Tag("hmr")]
NetworkChoice = Annotated[
    Annotated[Pose2PoseConfig, Tag("pose2pose")] | _Hmr | Annotated[SimpleBaselinesConfig, Tag("simple_baselines")],
    Discriminator(network_name),
]
"""Any network."""


class TrainConfig(Config):
    """A training run. What decides the weights is the run's identity; how and where it runs may change between two submits."""

    out: str = Field(description="URL of the run directory")
    role: Literal["annotator", "estimator", "pose2d"] = Field(description="f, g or a 2D-pose network; recorded in the checkpoint")
    loading: LoadingConfig = Field(description="training data, augmentation and global batch size")
    itw_3d: tuple[SourceConfig, ...] = Field(
        default=(), description="recipe 1: in-the-wild sources with 3D truth (3DPW), added to the half itw_3d_half; empty is without"
    )
    itw_3d_half: Literal["itw", "mocap"] = Field(
        default="itw",
        description="the half of a batch that itw_3d joins; not published: the paper counts 3DPW as in the wild, the authors' code has one "
        "list of 3D and one of 2D sets. Beside photographs, which are fewer than MoCap frames, its persons make more of a batch",
    )
    pseudo_gt: str | None = Field(
        default=None,
        description="what '{pseudo_gt}' in the sources' releases stands for, so that one name changes the pseudo-GT of all of them",
    )
    backbone_init: str | None = Field(default=None, description="recipe 2: URL of ResNet weights (2D pose, ImageNet); null is random")
    init_from: str | None = Field(
        default=None, description="URL of a run or checkpoint whose whole network this one starts from (fine-tuning); null starts afresh"
    )
    model: NetworkChoice = Field(
        default_factory=Pose2PoseConfig, description="the network and its losses; 'name' says which; Pose2Pose's head 'vposer' is recipe 3"
    )
    body: BodyConfig = Field(default_factory=BodyConfig, description="body model")
    prior: PriorConfig = Field(default_factory=PriorConfig, description="pose prior, used with head 'vposer'")
    optim: OptimConfig = Field(default_factory=OptimConfig, description="optimiser and schedule")
    epochs: int = Field(default=15, ge=1, description="passes over the data; the length of a run unless max_steps is given")
    max_steps: int | None = Field(default=None, ge=1, description="length of the run in optimiser steps; overrides epochs")
    seed: int = Field(default=0, ge=0, description="of the network's random start")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="of the backbone; 'auto' is bf16 where it is native")

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto' takes GPUs when the cluster has enough of them")
    num_workers: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        default=1,
        description="data-parallel workers; [least, most] takes as many as there is room for; each such number must divide the batch",
    )
    elastic_check_s: float = Field(default=60, gt=0, description="seconds between looks for room for more workers")
    micro_batch: int | None = Field(
        default=None,
        ge=2,
        description="most crops in one forward pass of a worker: its share of the batch is cut into equal parts whose gradients add up; "
        "null takes the share whole. Saves memory; batch norm then sees one part at a time, as it sees one worker's share",
    )
    cpus_per_worker: float = Field(default=1, ge=0, description="CPUs reserved for a worker")
    threads: int | None = Field(default=None, ge=1, description="torch threads a worker; null is cpus_per_worker")
    compile: bool = Field(default=False, description="torch.compile the backbone; pays on GPUs in long runs")
    checkpoint_every_steps: int = Field(default=1000, ge=1, description="steps between checkpoints")
    checkpoint_every_s: float | None = Field(
        default=900, gt=0, description="seconds after which the next row of the history brings a checkpoint as well; null is never"
    )
    keep_checkpoints: int = Field(default=3, ge=1, description="newest checkpoints kept")
    log_every_steps: int = Field(default=50, ge=1, description="steps averaged into one row of the history")
    progress_every_s: float = Field(default=10, ge=0, description="seconds between progress lines")
    max_failures: int = Field(default=3, ge=0, description="worker failures survived in one submit")

    @model_validator(mode="before")
    @classmethod
    def _name_pseudo_gt(cls, values: Any) -> Any:
        return _with_pseudo_gt(values, values.get("pseudo_gt")) if isinstance(values, dict) else values

    @field_validator("num_workers")
    @classmethod
    def _least_first(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"expected [least, most], found {list(value)}")
        return value

    @property
    def world_sizes(self) -> range:
        """Numbers of workers the run may have."""
        least, most = self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers, self.num_workers)
        return range(least, most + 1)

    def sources(self) -> LoadingConfig:
        """The loading config with recipe 1's sources in their half."""
        return self.loading.model_copy(update={self.itw_3d_half: (*getattr(self.loading, self.itw_3d_half), *self.itw_3d)})

    def identity(self) -> dict[str, Any]:
        """What decides the weights, as JSON values: a run directory belongs to one identity."""
        return identity_of(self.model_dump(mode="json"))


class Pose2dOptimConfig(OptimConfig):
    """OptimConfig with Simple Baselines' rate and milestones."""

    lr: float = Field(default=1e-3, gt=0, description="peak learning rate")
    milestones: tuple[int, ...] = Field(default=(90, 120), description="epochs, from 0, at which the rate is divided by 10 ('steps' only)")


class TrainAnnotatorConfig(TrainConfig):
    """f, with the paper's defaults: latent head, L2 1e-2, 15 epochs."""

    role: Literal["annotator"] = Field(default="annotator", description="f")


class TrainPose2dConfig(TrainConfig):
    """The 2D-pose network whose backbone starts f (recipe 2): Simple Baselines, with its published schedule."""

    role: Literal["pose2d"] = Field(default="pose2d", description="a 2D-pose network")
    model: SimpleBaselinesConfig = Field(default_factory=SimpleBaselinesConfig, description="the network and its loss")
    optim: Pose2dOptimConfig = Field(default_factory=Pose2dOptimConfig, description="optimiser and schedule")
    epochs: int = Field(default=140, ge=1, description="passes over the data; the length of a run unless max_steps is given")


class UnregularisedLossConfig(LossConfig):
    """LossConfig without regularisers."""

    latent_l2: float = Field(default=0.0, ge=0, description="mean square of the prior's latent")
    shape_l2: float = Field(default=0.0, ge=0, description="mean square of the betas")


class EstimatorPose2PoseConfig(Pose2PoseConfig):
    """Pose2PoseConfig with g's head."""

    head: Literal["vposer", "6d"] = Field(default="6d", description="body pose as 6D rotations (g) or as latent of the pose prior (f)")
    losses: UnregularisedLossConfig = Field(default_factory=UnregularisedLossConfig, description="weights of the terms")


EstimatorChoice = Annotated[Annotated[EstimatorPose2PoseConfig, Tag("pose2pose")] | _Hmr, Discriminator(network_name)]
"""Any network, with the defaults of a g."""


class EstimatorOptimConfig(OptimConfig):
    """OptimConfig with Pose2Pose's milestones."""

    milestones: tuple[int, ...] = Field(default=(4, 6), description="epochs, from 0, at which the rate is divided by 10 ('steps' only)")


class TrainEstimatorConfig(TrainConfig):
    """g, with Pose2Pose's defaults: 6D head, no regulariser, 7 epochs."""

    role: Literal["estimator"] = Field(default="estimator", description="g")
    model: EstimatorChoice = Field(default_factory=EstimatorPose2PoseConfig, description="the network and its losses; 'name' says which")
    optim: EstimatorOptimConfig = Field(default_factory=EstimatorOptimConfig, description="optimiser and schedule")
    epochs: int = Field(default=7, ge=1, description="passes over the data; the length of a run unless max_steps is given")


def _with_pseudo_gt(values: Any, name: str | None, key: str = "") -> Any:
    """The values with '{pseudo_gt}' replaced in every release. ValueError where one wants a name and there is none."""
    if isinstance(values, dict):
        return {k: _with_pseudo_gt(value, name, k) for k, value in values.items()}
    if isinstance(values, list | tuple):
        return [_with_pseudo_gt(value, name) for value in values]
    if not (isinstance(values, str) and key == "release" and "{pseudo_gt}" in values):
        return values
    if name is None:
        raise ValueError(f"release {values!r} wants a name: set pseudo_gt, e.g. --pseudo_gt=ours")
    return values.replace("{pseudo_gt}", name)


def identity_of(values: dict[str, Any]) -> dict[str, Any]:
    """`TrainConfig.identity` of a dumped config."""
    kept = {key: value for key, value in values.items() if key not in RUNTIME_FIELDS}
    return kept | {"loading": {key: value for key, value in values["loading"].items() if key not in LOADING_RUNTIME_FIELDS}}


def recorded_identity(role: str, values: dict[str, Any], trained_on: Mapping[str, str]) -> dict[str, Any]:
    """The identity of the settled config that a checkpoint's manifest holds: `values`, and `trained_on`, its training sets.

    Keys younger than the manifest have their defaults. A config that is not one of this version is its own identity, like no other.
    """
    kinds = {"annotator": TrainAnnotatorConfig, "estimator": TrainEstimatorConfig, "pose2d": TrainPose2dConfig}
    try:
        return settled(kinds[role].model_validate(values), trained_on).identity()
    except ValidationError:
        return values


def settled(config: TrainConfig, trained_on: Mapping[str, str]) -> TrainConfig:
    """The config with nothing left open that workers or restarts could read in different ways: absolute paths, releases' versions."""
    return with_release_versions(with_absolute_paths(config), trained_on)


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The config with every local path made absolute: Ray Train's workers have a working directory of their own."""

    def resolved(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: resolved(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [resolved(v) for v in value]
        if isinstance(value, str) and key == "release":
            reference = parse_reference(value)
            return str(replace(reference, root=absolute(reference.root)))
        return absolute(value) if isinstance(value, str) and key in PATH_FIELDS else value

    return type(config).model_validate(resolved(config.model_dump(mode="json")))


def with_release_versions(config: TrainConfig, trained_on: Mapping[str, str]) -> TrainConfig:
    """The config with every release at a version, once for all workers and restarts: HEAD and tags may move.

    A run that has begun keeps to the version among `trained_on` (a manifest's training sets); a new one takes what the name means now.
    """

    def pinned(source: SourceConfig) -> SourceConfig:
        if source.release is None:
            return source
        reference = parse_reference(source.release)
        if reference.version is None:
            known = re.compile(rf"release/{re.escape(reference.name)}/v(\d+)(@.*)?")
            versions = {int(match[1]) for name in trained_on if (match := known.fullmatch(name))}
            if len(versions) != 1:
                versions = {open_reference(reference).manifest.version}
            reference = replace(reference, version=versions.pop(), tag=None)
        return source.model_copy(update={"release": str(reference)})

    halves = {half: tuple(map(pinned, getattr(config.loading, half))) for half in ("mocap", "itw")}
    return config.model_copy(update={"loading": config.loading.model_copy(update=halves), "itw_3d": tuple(map(pinned, config.itw_3d))})


PATH_FIELDS = {"out", "url", "cache_dir", "backbone_init", "init_from", "smpl_dir", "h36m_regressor", "vposer_dir"}
"""Fields of TrainConfig, at any depth, that hold a path or URL."""
RUNTIME_FIELDS = {
    "out",
    "device",
    "num_workers",
    "elastic_check_s",
    "micro_batch",
    "cpus_per_worker",
    "threads",
    "compile",
    "checkpoint_every_steps",
    "checkpoint_every_s",
    "keep_checkpoints",
    "log_every_steps",
    "progress_every_s",
    "max_failures",
}
"""Fields of TrainConfig that may differ when a run is submitted again."""

LOADING_RUNTIME_FIELDS = {"cache_dir", "threads", "prefetch_batches", "cached_instances", "decoded_cache_mib"}
"""The same of LoadingConfig."""
