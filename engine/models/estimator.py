"""What a network is to the rest of the engine: crops in, loss terms while training, SMPL parameters when asked.

Trainer, loader, annotator and evaluator know networks through this interface alone, so another one is one file beside this package's and
one line in `engine.models.registry`. Body model and pose prior are used by a network but are not part of it: not trained, not in
its state dict, always in eval mode (a VPoser left in train mode drops out during training).

Shapes: B batch, H and W of the crop. A batch holds what `engine.loading.targets.build_targets` makes, and `image`, uint8 RGB (B, 3, H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.config import Config
from engine.errors import ConfigError
from engine.models.backbone import ResNet
from engine.models.pretrained import BackboneReport, load_backbone
from schemas.crops import CropSpec

Batch = dict[str, Any]


class NetworkConfig(Config):
    """What every network has: a ResNet, a crop, pixel statistics. Each kind adds a `name` and its own fields and losses."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = Field(default="resnet50", description="depth of the ResNet")
    width: float = Field(default=1.0, gt=0, le=2, description="factor on the backbone's channel counts")
    output_stride: Literal[16, 32] = Field(default=32, description="pixels a cell of the feature map; 16 gives the last stage stride 1")
    input_hw: tuple[int, int] = Field(default=(256, 192), description="crop height and width, pixels")
    pixel_mean: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="subtracted from RGB/255; Pose2Pose uses none")
    pixel_std: tuple[float, float, float] = Field(default=(1.0, 1.0, 1.0), description="divides RGB/255 less the mean; Pose2Pose uses none")

    @property
    def crop(self) -> CropSpec:
        """The crop the network wants: `input_hw`, and Pose2Pose's box unless a kind has another."""
        return CropSpec(*self.input_hw)

    @property
    def needs_prior(self) -> bool:
        """Whether the network predicts a pose prior's latent."""
        return False


@dataclass(frozen=True)
class Parameters:
    """SMPL parameters of B crops, before the crop's virtual camera (`engine.body.cameras`): x right, y down, z forward."""

    pose_B72: Tensor
    """Axis-angle, radians, root first."""
    betas_B10: Tensor
    cam_transl_B3: Tensor
    """Added to the posed vertices, metres."""
    latent_B32: Tensor | None
    """The prior's latent; None of a network without one."""


class Network(nn.Module, ABC):
    """Something the trainer trains: a backbone, heads and losses. Subclasses build their heads after `super().__init__` and set `terms`.

    Under autocast only the backbone runs in low precision: `features` gives float32, and heads, body and projection stay in it.
    """

    terms: tuple[str, ...]
    """Names of the loss terms, in the order they are reported."""

    def __init__(self, config: NetworkConfig, body: Body, prior: PosePrior | None = None) -> None:
        super().__init__()
        if config.needs_prior and prior is None:
            raise ConfigError("model.head 'vposer' needs a pose prior: give one, or set model.head to '6d'")
        self.config = config
        self.backbone = ResNet(config.backbone, config.width, config.output_stride)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(1, 3, 1, 1))
        # A tuple, so that nn.Module does not see them as its own; _apply below still moves them between devices.
        self._fixed = (body, prior if config.needs_prior else None)
        for part in self._fixed:
            if part is not None:
                part.eval().requires_grad_(False)

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """The network's own output, for `loss_terms` and `parameters_of`. Reads `image`, and what else the network needs."""

    @abstractmethod
    def loss_terms(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """Every term of `terms` as a scalar, without its weight."""

    @abstractmethod
    def loss_weights(self) -> dict[str, float]:
        """The weight of every term."""

    def total_loss(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss: sum of the terms by their weights."""
        weights = self.loss_weights()
        return torch.stack([weights[name] * terms[name] for name in self.terms]).sum()

    def features(self, image_B3HW: Tensor) -> Tensor:
        """Backbone features (B, C, h, w), float32, of uint8 RGB crops."""
        image = image_B3HW.to(torch.float32, memory_format=torch.channels_last) / 255
        return self.backbone((image - self.pixel_mean) / self.pixel_std).float()

    @property
    def needs_mean_parameters(self) -> bool:
        """Whether a fresh training must call `set_mean_parameters` before its first step (and before weights are averaged)."""
        return False

    def set_mean_parameters(self, rotmats_2433: np.ndarray, betas_10: np.ndarray) -> None:
        """Take the average person of the training set as the start of the network's estimates; kept in its state dict.

        rotmats (24, 3, 3): the average rotation of every SMPL joint; betas (10,): the average shape. Does nothing in most networks.
        """

    def init_backbone(self, url: str) -> BackboneReport:
        """Start the backbone from a file of weights (recipe 2); see `load_backbone` for what it takes and refuses."""
        return load_backbone(self.backbone, url)

    @property
    def body(self) -> Body:
        return self._fixed[0]

    @property
    def prior(self) -> PosePrior | None:
        return self._fixed[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for part in self._fixed:
            if part is not None:
                part._apply(fn, recurse)
        return super()._apply(fn, recurse)


class Estimator(Network):
    """A network that says where a person's body is: f, and every g."""

    @abstractmethod
    def parameters_of(self, output: Any) -> Parameters:
        """SMPL parameters of an output."""
