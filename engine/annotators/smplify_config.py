"""How the fitting annotators are told what to do; free of torch, because a plan needs it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.annotators.fitting.config import FitConfig
from engine.body.config import BodyConfig, PriorConfig
from engine.config import Config

SMPLIFY, EFT = "smplify", "eft"
"""Names of the annotators, in the place of a checkpoint's URL."""
ALL_LR, HEAD_LR = 5e-6, 3e-4
"""EFT's learning rate, for all weights of SPIN's network; and ours for a head alone, which would hardly move with it."""


class SmplifyConfig(Config):
    """SMPLify-style fitting: every person is fitted to their annotated 2D joints."""

    init: str | None = Field(
        default=None,
        description="URL of a training run or checkpoint whose prediction each fit starts from, with its body and prior; "
        "null: from the mean pose, several ways round, with `body` and `prior`",
    )
    body: BodyConfig = Field(default=BodyConfig(), description="body model that is fitted; not used with init")
    prior: PriorConfig = Field(
        default=PriorConfig(), description="pose prior whose latent is fitted; not used with init, unless that has none"
    )
    crop_hw: tuple[int, int] = Field(
        default=(256, 192), description="height and width of the crop whose virtual camera a fit without init is seen by, px"
    )
    fit: FitConfig = Field(default=FitConfig(), description="energy, stages and solver")


class EftConfig(Config):
    """EFT-style fine-tuning: a copy of the network for each person, tuned to their annotated 2D joints (Joo et al., 3DV 2021)."""

    base: str | None = Field(default=None, description="URL of the training run or checkpoint that is fine-tuned; must be given")
    trainable: Literal["head", "all"] = Field(
        default="head",
        description="head: the backbone's features are computed once and all else is tuned, many persons at a time; "
        "all: every weight but those of batch norms, one person at a time, as published",
    )
    iterations: int = Field(default=20, ge=1, description="steps a person, at most")
    lr: float | None = Field(
        default=None, gt=0, description=f"Adam's learning rate; null: {ALL_LR}, as published, for all, {HEAD_LR} for head"
    )
    enough: float = Field(
        default=1e-4,
        ge=0,
        description="a person whose 2D loss (squares of crop units, which go from -1 to 1) is below it is left as they are",
    )
    keypoints: float = Field(default=5.0, ge=0, description="weight of the 2D loss")
    betas: float = Field(default=0.001, ge=0, description="weight of the betas' mean square")
    shins: float = Field(default=0.005, ge=0, description="weight of the directions of the shins, which stand for the ankles")
    factor: float = Field(default=60.0, gt=0, description="of the whole loss")

    @property
    def learning_rate(self) -> float:
        """`lr`, or the one that goes with what is tuned."""
        return self.lr or (HEAD_LR if self.trainable == "head" else ALL_LR)
