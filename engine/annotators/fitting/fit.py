"""Fits a body to 2D joints, many persons at once: camera first, then pose and shape, by annealed weights.

Every person becomes one row, or one a way of facing where nobody says where to start; the best one is kept. All that is computed is
computed for `slots` rows at a time, the last ones filled up: on the CPU products and vectorised functions of another size round otherwise,
and a person's bytes would depend on how many there are.

Shapes: N persons, B rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from engine.annotators.fitting.adam import minimise_adam
from engine.annotators.fitting.camera import place_camera
from engine.annotators.fitting.config import FitConfig, Stage
from engine.annotators.fitting.energy import energy, stage_table, stage_weights, terms
from engine.annotators.fitting.levenberg import minimise_lm
from engine.annotators.fitting.model import SKELETON, FitModel, Parameters
from engine.annotators.fitting.problem import Fitted, Observed, Start, Target, as_target
from engine.annotators.fitting.starts import given_start, mean_start
from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.rotations import matrix_to_axis_angle
from engine.body.smpl import Body


def fit_persons(body: Body, prior: PosePrior | None, observed: Observed, config: FitConfig, start: Start | None = None) -> Fitted:
    """Fits of N persons, whatever was seen of them; the tensors' device decides where.

    prior None is the open prior. Bad numbers in `observed` are joints not seen. Without a joint the fit is the prior's mean pose, standing
    in the crop. Translation is free in every stage (SPIN and SMPLify-X hold it after the first). A person's numbers do not depend on who
    else is fitted. Raises ValueError for wrong shapes and cameras alone.
    """
    prior = load_prior(PriorConfig()) if prior is None else prior
    device = observed.joints_NJ2.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        model = FitModel(body, prior, device=device)
        target = as_target(observed, len(SKELETON), model.dtype)
        if start is None:
            ways = len(config.yaws_deg)
            yaws = torch.tensor(config.yaws_deg, device=device, dtype=model.dtype).repeat(len(target))
            rows = target.rows(torch.arange(len(target), device=device).repeat_interleave(ways))
        else:
            ways, rows = 1, target
            start.check(len(target), model.latent_dim)

        def begin(index: Tensor) -> tuple[Tensor, ...]:
            there = rows.rows(index)
            if start is not None:
                return _tensors(given_start(model, prior, start.rows(index), there))
            return _tensors(place_camera(model, mean_start(model, there, yaws[index]), there, config.camera_iterations))

        first = Parameters(*_by_slots(begin, len(rows), config.slots, device))
        found, iterations, kept = _minimise(model, first, rows, config, ways)
        total, data = final_energy(model, found, rows.rows(kept), config.stages[-1], config.slots)
        if len(kept) != len(target):
            best = _best(total, ways)
            found, iterations, total, data = found.rows(best), iterations[best], total[best], data[best]
        return as_fitted(model, found, total, data, iterations, (target.confidence_BJ > 0).sum(1), config.slots)


def final_energy(model: FitModel, found: Parameters, target: Target, stage: Stage, slots: int) -> tuple[Tensor, Tensor]:
    """(energy (B,), its 2D part (B,)) by the weights of a stage."""
    table = stage_table([stage], model)

    def of(index: Tensor) -> tuple[Tensor, ...]:
        there = target.rows(index)
        return energy(terms(model, found.rows(index), there), there.confidence_BJ, stage_weights(table, torch.zeros_like(index)))

    total, data = _by_slots(of, len(found), slots, model.device)
    return total, data


def as_fitted(
    model: FitModel, found: Parameters, total_B: Tensor, data_B: Tensor, iterations_B: Tensor, seen_B: Tensor, slots: int
) -> Fitted:
    """Parameters as the field writes them."""

    def of(index: Tensor) -> tuple[Tensor, ...]:
        rotmats = model.rotations(found.root_B33[index], model.decode(found.latent_BZ[index]))
        return (matrix_to_axis_angle(rotmats).flatten(1),)

    (pose,) = _by_slots(of, len(found), slots, model.device)
    values = (pose, found.betas_BS, found.transl_B3, found.latent_BZ, total_B, data_B)
    return Fitted(*(value.float() for value in values), iterations_B, seen_B)


def _minimise(model: FitModel, first: Parameters, target: Target, config: FitConfig, ways: int) -> tuple[Parameters, Tensor, Tensor]:
    """(parameters, iterations, which rows they are of). Of a person's rows, Levenberg-Marquardt takes the best beyond the first stage."""
    everyone, stages = torch.arange(len(target), device=model.device), config.stages
    if config.solver == "adam":

        def of(index: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                return _tensors(minimise_adam(model, first.rows(index), target.rows(index), config))

        steps = torch.full((len(target),), config.adam_iterations, device=model.device)
        return Parameters(*_by_slots(of, len(target), 4 * config.slots, model.device)), steps, everyone
    if ways == 1 or len(stages) == 1:
        return *minimise_lm(model, first, target, stages, config.tolerance, config.slots), everyone
    early, early_steps = minimise_lm(model, first, target, stages[:1], config.tolerance, config.slots)
    best = _best(final_energy(model, early, target, stages[0], config.slots)[0], ways)
    late, steps = minimise_lm(model, early.rows(best), target.rows(best), stages[1:], config.tolerance, config.slots)
    return late, early_steps[best] + steps, best


def _by_slots(of: Callable[[Tensor], tuple[Tensor, ...]], count: int, slots: int, device: torch.device) -> list[Tensor]:
    """Tensors that `of` gives for the rows of an index, so many at a time, put together; the last rows are repeated to fill up."""
    parts = [of(torch.arange(begin, begin + slots, device=device).clamp(max=count - 1)) for begin in range(0, count, slots)]
    parts = parts or [of(torch.arange(0, device=device))]
    return [torch.cat(columns)[:count] for columns in zip(*parts, strict=True)]


def _tensors(parameters: Parameters) -> tuple[Tensor, ...]:
    return tuple(getattr(parameters, field.name) for field in fields(parameters))


def _best(total_B: Tensor, ways: int) -> Tensor:
    """Row (N,) of the lowest energy of every person's `ways` rows."""
    rows = total_B.nan_to_num(torch.inf, torch.inf).unflatten(0, (len(total_B) // ways, ways))
    return rows.argmin(1) + ways * torch.arange(len(rows), device=total_B.device)
