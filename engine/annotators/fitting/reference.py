"""SMPLify as it is usually run: one person at a time, Adam, the whole mesh in every step. For benchmarks and checks, not for use.

After SPIN's (github.com/nkolot/SPIN, smplify/): the camera first, from the torso, with a strong pull to the first depth; then pose, shape
and root rotation with the translation held. The latent stands for the pose as in SMPLify-X, and the energy is energy.py's, on joints
regressed from the posed mesh. The person faces the way the order of shoulders and hips says, both ways where they hardly differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.annotators.fitting.adam import moved
from engine.annotators.fitting.config import Stage
from engine.annotators.fitting.energy import energy, project, stage_table, stage_weights, terms_of_joints
from engine.annotators.fitting.fit import as_fitted
from engine.annotators.fitting.model import SKELETON, FitModel, Parameters
from engine.annotators.fitting.problem import Fitted, Observed, as_target
from engine.annotators.fitting.starts import TORSO, mean_start
from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body

SIDE_VIEW = 0.3
"""Shoulders and hips this narrow, of the torso's height, could face either way."""
DEPTH_PULL = 100.0
"""Residual of a metre of depth in the camera stage (SPIN's)."""


def fit_one(
    body: Body,
    prior: PosePrior,
    observed: Observed,
    stage: Stage,
    camera_iterations: int = 100,
    body_iterations: int = 100,
    lr: float = 0.01,
    free_translation: bool = False,
) -> Fitted:
    """The fit of one person (N = 1), by the weights of one stage. `free_translation` lets the second stage move the camera too."""
    model = FitModel(body, prior)
    target = as_target(observed, len(SKELETON))
    if len(target) != 1:
        raise ValueError(f"reference: expected one person, found {len(target)}")
    weights = stage_weights(stage_table([stage], model), torch.zeros(1, dtype=torch.long))
    found = []
    for yaw in _yaws(target.joints_BJ2[0], target.confidence_BJ[0]):
        start = mean_start(model, target, torch.tensor([yaw]))
        latent, betas = (value.clone().requires_grad_() for value in (start.latent_BZ, start.betas_BS))
        turn, move = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
        torso = [joint for joint in TORSO if target.confidence_BJ[0, joint] > 0] or list(range(len(SKELETON)))

        def mesh_joints(at: Parameters) -> tuple[Tensor, Tensor]:
            rotmats = model.rotations(at.root_B33, prior.decode(at.latent_BZ))
            return body.regress(body(rotmats, at.betas_BS).vertices_BV3, SKELETON.name), rotmats

        def camera_loss(at: Parameters, first: Parameters = start, torso: list[int] = torso) -> Tensor:
            pixels = project(mesh_joints(at)[0] + at.transl_B3[:, None], target.aspect) - target.joints_BJ2
            pull = DEPTH_PULL * (at.transl_B3[:, 2] - first.transl_B3[:, 2])
            return (target.confidence_BJ[:, torso, None] * pixels[:, torso].square()).sum() + pull.square().sum()

        def body_loss(at: Parameters) -> Tensor:
            joints, rotmats = mesh_joints(at)
            return energy(terms_of_joints(model, joints, rotmats, at, target), target.confidence_BJ, weights)[0].sum()

        shape_and_pose = [latent, turn, betas, *([move] if free_translation else [])]
        for free, loss, steps in (([turn, move], camera_loss, camera_iterations), (shape_and_pose, body_loss, body_iterations)):
            optimiser = torch.optim.Adam(free, lr=lr)
            for _ in range(steps):
                optimiser.zero_grad()
                loss(moved(start, latent, turn, betas, move)).backward()
                optimiser.step()
        with torch.no_grad():
            end = moved(start, latent.detach(), turn, betas.detach(), move)
            joints, rotmats = mesh_joints(end)
            total, data = energy(terms_of_joints(model, joints, rotmats, end, target), target.confidence_BJ, weights)
            steps = torch.tensor([camera_iterations + body_iterations])
            found.append(as_fitted(model, end, total, data, steps, (target.confidence_BJ > 0).sum(1), slots=1))
    return min(found, key=lambda fit: float(fit.energy_N))


def _yaws(joints_J2: Tensor, confidence_J: Tensor) -> tuple[float, ...]:
    left_shoulder, right_shoulder, left_hip, right_hip = (joints_J2[joint] for joint in TORSO)
    seen = [bool(confidence_J[joint] > 0) for joint in TORSO]
    widths = [
        float(a[0] - b[0]) for a, b, both in ((left_shoulder, right_shoulder, all(seen[:2])), (left_hip, right_hip, all(seen[2:]))) if both
    ]
    heights = [
        float((a - b).norm())
        for a, b, both in ((left_shoulder, left_hip, seen[0] and seen[2]), (right_shoulder, right_hip, seen[1] and seen[3]))
        if both
    ]
    width = sum(widths)
    if not widths or (heights and abs(width) / len(widths) < SIDE_VIEW * sum(heights) / len(heights)):
        return 0.0, 180.0
    return (0.0,) if width > 0 else (180.0,)
