"""SMPLify as it is usually run against the same energy lowered for many people at once, side by side in one run.

People in poses drawn from anatomy, standing and turned any way, on crops 256x192, their 33 joints with 1 px of noise: all joints seen,
half of them, those above the hips, or all with three of them some 50 px off. The reference fits one after the other, through the whole
mesh, with SPIN's two stages of 100 steps of Adam; it is also run with the translation free and 500 steps in the second stage, for its
energy.
It fits the first people of every kind only, and its time is given per person; what is compared with it is compared on the same people.
One thread, and seconds of its CPU: on an idle machine the time it takes, on a busy one still the work it is.

Shapes: N persons, J = 33 joints.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from engine.annotators.fitting.config import FitConfig
from engine.annotators.fitting.fit import fit_persons
from engine.annotators.fitting.problem import Fitted, Observed, Start
from engine.annotators.fitting.reference import fit_one
from engine.body.cameras import project, virtual_camera
from engine.body.config import BodyConfig
from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.pose_sampling import sample_poses
from engine.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from engine.body.smpl import Body, load_body
from engine.evaluation.metrics import pa_mpjpe
from schemas.skeletons import POSE2POSE33

KINDS = ("all joints", "occluded", "truncated", "wrong joints")
PERSONS, REFERENCE_PERSONS = 512, 8
CROP_HW = (256, 192)
NOISE_PX, WRONG_PX = 1.0, 50.0
EQUAL = 1.01
"""Energies within one per cent are equal."""
LIMBS = list(range(POSE2POSE33.index("R_Wrist") + 1))


@dataclass(frozen=True)
class People:
    """What was seen of N persons, and the truth: `truth.transl_N3` is in metres, joints_NJ3 without it."""

    observed: Observed
    truth: Start
    joints_NJ3: Tensor


def people(body: Body, count: int, kind: str, seed: int = 0, noise_px: float = NOISE_PX) -> People:
    """Persons of one kind; the same seed gives the same people, whatever the kind."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((count, 72), np.float32)
    pose[:, 3:66] = sample_poses(count, rng)
    upright = axis_angle_to_matrix(torch.tensor([np.pi, 0, 0], dtype=torch.float32))
    yaw = torch.zeros(count, 3)
    yaw[:, 1] = torch.from_numpy(rng.uniform(-np.pi, np.pi, count))
    lean = torch.from_numpy(rng.normal(0, np.radians(10), (count, 3))).float()
    pose[:, :3] = matrix_to_axis_angle(axis_angle_to_matrix(lean) @ upright @ axis_angle_to_matrix(yaw)).numpy()
    pose_N72, betas = torch.from_numpy(pose), torch.from_numpy(rng.normal(0, 0.7, (count, 10))).float()
    focal, princpt = (torch.from_numpy(value) for value in virtual_camera(CROP_HW))
    low, high = (getattr(body(pose_N72, betas).vertices_BV3, name)(1) for name in ("amin", "amax"))
    depth = float(focal[0]) * 1.25 * ((high - low)[:, :2] / torch.tensor(CROP_HW[::-1])).amax(1)
    transl = torch.cat((-(low + high)[:, :2] / 2, depth[:, None]), 1)
    joints = body.joints(pose_N72, betas)
    xy = project(joints + transl[:, None], focal, princpt) + noise_px * torch.from_numpy(rng.standard_normal((count, 33, 2))).float()
    weight = torch.ones(count, 33)
    if kind == "occluded":
        weight = torch.from_numpy(rng.random((count, 33)) < 0.5).float()
    elif kind == "truncated":
        hips = [POSE2POSE33.index("L_Hip"), POSE2POSE33.index("R_Hip")]
        weight = (xy[..., 1] < xy[:, hips, 1].mean(1, keepdim=True) + 5).float()
    elif kind == "wrong joints":
        for row in range(count):
            xy[row, rng.choice(33, 3, replace=False)] += WRONG_PX * torch.from_numpy(rng.standard_normal((3, 2))).float()
    return People(Observed(xy, weight, focal, princpt), Start(pose_N72, betas, transl), joints)


def first(observed: Observed, count: int, begin: int = 0) -> Observed:
    """Some of the persons, from `begin` on."""
    rows = slice(begin, begin + count)
    return Observed(observed.joints_NJ2[rows], observed.weight_NJ[rows], observed.focal, observed.princpt)


def one_by_one(body: Body, prior: PosePrior, observed: Observed, **how: object) -> Fitted:
    """The reference's fits of all of `observed`, by the weights of the last stage."""
    stage = FitConfig().stages[-1]
    fits = [fit_one(body, prior, first(observed, 1, row), stage, **how) for row in range(len(observed))]
    return Fitted(*(torch.cat([getattr(fit, field.name) for fit in fits]) for field in fields(Fitted)))


def in_batches(body: Body, prior: PosePrior, observed: Observed, config: FitConfig, batch: int) -> Fitted:
    """`fit_persons` of all of `observed`, so many a call."""
    fits = [fit_persons(body, prior, first(observed, batch, begin), config) for begin in range(0, len(observed), batch)]
    return Fitted(*(torch.cat([getattr(fit, field.name) for fit in fits]) for field in fields(Fitted)))


def measure() -> list[dict]:
    """Rows of bench.json: persons a second, ours and the reference's, by kind of person; what was reached is in the name and printed."""
    torch.set_num_threads(1)
    body, prior = load_body(BodyConfig()), load_prior(PriorConfig())
    adam = FitConfig(solver="adam")
    ways = {f"Adam {steps}, batch 128": (adam.model_copy(update={"adam_iterations": steps}), 128) for steps in (100, 200, 400)}
    ways |= {f"LM, batch {batch}": (FitConfig(), batch) for batch in (64, 256, 512)}
    fit_persons(body, prior, first(people(body, 64, KINDS[0]).observed, 64), FitConfig())  # the first call is slower
    rows = []
    for kind in KINDS:
        group = people(body, PERSONS, kind)
        few = first(group.observed, REFERENCE_PERSONS)
        began = time.process_time()
        reference = one_by_one(body, prior, few)
        reference_s = (time.process_time() - began) / REFERENCE_PERSONS
        show(f"{kind}: reference", body, reference, group, reference, reference_s, reference_s)
        began = time.process_time()
        longer = one_by_one(body, prior, few, body_iterations=500, free_translation=True)
        longer_s = (time.process_time() - began) / REFERENCE_PERSONS
        show(f"{kind}: reference, 100+500, free", body, longer, group, reference, longer_s, reference_s)
        for name, (config, batch) in ways.items():
            persons = PERSONS if config.solver == "lm" else PERSONS // 4
            began = time.process_time()
            fitted = in_batches(body, prior, first(group.observed, persons), config, batch)
            ours_s = (time.process_time() - began) / persons
            show(f"{kind}: {name}", body, fitted, group, reference, ours_s, reference_s, longer)
            if config.solver == "lm":
                row = {"name": f"fit {kind}, {name}", "ours": 1 / ours_s, "reference": 1 / reference_s}
                rows.append(row | {"ratio": reference_s / ours_s, "unit": "persons a CPU second, 1 thread"})
    return rows


def show(
    name: str, body: Body, fitted: Fitted, group: People, reference: Fitted, ours_s: float, reference_s: float, longer: Fitted | None = None
) -> None:
    """One line: time, energies (on the reference's people too), persons no worse than the references, PA-MPJPE of the limbs."""
    joints = 1e3 * body.joints(fitted.pose_N72, fitted.betas_N10)[:, LIMBS].numpy()
    error_mm = pa_mpjpe(joints, 1e3 * group.joints_NJ3[: len(joints), LIMBS].numpy())
    same = fitted.energy_N[: len(reference.energy_N)]
    line = (
        f"{name:44s} {1e3 * ours_s:8.2f} ms a person, {reference_s / ours_s:6.1f} x; energy {fitted.energy_N.mean():7.1f} mean, "
        f"{fitted.energy_N.median():7.1f} median, {same.mean():7.1f} on the reference's people; "
        f"no worse than it {(same <= EQUAL * reference.energy_N).float().mean():5.1%}"
    )
    if longer is not None:
        line += f", than the long one {(same <= EQUAL * longer.energy_N).float().mean():5.1%}"
    print(line + f"; PA-MPJPE {np.mean(error_mm):5.1f} mean, {np.median(error_mm):5.1f} median", flush=True)
