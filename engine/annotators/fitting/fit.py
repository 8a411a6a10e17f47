"""Fits a body to 2D joints, many persons at once: camera first, then pose and shape, by annealed weights.

Every person becomes one row, or one a way of facing where nobody says where to start; the best final energy is kept.

Shapes: N persons, B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.annotators.fitting.adam import minimise_adam
from engine.annotators.fitting.camera import place_camera
from engine.annotators.fitting.config import FitConfig, Stage
from engine.annotators.fitting.energy import energy, stage_weights, terms
from engine.annotators.fitting.levenberg import minimise_lm
from engine.annotators.fitting.model import SKELETON, FitModel, Parameters
from engine.annotators.fitting.problem import Fitted, Observed, Start, Target, as_target
from engine.annotators.fitting.starts import given_start, mean_start
from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.rotations import matrix_to_axis_angle
from engine.body.smpl import Body


def fit_persons(body: Body, prior: PosePrior | None, observed: Observed, config: FitConfig, start: Start | None = None) -> Fitted:
    """Fits of N persons, whatever was seen of them; the tensors' device decides where.

    prior None is the open prior. Bad numbers in `observed` are joints not seen. Without a joint the fit is the start, or the mean.
    Raises ValueError for wrong shapes alone.
    """
    prior = load_prior(PriorConfig()) if prior is None else prior
    device = observed.joints_NJ2.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        model = FitModel(body, prior, device=device)
        target = as_target(observed, len(SKELETON), model.dtype)
        if start is None:
            ways = len(config.yaws_deg)
            yaws = torch.tensor(config.yaws_deg, device=device).repeat(len(target))
            rows = target.rows(torch.arange(len(target), device=device).repeat_interleave(ways))
            first = place_camera(model, mean_start(model, rows, yaws), rows, config.camera_iterations)
        else:
            ways, rows = 1, target
            first = given_start(model, prior, start, target)
        found, iterations, kept = _minimise(model, first, rows, config, ways)
        total, data = final_energy(model, found, rows.rows(kept), config.stages[-1])
        if len(kept) != len(target):
            best = _best(total, ways)
            found, iterations, total, data = found.rows(best), iterations[best], total[best], data[best]
        return as_fitted(model, found, total, data, iterations, (target.confidence_BJ > 0).sum(1))


def final_energy(model: FitModel, found: Parameters, target: Target, stage: Stage) -> tuple[Tensor, Tensor]:
    """(energy (B,), 2D part (B,)) by the weights of a stage."""
    weights = stage_weights([stage], torch.zeros(len(found), dtype=torch.long, device=model.device), model.dtype)
    return energy(terms(model, found, target), target.confidence_BJ, weights)


def as_fitted(model: FitModel, found: Parameters, total: Tensor, data: Tensor, iterations: Tensor, seen: Tensor) -> Fitted:
    """Parameters as the field writes them."""
    rotmats = model.rotations(found.root_B33, model.decode(found.latent_BZ))
    pose = matrix_to_axis_angle(rotmats).flatten(1)
    return Fitted(*(v.float() for v in (pose, found.betas_BS, found.transl_B3, found.latent_BZ, total, data)), iterations, seen)


def _minimise(model: FitModel, first: Parameters, target: Target, config: FitConfig, ways: int) -> tuple[Parameters, Tensor, Tensor]:
    """(parameters, iterations, which rows they are of). Of a person's rows, Levenberg-Marquardt takes the best beyond the first stage."""
    everyone = torch.arange(len(target), device=model.device)
    if config.solver == "adam":
        with torch.enable_grad():
            return *minimise_adam(model, first, target, config), everyone
    if ways == 1 or len(config.stages) == 1:
        return *minimise_lm(model, first, target, config.stages, config.tolerance, config.slots), everyone
    early, early_steps = minimise_lm(model, first, target, config.stages[:1], config.tolerance, config.slots)
    best = _best(final_energy(model, early, target, config.stages[0])[0], ways)
    late, steps = minimise_lm(model, early.rows(best), target.rows(best), config.stages[1:], config.tolerance, config.slots)
    return late, early_steps[best] + steps, best


def _best(total_B: Tensor, ways: int) -> Tensor:
    """Row (N,) of the lowest energy of every person's `ways` rows."""
    rows = total_B.nan_to_num(torch.inf, torch.inf).view(-1, ways)
    return rows.argmin(1) + ways * torch.arange(len(rows), device=total_B.device)
