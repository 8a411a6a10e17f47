"""HMR as SPIN trains it: pooled ResNet features, and a regressor that starts from the mean person and corrects it three times.

SPIN's fitting loop is left out: its place is taken by the pseudo-GT of a release. Only the last estimate is supervised; gradients pass
through all of them. The features are pooled over the whole map. SPIN's AvgPool2d(7) is the same for its 224x224 crops at stride
32, but it would read only a corner of a larger map and fail on a smaller one.

With ResNet-50 it has 26,977,501 parameters: 23,508,032 of the ResNet, and (2048 + 157) 1024 + 1024, 1024^2 + 1024 and 1024 157 + 157 of the
regressor, 157 being pose 144, betas 10 and camera 3. Shapes: B batch, C channels.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.models.estimator import Batch, Estimator, NetworkConfig, Parameters
from engine.models.iterative_regressor import MeanPerson, RegressorStep
from engine.models.spin_losses import TERMS, SpinLossConfig, spin_loss_terms
from engine.models.weak_perspective import SpinOutput, WeakPerspective
from schemas.crops import CropSpec

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HmrConfig(NetworkConfig):
    """HMR's iterative regressor with SPIN's losses. Crops are square."""

    name: Literal["hmr"] = Field(default="hmr", description="the kind of network")
    input_hw: tuple[int, int] = Field(default=(224, 224), description="crop height and width, pixels; a square")
    pixel_mean: tuple[float, float, float] = Field(default=IMAGENET_MEAN, description="subtracted from RGB/255; ImageNet's")
    pixel_std: tuple[float, float, float] = Field(default=IMAGENET_STD, description="divides RGB/255 less the mean; ImageNet's")
    iterations: int = Field(default=3, ge=1, description="corrections of the mean person")
    hidden: int = Field(default=1024, gt=0, description="units of the regressor's two hidden layers")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="share of hidden units dropped in training")
    losses: SpinLossConfig = Field(default_factory=SpinLossConfig, description="weights of SPIN's losses")

    @property
    def crop(self) -> CropSpec:
        return CropSpec(*self.input_hw, box_rule="spin")

    @model_validator(mode="after")
    def _square(self) -> Self:
        if self.input_hw[0] != self.input_hw[1]:
            raise ValueError(f"input_hw {self.input_hw}: expected a square, because the crop's box is one")
        return self


class Hmr(Estimator):
    """The network. It starts a fresh training from the average of the training poses: see `set_mean_parameters`."""

    config: HmrConfig
    terms = TERMS

    def __init__(self, config: HmrConfig, body: Body, prior: PosePrior | None = None) -> None:
        super().__init__(config, body, prior)
        self.mean = MeanPerson()
        self.regressor = RegressorStep(self.backbone.out_channels, config.hidden, config.dropout)
        self.camera = WeakPerspective(config.input_hw)

    @property
    def needs_mean_parameters(self) -> bool:
        return True

    def set_mean_parameters(self, rotmats_2433: np.ndarray, betas_10: np.ndarray) -> None:
        self.mean.set_average(rotmats_2433, betas_10)

    def forward(self, batch: Batch) -> SpinOutput:
        features_BCHW = self.features(batch["image"])
        with torch.autocast(features_BCHW.device.type, enabled=False):
            features_BC = features_BCHW.mean(dim=(2, 3))
            estimate = self.mean(len(features_BC))
            for _ in range(self.config.iterations):
                estimate = self.regressor(features_BC, estimate)
            return self.camera(self.body, estimate.rotmats_B2433, estimate.betas_B10, estimate.camera_B3)

    def loss_terms(self, output: SpinOutput, batch: Batch) -> dict[str, Tensor]:
        return spin_loss_terms(output, batch, self.config.losses, self.body)

    def loss_weights(self) -> dict[str, float]:
        return self.config.losses.weights()

    def parameters_of(self, output: SpinOutput) -> Parameters:
        return output.parameters()
