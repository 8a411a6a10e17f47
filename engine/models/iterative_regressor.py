"""The regressor that starts from the mean person and corrects it step by step (HMR, SPIN, PyMAF).

A step sees image features and the estimate so far and adds a correction to it. As in the authors' code there is no activation between
the linear layers, dropout is all that lies between them, and the three output layers start near zero, so that the first
estimates are close to the mean.

Shapes: B batch, C features. Pose is 24 x 6D, interleaved as in `engine.body.rotations`.
Source: Kanazawa et al., HMR (Section 3.2); Kolotouros et al., SPIN (Section 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.body.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix

POSE_DIM, BETAS_DIM, CAMERA_DIM = 144, 10, 3
MEAN_CAMERA = (0.9, 0.0, 0.0)
"""Scale and shift of the first estimate: the person fills nine tenths of the half crop, in its middle."""
OUTPUT_GAIN = 0.01
"""Gain of the output layers' Xavier-uniform start."""
UPRIGHT = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
"""Rotation by pi about x: SMPL's y-up rest pose upright before a y-down camera. The average root orientation would mean nothing."""


class Estimate(NamedTuple):
    """What the regressor says of B persons."""

    pose_B144: Tensor
    betas_B10: Tensor
    camera_B3: Tensor
    """(s, tx, ty) of a weak-perspective camera: see `engine.models.weak_perspective`."""

    @property
    def rotmats_B2433(self) -> Tensor:
        return rotation_6d_to_matrix(self.pose_B144.unflatten(-1, (24, 6)))


class MeanPerson(nn.Module):
    """The estimate that the iteration starts from. Buffers, so that a checkpoint carries it; the upright rest pose until `set_average`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pose", torch.empty(POSE_DIM))
        self.register_buffer("betas", torch.empty(BETAS_DIM))
        self.register_buffer("camera", torch.tensor(MEAN_CAMERA))
        self.set_average(np.tile(np.eye(3), (24, 1, 1)), np.zeros(BETAS_DIM))

    @torch.no_grad()
    def set_average(self, rotmats_2433: np.ndarray, betas_10: np.ndarray) -> None:
        """Start from these rotations (24, 3, 3) but for the root, which is upright, and betas (10,). ValueError if they are none."""
        rotmats = torch.tensor(np.asarray(rotmats_2433, np.float64))
        betas = torch.tensor(np.asarray(betas_10, np.float64))
        if rotmats.shape != (24, 3, 3) or betas.shape != (BETAS_DIM,) or not betas.isfinite().all():
            raise ValueError(f"mean person: expected rotations (24, 3, 3) and 10 betas, found {tuple(rotmats.shape)} and {betas.tolist()}")
        if not ((rotmats @ rotmats.mT - torch.eye(3)).abs().max() < 1e-4 and (torch.linalg.det(rotmats) > 0).all()):
            raise ValueError("mean person: expected rotation matrices, found matrices that are none")
        rotmats[0] = torch.tensor(UPRIGHT)
        self.pose.copy_(matrix_to_rotation_6d(rotmats).flatten())
        self.betas.copy_(betas)

    def forward(self, batch: int) -> Estimate:
        """The same estimate for a batch of persons."""
        return Estimate(*(mean.expand(batch, -1) for mean in (self.pose, self.betas, self.camera)))


class RegressorStep(nn.Module):
    """Features (B, C) and an estimate -> a better estimate. HMR applies one step several times, PyMAF a different one each time."""

    def __init__(self, feature_dim: int, hidden: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feature_dim + POSE_DIM + BETAS_DIM + CAMERA_DIM, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.pose = nn.Linear(hidden, POSE_DIM)
        self.betas = nn.Linear(hidden, BETAS_DIM)
        self.camera = nn.Linear(hidden, CAMERA_DIM)
        for output in (self.pose, self.betas, self.camera):
            nn.init.xavier_uniform_(output.weight, gain=OUTPUT_GAIN)

    def forward(self, features_BC: Tensor, estimate: Estimate) -> Estimate:
        hidden = self.dropout(self.fc1(torch.cat((features_BC, *estimate), dim=1)))
        hidden = self.dropout(self.fc2(hidden))
        outputs = (self.pose, self.betas, self.camera)
        return Estimate(*(value + output(hidden) for value, output in zip(estimate, outputs, strict=True)))
