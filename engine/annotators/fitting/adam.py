"""Batched Adam over the joints alone: every row has its own moments, so persons of a batch do not know of each other.

The depth moves as a logarithm and the root's rotation as a turn of the start's, so that one learning rate suits every unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.annotators.fitting.config import FitConfig
from engine.annotators.fitting.energy import energy, stage_table, stage_weights, terms
from engine.annotators.fitting.model import FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.body.rotations import axis_angle_to_matrix


def minimise_adam(model: FitModel, start: Parameters, target: Target, config: FitConfig) -> Parameters:
    """Parameters after `adam_iterations` steps."""
    shares = [stage.iterations for stage in config.stages]
    latent, betas = (value.clone().requires_grad_() for value in (start.latent_BZ, start.betas_BS))
    turn, move = (torch.zeros_like(start.transl_B3).requires_grad_() for _ in range(2))
    optimiser = torch.optim.Adam([latent, turn, betas, move], lr=config.adam_lr)
    table = stage_table(config.stages, model)
    for number in range(len(shares)):
        first, last = (config.adam_iterations * sum(shares[: number + k]) // sum(shares) for k in (0, 1))
        weights = stage_weights(table, torch.full((len(start),), number, device=model.device))
        for _ in range(first, last):
            optimiser.zero_grad()
            found = terms(model, moved(start, latent, turn, betas, move), target)
            energy(found, target.confidence_BJ, weights)[0].sum().backward()
            optimiser.step()
    with torch.no_grad():
        return moved(start, latent, turn, betas, move)


def moved(start: Parameters, latent_BZ: Tensor, turn_B3: Tensor, betas_BS: Tensor, move_B3: Tensor) -> Parameters:
    """Parameters of the unknowns Adam moves: turn_B3 (rad) and move_B3 (m, m, logarithm of the depth) are from the start."""
    shift, depth = move_B3[:, :2], start.transl_B3[:, 2:] * move_B3[:, 2:].exp()
    root = start.root_B33 @ axis_angle_to_matrix(turn_B3)
    return Parameters(latent_BZ, root, betas_BS, torch.cat((start.transl_B3[:, :2] + shift, depth), 1))
