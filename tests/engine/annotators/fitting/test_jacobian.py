"""Derivatives in closed form against autograd's, in float64: the open body and prior, a body with pose correctives, VPoser v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.annotators.fitting.camera import projection_rows
from engine.annotators.fitting.config import FitConfig
from engine.annotators.fitting.energy import energy, project, stage_table, stage_weights, terms
from engine.annotators.fitting.jacobian import linearise, normal_equations
from engine.annotators.fitting.levenberg import stepped
from engine.annotators.fitting.model import FitModel, Parameters
from engine.annotators.fitting.problem import Target
from engine.body.body_files import BodyArrays
from engine.body.config import BodyConfig
from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import Body, load_body
from schemas.skeletons import SMPL_PARENTS
from tests.engine.body.vposer_v2_layout import write_v2

ROWS, UNKNOWNS = 3, 48


def body_with_correctives() -> Body:
    """A body in SMPL's schema of random numbers, few vertices and large pose correctives."""
    rng = np.random.default_rng(0)
    v = 90
    weights, joints, seen = rng.random((v, 24)) ** 8, rng.random((24, v)), rng.random((33, v)) ** 4
    arrays = BodyArrays(
        v_template=rng.normal(0, 0.5, (v, 3)).astype(np.float32),
        shapedirs=rng.normal(0, 0.03, (v, 3, 10)).astype(np.float32),
        posedirs=rng.normal(0, 0.05, (v, 3, 207)).astype(np.float32),
        J_regressor=(joints / joints.sum(1, keepdims=True)).astype(np.float32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        f=rng.integers(0, v, (20, 3)),
        kintree_table=np.array([SMPL_PARENTS, range(24)]),
        regressors={"pose2pose33": (seen / seen.sum(1, keepdims=True)).astype(np.float32)},
    )
    return Body(BodyConfig(), "neutral", arrays)


def vposer_v2(tmp_path: Path) -> PosePrior:
    write_v2(tmp_path)
    return load_prior(PriorConfig(kind="vposer", vposer_dir=str(tmp_path)))


def drawn(seed: int = 0) -> tuple[Parameters, Target]:
    torch.manual_seed(seed)
    transl = torch.tensor([0.1, 0.2, 40.0]) + torch.randn(ROWS, 3)
    root = axis_angle_to_matrix(torch.randn(ROWS, 3).double())  # a rotation to the last digit
    parameters = (torch.randn(ROWS, 32), root, torch.randn(ROWS, 10), transl)
    target = Target(60 * torch.randn(ROWS, 33, 2).double(), torch.rand(ROWS, 33).double(), 1.1)
    return Parameters(*(value.double() for value in parameters)), target


@pytest.mark.parametrize("case", ["open", "correctives", "vposer v2"])
def test_derivatives_are_autograds(case: str, tmp_path: Path) -> None:
    body = body_with_correctives() if case == "correctives" else load_body(BodyConfig())
    model = FitModel(body, vposer_v2(tmp_path) if case == "vposer v2" else load_prior(PriorConfig()), torch.float64)
    at, target = drawn()
    assert (model.correctives_PX is not None) == (case == "correctives")

    def values(step: Tensor) -> Tensor:
        found = terms(model, stepped(model, at, step), target)
        return torch.cat((found.residual_BJ2.flatten(1), found.angle_BA), 1).sum(0)  # rows do not know of each other

    expected = torch.autograd.functional.jacobian(values, torch.zeros(ROWS, UNKNOWNS, dtype=torch.float64)).transpose(0, 1)
    found = linearise(model, at, target, torch.zeros(ROWS, 126, 32, dtype=torch.float64))
    assert torch.allclose(torch.cat((found.pixels_BIU, found.angle_BAU), 1), expected, rtol=1e-9, atol=1e-9)
    assert torch.allclose(found.terms.residual_BJ2, terms(model, at, target).residual_BJ2, atol=1e-9)


def test_the_gradient_is_that_of_the_robust_energy() -> None:
    model = FitModel(load_body(BodyConfig()), load_prior(PriorConfig()), torch.float64)
    at, target = drawn(1)
    weights = stage_weights(stage_table(FitConfig().stages, model), torch.tensor([0, 2, 3]))
    step = torch.zeros(ROWS, UNKNOWNS, dtype=torch.float64, requires_grad=True)
    total, _ = energy(terms(model, stepped(model, at, step), target), target.confidence_BJ, weights)
    (expected,) = torch.autograd.grad(total.sum(), step)
    _, gradient = normal_equations(
        linearise(model, at, target, torch.zeros(ROWS, 126, 32, dtype=torch.float64)), at, target.confidence_BJ, weights
    )
    assert torch.allclose(2 * gradient, expected, rtol=1e-8, atol=1e-8)


def test_a_decoder_jacobian_is_kept_where_it_is_not_fresh() -> None:
    model = FitModel(load_body(BodyConfig()), load_prior(PriorConfig()), torch.float64)
    at, target = drawn(2)
    decoder = torch.full((ROWS, 126, 32), 7.0, dtype=torch.float64)
    linearise(model, at, target, decoder, slice(1, 2))
    assert (decoder[[0, 2]] == 7).all() and (decoder[1] != 7).all()


def test_rays_are_the_projections_derivatives_and_end_before_the_camera() -> None:
    points = torch.tensor([[[0.3, -0.2, 12.0], [0.1, 0.4, 0.2]]], dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda p: project(p, 0.9), points)
    found = projection_rows(points, 0.9)
    for j in range(2):
        assert torch.allclose(found[0, j], expected[0, j, :, 0, j])
    assert found[0, 1, :, 2].abs().max() == 0  # nearer than the nearest: depth no longer matters
