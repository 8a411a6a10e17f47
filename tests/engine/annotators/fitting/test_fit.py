"""Fits of many people at once: as good as one by one, the same whoever else is there, and finite whatever was seen."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.fitting import EQUAL, KINDS, LIMBS, People, first, people
from engine.annotators.fitting.config import FitConfig, Stage
from engine.annotators.fitting.fit import fit_persons
from engine.annotators.fitting.problem import Fitted, Observed, Start
from engine.annotators.fitting.reference import fit_one
from engine.body.cameras import project
from engine.body.config import BodyConfig
from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.smpl import Body, load_body
from engine.evaluation.metrics import pa_mpjpe
from schemas.skeletons import POSE2POSE33

COUNT = 32
CONFIG = FitConfig(slots=32)


@cache
def the_body() -> Body:
    return load_body(BodyConfig())


@cache
def the_prior() -> PosePrior:
    return load_prior(PriorConfig())


@cache
def group(kind: str) -> People:
    return people(the_body(), COUNT, kind)


@cache
def fits(kind: str) -> Fitted:
    return fit_persons(the_body(), the_prior(), group(kind).observed, CONFIG)


def rows(observed: Observed, index: list[int]) -> Observed:
    return Observed(observed.joints_NJ2[index], observed.weight_NJ[index], observed.focal, observed.princpt)


def pixels(fitted: Fitted, observed: Observed) -> Tensor:
    joints = the_body().joints(fitted.pose_N72, fitted.betas_N10) + fitted.transl_N3[:, None]
    return project(joints, observed.focal, observed.princpt)


def error_mm(kind: str) -> np.ndarray:
    joints = the_body().joints(fits(kind).pose_N72, fits(kind).betas_N10)[:, LIMBS]
    return pa_mpjpe(1e3 * joints.numpy(), 1e3 * group(kind).joints_NJ3[:, LIMBS].numpy())


def is_finite(fitted: Fitted) -> bool:
    return all(bool(getattr(fitted, field.name).isfinite().all()) for field in fields(Fitted))


@pytest.mark.parametrize("kind", KINDS[1:3])
def test_no_worse_than_one_by_one(kind: str) -> None:
    one = fit_one(the_body(), the_prior(), rows(group(kind).observed, [3]), CONFIG.stages[-1], camera_iterations=40, body_iterations=60)
    assert fits(kind).energy_N[3] <= EQUAL * one.energy_N[0]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_no_worse_than_adam(kind: str) -> None:
    adam = FitConfig(solver="adam", adam_iterations=50, slots=32)
    other = fit_persons(the_body(), the_prior(), rows(group(kind).observed, list(range(20))), adam)
    assert (fits(kind).energy_N[:20] <= EQUAL * other.energy_N).float().mean() >= 0.95
    assert fits(kind).energy_N[:20].mean() < other.energy_N.mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_worse_than_one_by_one_for_longer(kind: str) -> None:
    body, prior, stage, few = the_body(), the_prior(), CONFIG.stages[-1], 20
    ones = [fit_one(body, prior, rows(group(kind).observed, [n]), stage) for n in range(few)]
    total = torch.cat([fit.energy_N for fit in ones])
    assert (fits(kind).energy_N[:few] <= EQUAL * total).float().mean() >= 0.95
    assert fits(kind).energy_N[:few].mean() < total.mean()


def test_joints_without_noise_are_met() -> None:
    seen = people(the_body(), COUNT, KINDS[0], seed=1, noise_px=0.0).observed
    loose = (*CONFIG.stages, Stage(pose=0.5, shape=0.5, angle=0.1, depth=0.1))
    fitted = fit_persons(the_body(), the_prior(), seen, CONFIG.model_copy(update={"stages": loose}))
    error = (pixels(fitted, seen) - seen.joints_NJ2).norm(dim=-1).mean(1)
    assert error.median() < 0.6 and (error < 1).float().mean() >= 0.9


def test_wrong_joints_cost_little() -> None:
    assert np.median(error_mm(KINDS[3])) < 1.5 * np.median(error_mm(KINDS[0])) < 60


def test_truth_is_found_from_any_side() -> None:
    """Of people turned any way most are found, not their mirror images in depth; unseen legs are a guess, in front of the camera."""
    assert (error_mm(KINDS[0]) < 80).mean() >= 0.85
    assert (fits(KINDS[2]).transl_N3[:, 2] / group(KINDS[2]).truth.transl_N3[:, 2]).log().abs().median() < 0.1


def test_the_pose_is_the_priors() -> None:
    from scipy.spatial.transform import Rotation

    fitted = fits(KINDS[1])
    written = Rotation.from_rotvec(fitted.pose_N72[:, 3:66].reshape(-1, 3).numpy()).as_matrix()
    assert np.allclose(written, the_prior().decode(fitted.latent_N32).flatten(0, 1).numpy(), atol=1e-5)
    assert (fitted.pose_N72[:, 66:] == 0).all()
    assert all(getattr(fitted, field.name).dtype == torch.float32 for field in fields(Fitted)[:6])


def test_a_person_gives_the_same_bytes_in_any_company() -> None:
    observed, everyone = group(KINDS[1]).observed, fits(KINDS[1])
    for index, slots in (([17], 32), ([17, 3, 4, 25, 6], 32), (list(range(COUNT - 1, -1, -1)), 64)):
        some = fit_persons(the_body(), the_prior(), rows(observed, index), CONFIG.model_copy(update={"slots": slots}))
        for field in fields(Fitted):
            assert torch.equal(getattr(some, field.name), getattr(everyone, field.name)[index]), (field.name, index)


def test_the_same_person_twice_as_large_is_the_same_person() -> None:
    observed = rows(group(KINDS[0]).observed, [0, 1, 2, 3])
    larger = Observed(2 * observed.joints_NJ2, observed.weight_NJ, 2 * observed.focal, 2 * observed.princpt)
    fitted = fit_persons(the_body(), the_prior(), larger, CONFIG)
    assert torch.allclose(fitted.energy_N, fits(KINDS[0]).energy_N[:4], rtol=1e-2)


def test_a_mirrored_person_fits_about_as_well() -> None:
    observed = group(KINDS[0]).observed
    swap = list(POSE2POSE33.flip_permutation)
    mirrored = observed.joints_NJ2[:, swap].clone()
    mirrored[..., 0] = 2 * observed.princpt[0] - mirrored[..., 0]
    fitted = fit_persons(the_body(), the_prior(), replace(observed, joints_NJ2=mirrored), CONFIG)
    assert 0.8 < float((fitted.energy_N / fits(KINDS[0]).energy_N).median()) < 1.25


def test_fewer_joints_than_a_body_needs() -> None:
    """0, 1, 2, ... joints: finite, in front of the camera, near the prior, and what was seen is met."""
    observed = rows(group(KINDS[0]).observed, list(range(10)))
    weight = (torch.arange(33)[torch.randperm(33, generator=torch.Generator().manual_seed(0))] < torch.arange(10)[:, None]).float()
    observed = replace(observed, weight_NJ=weight)
    fitted = fit_persons(the_body(), the_prior(), observed, CONFIG)
    assert is_finite(fitted) and fitted.seen_N.tolist() == list(range(10))
    assert fitted.latent_N32.norm(dim=1).max() < 4 and fitted.betas_N10.abs().max() < 3
    assert ((fitted.transl_N3[:, 2] > 5) & (fitted.transl_N3[:, 2] < 200)).all()
    assert fitted.latent_N32[0].abs().max() < 0.2 and fitted.betas_N10[0].abs().max() < 1e-3
    assert ((pixels(fitted, observed) - observed.joints_NJ2).norm(dim=-1) * weight).max() < 5


def test_garbage_is_fitted_without_complaint() -> None:
    generator = torch.Generator().manual_seed(1)
    joints = 300 * torch.randn(12, 33, 2, generator=generator)
    joints[0] = torch.nan
    joints[1, ::2] = torch.inf
    joints[2] = 1e30
    joints[3] = 50  # all in one place
    joints[4, :, 0] = 50  # on a line
    joints[5] *= 10
    joints[6] = torch.tensor([96.0, 128.0])
    seen = group(KINDS[0]).observed
    joints[7] = seen.joints_NJ2[0].flip(-1)  # lying
    joints[8] = 1e-3 * seen.joints_NJ2[0]
    joints[9] = seen.joints_NJ2[0] * torch.tensor([1.0, -1.0])  # upside down
    for solver in ("lm", "adam"):
        config = FitConfig(solver=solver, adam_iterations=10)
        assert is_finite(fit_persons(the_body(), the_prior(), Observed(joints, torch.ones(12, 33), seen.focal, seen.princpt), config))
    nobody = fit_persons(the_body(), None, first(seen, 0), CONFIG)
    assert nobody.pose_N72.shape == (0, 72) and nobody.energy_N.shape == (0,)


def test_a_start_is_started_from() -> None:
    some = list(range(16))
    truth, observed = group(KINDS[2]).truth.rows(torch.tensor(some)), rows(group(KINDS[2]).observed, some)
    fitted = fit_persons(the_body(), the_prior(), observed, CONFIG, truth)
    assert (fitted.energy_N <= 1.05 * fits(KINDS[2]).energy_N[:16]).float().mean() > 0.8
    latent = the_prior().encode(the_prior().decode(torch.zeros(16, 32)))[0]
    spoiled = replace(truth, betas_N10=truth.betas_N10.clone(), transl_N3=truth.transl_N3.clone(), latent_N32=latent)
    spoiled.betas_N10[0, 0], spoiled.transl_N3[1, 2], spoiled.latent_N32[2] = torch.nan, -3.0, torch.nan
    assert is_finite(fit_persons(the_body(), the_prior(), observed, CONFIG, spoiled))
    with pytest.raises(ValueError, match="start: expected transl_N3"):
        fit_persons(the_body(), the_prior(), observed, CONFIG, Start(truth.pose_N72, truth.betas_N10, truth.transl_N3[:3]))
