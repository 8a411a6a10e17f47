"""Batched Levenberg-Marquardt: a damping, a stage of annealing and an end of its own for every row.

A number of slots is worked on at a time. A row that is done leaves its slot to the next in the queue, so no slot waits for the slowest;
when the queue is empty the slots become fewer. Their number is always a multiple of LEAST_SLOTS, and then a row gives the same bytes
whoever else is fitted (the tests hold it on the CPU). A step is taken if it lowers the true robust energy.

Half of a step's cost is the decoder's Jacobian, which changes slowly: each half of the slots gets a new one every other step, in turn, and
rows enter a half when it is its turn. That takes no more steps and ends at the same energies.

Shapes: N rows in the queue, B slots, U unknowns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.annotators.fitting.camera import MAX_TURN, moved_transl, solved
from engine.annotators.fitting.config import Stage
from engine.annotators.fitting.energy import Weights, energy, stage_table, stage_weights, terms
from engine.annotators.fitting.jacobian import linearise, normal_equations
from engine.annotators.fitting.model import FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.body.rotations import axis_angle_to_matrix

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-6, 1e6
EASE, TIGHTEN = 0.2, 5.0
LEAST_SLOTS = 16
"""Slots are halved for the last rows of a queue, down to this: products of fewer rows would round otherwise."""


def minimise_lm(
    model: FitModel, start: Parameters, target: Target, stages: Sequence[Stage], tolerance: float, slots: int
) -> tuple[Parameters, Tensor]:
    """(parameters where every stage has converged or run out of steps, steps taken (N,)). `slots` is even."""
    device, count = model.device, len(start)
    found, steps_N = start.rows(torch.arange(count, device=device)), torch.zeros(count, dtype=torch.long, device=device)
    if not count:
        return found, steps_N
    row, stage, step_of_stage, steps = (torch.zeros(slots, dtype=torch.long, device=device) for _ in range(4))
    active = torch.zeros(slots, dtype=torch.bool, device=device)
    now, seen = start.rows(row), target.rows(row)
    damping = torch.full((slots,), FIRST_DAMPING, dtype=model.dtype, device=device)
    decoder = torch.zeros(slots, len(model.biases[2]), model.latent_dim, dtype=model.dtype, device=device)
    caps = torch.tensor([stage.iterations for stage in stages], device=device)
    table, waiting, running, turn = stage_table(stages, model), 0, 0, 0
    while running or waiting < count:
        half = len(row) // 2
        if waiting == count and running <= half and half % LEAST_SLOTS == 0:
            kept = _fewer(active)
            if kept is not None:
                row, stage, step_of_stage, steps, active = (v[kept] for v in (row, stage, step_of_stage, steps, active))
                now, seen, damping, decoder, half = now.rows(kept), seen.rows(kept), damping[kept], decoder[kept], half // 2
        fresh = slice(turn % 2 * half, turn % 2 * half + half)
        turn += 1
        if waiting < count:
            free = (~active[fresh]).nonzero()[: count - waiting, 0] + fresh.start
            row[free] = torch.arange(waiting, waiting + len(free), device=device)
            now.put(free, start.rows(row[free]))
            seen.put(free, target.rows(row[free]))
            stage[free], step_of_stage[free], steps[free], damping[free], active[free] = 0, 0, 0, FIRST_DAMPING, True
            waiting, running = waiting + len(free), running + len(free)
        now, better, drop = _step(model, now, seen, stage_weights(table, stage), damping, decoder, fresh)
        damping = torch.where(better, damping * EASE, damping * TIGHTEN).clamp(min=LEAST_DAMPING)
        step_of_stage, steps = step_of_stage + 1, steps + 1
        ended = (better & (drop < tolerance)) | (damping > MOST_DAMPING) | (step_of_stage >= caps[stage])
        step_of_stage, damping = torch.where(ended, 0, step_of_stage), torch.where(ended, FIRST_DAMPING, damping)
        out = (active & ended & (stage == len(caps) - 1)).nonzero()[:, 0]
        stage = (stage + ended).clamp(max=len(caps) - 1)
        if len(out):
            found.put(row[out], now.rows(out))
            steps_N[row[out]] = steps[out]
            active[out] = False
            running -= len(out)
    return found, steps_N


def _fewer(active_B: Tensor) -> Tensor | None:
    """Slots (B / 2,) that hold all active rows, each in the half it is in, idle slots filling up; None where a half has too many."""
    halves = []
    for part, held in enumerate(active_B.view(2, -1)):
        order = torch.argsort(held.logical_not().int(), stable=True)[: len(held) // 2]
        if int(held.sum()) > len(order):
            return None
        halves.append(order + part * len(held))
    return torch.cat(halves)


def stepped(model: FitModel, now: Parameters, step_BU: Tensor) -> Parameters:
    """Parameters moved by a step in the unknowns."""
    latent, turn, betas, move = step_BU.split((model.latent_dim, 3, now.betas_BS.shape[1], 3), 1)
    turn = turn * (MAX_TURN / turn.norm(dim=1, keepdim=True).clamp(min=MAX_TURN))
    root = now.root_B33 @ axis_angle_to_matrix(turn)
    return Parameters(now.latent_BZ + latent, root, now.betas_BS + betas, moved_transl(now.transl_B3, move))


def _step(
    model: FitModel, now: Parameters, target: Target, weights: Weights, damping_B: Tensor, decoder_BNZ: Tensor, fresh: slice
) -> tuple[Parameters, Tensor, Tensor]:
    """(parameters after one step, whether it was taken (B,), the share by which it lowers the energy (B,))."""
    at = linearise(model, now, target, decoder_BNZ, fresh)
    before = energy(at.terms, target.confidence_BJ, weights)[0]
    tried = stepped(model, now, solved(*normal_equations(at, now, target.confidence_BJ, weights), damping_B))
    after = energy(terms(model, tried, target), target.confidence_BJ, weights)[0]
    better = after < before  # NaN is not
    return tried.where(better, now), better, (before - after) / before.clamp(min=1e-6)
