"""What happens to a training crop at random: scale, rotation, flip, colour, shift.

Every draw is a pure function of a key that names the occurrence (seed, pass, dataset, sample, person), never of who asks
or when, so a resumed or resharded run sees the same crops. Defaults are Pose2Pose's; shift is ours and off by default.

Shapes: B instances of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from engine.config import Config
from engine.loading.counter_rng import normal, uniform


class AugmentConfig(Config):
    """Strengths of the training augmentation; 0 turns a kind off."""

    scale: float = Field(default=0.25, ge=0, lt=1, description="box is scaled by 1 + scale * clip(N(0,1), -1, 1); a fraction")
    rotation_deg: float = Field(default=30.0, ge=0, le=90, description="in-plane rotation by rotation_deg * clip(N(0,1), -2, 2), degrees")
    rotation_probability: float = Field(default=0.6, ge=0, le=1, description="share of crops that are rotated at all")
    flip_probability: float = Field(default=0.5, ge=0, le=1, description="share of crops that are mirrored")
    colour: float = Field(default=0.2, ge=0, lt=1, description="gain of each colour channel is drawn from U(1 - colour, 1 + colour)")
    shift: float = Field(default=0.0, ge=0, le=0.5, description="box centre moves by up to this fraction of the processed box, each way")

    @classmethod
    def off(cls) -> AugmentConfig:
        return cls(scale=0, rotation_deg=0, rotation_probability=0, flip_probability=0, colour=0, shift=0)


@dataclass(frozen=True)
class Augmentation:
    """The drawn changes of B crops.

    scale_B: factor on the box (above 1: the person gets smaller). rotation_B: radians; the crop's content turns by minus this angle
    (x right, y down). flip_B: mirrored before it is rotated. colour_B3: RGB gains. shift_B2: of the box centre, fractions of (w, h).
    """

    scale_B: np.ndarray
    rotation_B: np.ndarray
    flip_B: np.ndarray
    colour_B3: np.ndarray
    shift_B2: np.ndarray

    def __len__(self) -> int:
        return len(self.scale_B)

    @classmethod
    def identity(cls, batch: int) -> Augmentation:
        return cls(np.ones(batch), np.zeros(batch), np.zeros(batch, dtype=bool), np.ones((batch, 3)), np.zeros((batch, 2)))


def draw(config: AugmentConfig, keys_B: np.ndarray) -> Augmentation:
    """The augmentation that belongs to each 64-bit key. Source: Pose2Pose's preprocessing (scale, rotation, colour, flip)."""
    u = uniform(keys_B, 11)
    rotated_B = u[:, 2] < config.rotation_probability
    rotation_B = np.deg2rad(config.rotation_deg) * np.clip(normal(u[:, 3], u[:, 4]), -2, 2)
    return Augmentation(
        scale_B=1 + config.scale * np.clip(normal(u[:, 0], u[:, 1]), -1, 1),
        rotation_B=np.where(rotated_B, rotation_B, 0.0),
        flip_B=u[:, 5] < config.flip_probability,
        colour_B3=1 + config.colour * (2 * u[:, 6:9] - 1),
        shift_B2=config.shift * (2 * u[:, 9:11] - 1),
    )
