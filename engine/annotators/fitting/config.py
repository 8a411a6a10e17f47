"""The settings of a fit, all in pixels of a crop 256 high."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config import Config


class Stage(Config):
    """The weights of one stage of annealing; the 2D term's own weight is 1 per px^2."""

    robust_px: float = Field(10.0, gt=0, description="scale of the Geman-McClure error, px: residuals far beyond it cost the same")
    pose: float = Field(40.0, ge=0, description="weight of the latent's squared norm, px^2")
    shape: float = Field(10.0, ge=0, description="weight of the betas' squared norm, px^2")
    angle: float = Field(4.0, ge=0, description="weight of the exponential that keeps elbows and knees from bending backwards, px^2")
    depth: float = Field(
        16.0, ge=0, description="weight of the squared logarithm of depth over the depth at which a standing person fills the crop, px^2"
    )
    iterations: int = Field(30, ge=1, description="at most so many steps of the solver in this stage")


class FitConfig(Config):
    """A fit of the body to 2D joints."""

    solver: Literal["lm", "adam"] = Field("lm", description="lm: batched Levenberg-Marquardt; adam: batched Adam, joints alone")
    stages: tuple[Stage, ...] = Field(
        (
            Stage(robust_px=100, pose=400, shape=100, angle=100, iterations=4),
            Stage(robust_px=50, pose=120, shape=25, angle=16, iterations=3),
            Stage(robust_px=20, pose=60, shape=25, angle=16, iterations=3),
            Stage(),
        ),
        min_length=1,
        description="annealing, one after the other; the last one's energy is the result's",
    )
    yaws_deg: tuple[float, ...] = Field(
        (0, 180), min_length=1, description="ways the person may face where no start is given; the best final energy is kept"
    )
    camera_iterations: int = Field(
        20, ge=0, description="steps of the first stage, in which only the root's rotation and the translation move"
    )
    adam_iterations: int = Field(200, ge=1, description="solver adam: steps over all stages, in proportion to theirs")
    adam_lr: float = Field(0.02, gt=0, description="solver adam: learning rate")
    tolerance: float = Field(
        1e-3, gt=0, description="solver lm: a stage ends when an accepted step lowers the energy by less than this share"
    )
    slots: int = Field(
        64,
        ge=32,
        multiple_of=32,
        description="rows worked on at a time: about 64 on a CPU, 1024 on a GPU; results do not depend on it beyond rounding",
    )
